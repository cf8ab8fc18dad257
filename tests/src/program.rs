//! Finding programs, running them with their output kept, and stopping exactly the process that was started.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Bytes of a log that are shown when a test fails.
const LOG_TAIL_BYTES: usize = 6_000;

/// First of the ports that the system gives to no client, and how many there are: Linux gives clients 32768 and above,
/// the mesh's own defaults are below.
const PORTS_FROM: u32 = 16_000;
const PORTS: u32 = 16_000;

/// Distance between the first ports of test programs with neighbouring process ids.
const PORTS_STRIDE: u32 = 997;

/// A running program. Killed on drop; its log is printed if the test is failing.
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a command with its output in `dir/name.log`.
    pub fn start(name: &str, dir: &Path, command: &mut Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("the log can be opened");
        let err = out.try_clone().expect("a file handle can be cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name} ({:?}): {error}", command.get_program()));
        Self { name: name.to_owned(), child, log }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it had so far (`VmHWM`), KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok());
        number.expect("Linux tells the memory of a process")
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops it as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM), without waiting.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal by its short name.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("/bin/sh").arg("-c").arg(format!("kill -{signal} {}", self.id())).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot signal {}", self.name);
    }

    /// Waits for its end and returns the exit code (none when a signal ended it).
    pub async fn ended(&mut self, limit: std::time::Duration) -> Option<i32> {
        let name = format!("end of {}", self.name);
        crate::wait::until(&name, limit, async || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status.code()),
            other => Err(format!("{other:?}")),
        })
        .await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.ceil_char_boundary(log.len().saturating_sub(LOG_TAIL_BYTES));
            eprintln!("---- end of the log of {} ----\n{}", self.name, &log[from..]);
        }
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

/// The `weft` program of this build, or the one that `WEFT_BIN` names.
pub fn weft() -> PathBuf {
    if let Some(given) = std::env::var_os("WEFT_BIN") {
        return given.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    let found = folder.expect("a program is in a folder").join("weft");
    assert!(
        found.exists(),
        "{} is missing: build it with `cargo build -p weft`, or run tests/run",
        found.display()
    );
    found
}

/// A peer that tests/peers/install fetched, or the machine's own.
pub fn peer(name: &str, cached: &str) -> Option<PathBuf> {
    let fetched = root().join(".cache/peers").join(cached);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).map(|folder| folder.join(name));
    let usual = ["/usr/sbin", "/usr/local/bin"].map(|folder| Path::new(folder).join(name));
    std::iter::once(fetched).chain(folders).chain(usual).find(|path| path.exists())
}

/// A port that is free now, for programs that cannot say which port they took. The system gives it to no client, so it
/// stays free until the program has it, also while a server that had it is away.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test programs that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(PORTS_STRIDE);
    loop {
        let port = PORTS_FROM + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = SocketAddr::from(([127, 0, 0, 1], port as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Several different free ports.
pub fn free_ports<const N: usize>() -> [SocketAddr; N] {
    std::array::from_fn(|_| free_port())
}
