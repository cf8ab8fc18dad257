//! How an identity is got the first time: what a person wrote, checked.

use std::path::{Path, PathBuf};

use tonic::transport::Endpoint;

use super::{
    agent::{Settings, Token},
    connect::Dialer,
    pin::Pin,
};
use crate::tls::secret::Authorities;

/// What a person wrote.
#[derive(Clone, Default)]
pub struct RawJoining {
    /// State directory; the identity is kept below it. None is nowhere.
    pub data_dir: Option<PathBuf>,
    /// File with the join token.
    pub join_token_file: Option<PathBuf>,
    /// The join token itself, for where there is no file.
    pub join_token: Option<String>,
    /// A platform's token in place of a join token: `kubernetes:FILE`, `nomad:FILE` or `consul:FILE`.
    pub proof: Option<String>,
    /// PEM file with the root by which the control plane is known the first time; default the hash in the join token.
    pub control_ca_file: Option<PathBuf>,
}

/// What cannot be used: a field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct JoiningError {
    /// The field.
    pub field: &'static str,
    /// What is wrong.
    pub problem: String,
}

impl RawJoining {
    /// What an agent needs for these control planes; none where all are spoken to in plaintext. Reads the files.
    pub fn check(self, control_planes: &[Endpoint]) -> Result<Option<Settings>, JoiningError> {
        let secure: Vec<_> =
            control_planes.iter().filter(|plane| Dialer::is_secure(plane)).cloned().collect();
        if secure.is_empty() {
            return Ok(None);
        }
        if secure.len() < control_planes.len() {
            let problem = "some are plaintext and some https; what is authenticated must be all";
            return Err(bad("control", problem));
        }
        let join_token = join_token(self.join_token, self.join_token_file.as_deref())?;
        let proof = self.proof.map(|text| text.parse().map_err(|problem: String| bad("proof", problem)));
        let proof = proof.transpose()?;
        if proof.is_some() && join_token.is_some() {
            return Err(bad("proof", "a join token is given too; keep one"));
        }
        let pin = self.control_ca_file.as_deref().map(pin).transpose()?;
        let home = self.data_dir.map(|folder| folder.join("identity"));
        Ok(Some(Settings { control_planes: secure, join_token, proof, pin, home }))
    }
}

fn join_token(given: Option<String>, file: Option<&Path>) -> Result<Option<Token>, JoiningError> {
    let read = |file: &Path| {
        let read = std::fs::read_to_string(file);
        read.map_err(|error| bad("join_token_file", format!("{}: {error}", file.display())))
    };
    match (given, file) {
        (Some(_), Some(_)) => Err(bad("join_token", "join_token_file is given too; keep one")),
        (Some(text), None) => Ok(Some(Token(text))),
        (None, Some(file)) if file.exists() => Ok(Some(Token(read(file)?))),
        // One that joined already needs it no more.
        (None, _) => Ok(None),
    }
}

fn pin(file: &Path) -> Result<Pin, JoiningError> {
    let read = || {
        let pem = std::fs::read(file).map_err(|error| error.to_string())?;
        Authorities::parse(&pem).map_err(|error| error.to_string())
    };
    match read() {
        Ok(roots) => Ok(Pin::Roots(roots.into())),
        Err(problem) => Err(bad("control_ca_file", format!("{}: {problem}", file.display()))),
    }
}

fn bad(field: &'static str, problem: impl Into<String>) -> JoiningError {
    JoiningError { field, problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes(urls: &[&'static str]) -> Vec<Endpoint> {
        urls.iter().map(|url| Endpoint::from_static(url)).collect()
    }

    #[test]
    fn who_speaks_in_plaintext_alone_needs_no_identity() {
        let raw = RawJoining { join_token: Some("t".to_owned()), ..RawJoining::default() };
        assert!(raw.clone().check(&planes(&["http://127.0.0.1:1"])).unwrap().is_none());
        let found = raw.clone().check(&planes(&["https://a:1", "https://b:1"])).unwrap().unwrap();
        assert_eq!((found.control_planes.len(), found.join_token), (2, Some(Token("t".to_owned()))));
        let mixed = raw.check(&planes(&["https://a:1", "http://127.0.0.1:1"])).unwrap_err();
        assert_eq!(mixed.field, "control");
    }

    #[test]
    fn a_token_file_that_is_gone_was_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let raw = RawJoining { join_token_file: Some(file.clone()), ..RawJoining::default() };
        assert!(raw.clone().check(&planes(&["https://a:1"])).unwrap().unwrap().join_token.is_none());
        std::fs::write(&file, "weft1.a.b\n").unwrap();
        assert!(raw.clone().check(&planes(&["https://a:1"])).unwrap().unwrap().join_token.is_some());
        let both = RawJoining { join_token: Some("t".to_owned()), ..raw.clone() };
        assert_eq!(both.check(&planes(&["https://a:1"])).unwrap_err().field, "join_token");
        let proof = RawJoining { proof: Some("kubernetes:/t".to_owned()), ..raw.clone() };
        assert_eq!(proof.check(&planes(&["https://a:1"])).unwrap_err().field, "proof");
        let ca = RawJoining { control_ca_file: Some(file), ..RawJoining::default() };
        assert_eq!(ca.check(&planes(&["https://a:1"])).unwrap_err().field, "control_ca_file");
    }
}
