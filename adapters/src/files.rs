//! A watched directory of YAML files: the platform of those who have none, and of tests and demonstrations.
//!
//! Every `*.yaml` and `*.yml` file directly in the directory is read; names that begin with a dot are not. Each file is a
//! stream of documents:
//!
//! ```yaml
//! apiVersion: weft.dev/v1
//! kind: Service
//! metadata: {name: reviews, namespace: shop, labels: {team: books}}
//! spec:
//!   ports: [{name: http, number: 9080, protocol: http}]  # tcp (default), http, http2, grpc, tls
//!   aliases: [reviews.example.com]
//!   resolution: static                                    # or dns: addresses are host names
//!   endpoints:
//!   - address: 10.0.0.7        # IP address, host name (dns) or absolute path of a unix socket
//!     port: 8080               # or `ports: {http: 8080}`; the service's own number when neither is given
//!     id: reviews-1            # default: namespace/service/address:port
//!     weight: 10               # default 1
//!     health: healthy          # draining, unhealthy, unknown
//!     labels: {version: v2}
//!     locality: {region: eu, zone: a, subzone: rack1}      # or eu/a/rack1
//!     workload: reviews-v2
//!     identity: spiffe://cluster.local/ns/shop/sa/reviews
//!     network: ""
//!     mtls: true               # a mesh proxy is in front of it; default false
//! ---
//! apiVersion: weft.dev/v1
//! kind: Endpoint               # one endpoint on its own, for who writes a file for each
//! metadata: {name: reviews-2, namespace: shop}
//! spec: {service: reviews, address: 10.0.0.8, port: 8080, labels: {version: v1}}
//! ```
//!
//! Istio's `ServiceEntry` and `WorkloadEntry` are read as services and endpoints; a document of any other kind goes to the
//! control plane as it is. A file counts as a whole: one that does not parse keeps what it said last, and the source
//! says where the mistake is. A directory that is missing is an unanswered question, not an empty mesh.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::Watcher;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::assemble::assemble;
use self::parse::{Entry, parse};
pub use self::parse::{Place, Problem};
use crate::catalog::Item;
use crate::client::Sink;
use crate::description::{Condition, Description};
use crate::metrics::Metrics;
use crate::report::{Report, Trouble};
use crate::settings::FilesSettings;
use crate::source::{Source, SourceError};

mod assemble;
mod format;
mod parse;

/// Largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most files that are read from one directory.
pub const FILES_MAX: usize = 10_000;
/// Editors write in several steps: this long after the first sign of a change the directory is read.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The net under notifications, which some file systems do not give.
const POLL_EVERY: Duration = Duration::from_secs(30);
/// While the directory cannot be watched or read, it is looked for this often.
const POLL_MISSING_EVERY: Duration = Duration::from_secs(1);
/// Most problems named in a condition; the log names all.
const PROBLEMS_TOLD_MAX: usize = 3;

/// The source that watches a directory.
#[derive(Debug)]
pub struct Files {
    settings: FilesSettings,
    metrics: Metrics,
    memory: Memory,
}

impl Files {
    /// A source for the directory that the settings name.
    pub fn new(settings: FilesSettings, metrics: Metrics) -> Self {
        Files { settings, metrics, memory: Memory::default() }
    }

    /// Who a source with these settings is.
    pub fn description(settings: &FilesSettings) -> Description {
        Description {
            source: settings.source.clone(),
            platform: "files",
            cluster: settings.cluster.clone(),
            region: settings.region.clone(),
        }
    }

    async fn read(&mut self, sink: &Sink) -> bool {
        let directory = self.settings.directory.clone();
        let scanned = tokio::task::spawn_blocking(move || scan(&directory)).await;
        let scanned = scanned.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        let files = match scanned {
            Ok(files) => files,
            Err(error) => {
                self.metrics.error();
                let directory = self.settings.directory.display();
                sink.condition(Condition::Stale(format!("{directory}: {error}; what it said last stays")));
                return false;
            }
        };
        self.metrics.read();
        if let Some(view) = self.memory.update(files, &self.settings.trust_domain) {
            for problem in &view.problems {
                self.metrics.error();
                tracing::warn!(place = %problem.place, reason = problem.reason, "file not understood; its last good state stays");
            }
            sink.listing(view.items, &view.doubt);
        }
        sink.condition(self.memory.condition.clone());
        true
    }
}

impl Source for Files {
    fn describe(&self) -> Description {
        Files::description(&self.settings)
    }

