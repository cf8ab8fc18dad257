//! What stops a command, told in three lines (what, why, what to do), and the one map from causes to exit codes.

use std::{io::Write as _, process::ExitCode};

use tonic::{Code, Status};

/// How a command ends. Scripts rely on these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Yes, or done.
    Yes,
    /// It ran, and the answer is no: refused, differs, not in sync, unhealthy.
    No,
    /// Wrong usage or bad input.
    Usage,
    /// The control plane is unreachable, or time ran out.
    Unreachable,
    /// What was named does not exist.
    NotFound,
    /// The caller is not allowed to do it.
    NotAuthorised,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Yes => 0,
            Exit::No => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::NotFound => 4,
            Exit::NotAuthorised => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command could not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit code that it leads to.
    pub exit: Exit,
    /// What failed: "cannot reach the control plane at http://127.0.0.1:15014".
    pub what: String,
    /// Why: "connection refused".
    pub why: String,
    /// What to do: "start it with `weft control`, or name another one with --address".
    pub hint: String,
}

impl Failure {
    /// A failure told in its three lines.
    pub fn new(exit: Exit, what: impl Into<String>, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, what: what.into(), why: why.into(), hint: hint.into() }
    }

    /// Bad input from the caller.
    pub fn usage(what: impl Into<String>, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, why, hint)
    }

    /// A gRPC answer that is an error; `what` names the call in words.
    pub fn from_status(what: impl Into<String>, address: &str, status: &Status) -> Self {
        let (exit, hint) = answer(status.code());
        let mut why = status.message().to_owned();
        let mut source = std::error::Error::source(status);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !why.contains(&cause_text) {
                why = format!("{why}: {cause_text}");
            }
            source = cause.source();
        }
        let hint = hint.replace("ADDRESS", address);
        Self::new(exit, what, why, hint)
    }

    /// The three lines.
    pub fn lines(&self) -> String {
        let mut text = format!("error: {}\n", self.what);
        for (word, line) in [("  why: ", &self.why), ("  do:  ", &self.hint)] {
            if !line.is_empty() {
                text.push_str(word);
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    /// Prints the failure to stderr and gives the exit code.
    pub fn report(&self) -> ExitCode {
        // Nobody is left to tell when stderr is closed; the exit code still says it.
        let _ = std::io::stderr().write_all(self.lines().as_bytes());
        self.exit.into()
    }
}

/// What each gRPC code means to a person at a shell.
fn answer(code: Code) -> (Exit, &'static str) {
    match code {
        Code::Ok => (Exit::Yes, ""),
        Code::InvalidArgument | Code::OutOfRange => {
            (Exit::Usage, "correct the input; `weft validate` shows the place")
        }
        Code::NotFound => (Exit::NotFound, "list what exists with `weft get KIND -A`"),
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => {
            (Exit::No, "somebody else changed it; look with `weft get`, then try again")
        }
        Code::PermissionDenied | Code::Unauthenticated => {
            (Exit::NotAuthorised, "use an address and credentials that may do this")
        }
        Code::Unavailable => (
            Exit::Unreachable,
            "start it with `weft control`, or name another one with --address or WEFT_ADDR (now ADDRESS)",
        ),
        Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted => {
            (Exit::Unreachable, "try again; `weft status` shows what lags behind")
        }
        Code::Unimplemented => {
            (Exit::Unreachable, "ADDRESS does not speak weft.admin.v1 in this version; check --address")
        }
        Code::Unknown | Code::Internal | Code::DataLoss => {
            (Exit::Unreachable, "look into the log of the control plane at ADDRESS")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: Code, exit: u8) {
        let failure = Failure::from_status("cannot do it", "http://here", &Status::new(code, "because"));
        assert_eq!(failure.exit.code(), exit, "{code:?}");
        assert_eq!(failure.why, "because");
    }

    #[test]
    fn every_grpc_code_has_its_exit_code() {
        check(Code::InvalidArgument, 2);
        check(Code::OutOfRange, 2);
        check(Code::NotFound, 4);
        check(Code::AlreadyExists, 1);
        check(Code::Aborted, 1);
        check(Code::FailedPrecondition, 1);
        check(Code::PermissionDenied, 5);
        check(Code::Unauthenticated, 5);
        check(Code::Unavailable, 3);
        check(Code::DeadlineExceeded, 3);
        check(Code::Cancelled, 3);
        check(Code::ResourceExhausted, 3);
        check(Code::Unimplemented, 3);
        check(Code::Unknown, 3);
        check(Code::Internal, 3);
        check(Code::DataLoss, 3);
    }

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let failure = Failure::usage("cannot read routes.yaml", "no such file", "check the path given to -f");
        assert_eq!(
            failure.lines(),
            "error: cannot read routes.yaml\n  why: no such file\n  do:  check the path given to -f\n"
        );
    }

    #[test]
    fn the_hint_names_the_address_that_was_tried() {
        let failure = Failure::from_status("x", "http://10.0.0.1:15014", &Status::unavailable("refused"));
        assert!(failure.hint.contains("http://10.0.0.1:15014"), "{}", failure.hint);
    }
}