    async fn run(mut self, sink: Sink, stop: CancellationToken) -> Result<(), SourceError> {
        let changed = Arc::new(Notify::new());
        let mut watcher = watcher(changed.clone())?;
        let mut watched = false;
        loop {
            // Watch first, then read: what changes in between is seen by the next turn.
            watched = watched
                || watcher.watch(&self.settings.directory, notify::RecursiveMode::NonRecursive).is_ok();
            let there = self.read(&sink).await;
            if !there && watched {
                // A directory that comes back is another one to the system.
                let _ = watcher.unwatch(&self.settings.directory);
                watched = false;
            }
            let poll = if there && watched { POLL_EVERY } else { POLL_MISSING_EVERY };
            tokio::select! {
                () = changed.notified() => tokio::time::sleep(DEBOUNCE).await,
                () = tokio::time::sleep(poll) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}

/// One look at the directory: what is in it, and what of that would be told.
pub fn check(settings: &FilesSettings, report: &mut Report) {
    let directory = settings.directory.display();
    let files = match scan(&settings.directory) {
        Ok(files) => files,
        Err(error) => {
            return report
                .bad(Trouble::Platform, format!("{directory}: {error}; name a directory that exists"));
        }
    };
    report.good(format!("{directory} is read: {} files", files.len()));
    let Some(view) = Memory::default().update(files, &settings.trust_domain) else { return };
    for problem in view.problems {
        report.bad(Trouble::Content, problem.to_string());
    }
    report.items = view.items;
}

fn watcher(changed: Arc<Notify>) -> Result<notify::RecommendedWatcher, SourceError> {
    let told = move |event: notify::Result<notify::Event>| {
        // Our own reading is no change.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            changed.notify_one();
        }
    };
    notify::recommended_watcher(told)
        .map_err(|error| SourceError::System { what: "cannot watch files", error: io::Error::other(error) })
}

/// One file as found: its path and its bytes, or why it could not be read.
type Found = (PathBuf, Result<Vec<u8>, String>);

fn scan(directory: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if hidden || !yaml {
            continue;
        }
        if found.len() == FILES_MAX {
            return Err(io::Error::other(format!("more than {FILES_MAX} files; split the directory")));
        }
        found.push((path.clone(), read_file(&path)));
    }
    found.sort();
    Ok(found)
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("is {size} bytes; at most {FILE_BYTES_MAX} are read, so split it"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

/// What the directory said last, file by file.
#[derive(Debug)]
struct Memory {
    files: BTreeMap<PathBuf, Remembered>,
    condition: Condition,
    read_before: bool,
}

#[derive(Debug, Default)]
struct Remembered {
    digest: Vec<u8>,
    /// What the file said when it was last understood; `None` if it never was.
    good: Option<Vec<Entry>>,
    problems: Vec<Problem>,
}

/// What all files say together.
#[derive(Debug)]
struct View {
    items: Vec<Item>,
    problems: Vec<Problem>,
    doubt: String,
}

impl Default for Memory {
    fn default() -> Self {
        Memory { files: BTreeMap::new(), condition: Condition::Live, read_before: false }
    }
}

impl Memory {
    /// Takes what was found; `None` when nothing changed.
    fn update(&mut self, found: Vec<Found>, trust_domain: &str) -> Option<View> {
        let before = self.files.len();
        let mut changed = !std::mem::replace(&mut self.read_before, true);
        let mut old = std::mem::take(&mut self.files);
        let mut kept = 0;
        for (path, content) in found {
            let remembered = old.remove(&path);
            kept += usize::from(remembered.is_some());
            let mut remembered = remembered.unwrap_or_default();
            changed |= remembered.learn(&path, content);
            self.files.insert(path, remembered);
        }
        if !changed && kept == before {
            return None;
        }
        let entries = self.files.values().filter_map(|file| file.good.as_ref()).flatten();
        let (items, joined) = assemble(entries, trust_domain);
        let problems: Vec<Problem> =
            self.files.values().flat_map(|file| file.problems.clone()).chain(joined).collect();
        let unknown = self.files.iter().find(|(_, file)| file.good.is_none());
        let doubt = unknown.map(|(path, _)| format!("{} was never understood", path.display()));
        self.condition = condition(&problems);
        Some(View { items, problems, doubt: doubt.unwrap_or_default() })
    }
}

impl Remembered {
    /// Takes a file's content and says whether it is other than before.
    fn learn(&mut self, path: &Path, content: Result<Vec<u8>, String>) -> bool {
        let digest = match &content {
            Ok(bytes) => Sha256::digest(bytes).to_vec(),
            Err(reason) => reason.as_bytes().to_vec(),
        };
        if self.digest == digest {
            return false;
        }
        self.digest = digest;
        let name = path.display().to_string();
        let text = content.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()));
        let parsed = text
            .map_err(|reason| {
                let place = Place { file: name.as_str().into(), line: 1, column: 1 };
                vec![Problem { place, reason }]
            })
            .and_then(|text| parse(&name, &text));
        match parsed {
            Ok(entries) => (self.good, self.problems) = (Some(entries), Vec::new()),
            Err(problems) => self.problems = problems,
        }
        true
    }
}

fn condition(problems: &[Problem]) -> Condition {
    if problems.is_empty() {
        return Condition::Live;
    }
    let told: Vec<String> = problems.iter().take(PROBLEMS_TOLD_MAX).map(Problem::to_string).collect();
    let more = problems.len().saturating_sub(PROBLEMS_TOLD_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Condition::Stale(told.join("; ") + &more)
}

#[cfg(test)]
mod tests;
