//! Keys of issuers of tokens, from the URLs that documents give: fetched here, once for all proxies, kept while they do not
//! answer, and on disk, so that a restart takes nobody's keys away.

pub mod book;
pub mod fetch;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    book::{Book, Kept},
    fetch::Fetcher,
};

/// Most fetches at the same time.
const FETCHES_AT_ONCE: usize = 8;
/// Longest pause between two looks at what is due.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Key sets by their URLs.
pub type KeySets = BTreeMap<Arc<str>, Arc<str>>;
/// URLs of key sets, and how long a fetch may take.
pub type Wanted = BTreeMap<Arc<str>, Duration>;

/// What is known of issuers' keys.
pub struct Keys {
    book: Book,
    file: PathBuf,
    fetcher: Fetcher,
    /// None before the first documents are compiled.
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    found: watch::Sender<Arc<KeySets>>,
}

/// The other side: says what is wanted, and sees what is found.
pub struct Desk {
    /// What is wanted.
    pub wanted: watch::Sender<Option<Arc<Wanted>>>,
    /// What is found.
    pub found: watch::Receiver<Arc<KeySets>>,
}

impl Keys {
    /// With what is kept in a file, if it can be read.
    pub fn open(file: PathBuf, hosts: BTreeSet<String>, now: SystemTime) -> (Self, Desk) {
        let kept = match load(&file) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "kept keys of issuers cannot be read; they are fetched");
                Vec::new()
            }
        };
        let book = Book::of(kept);
        let (wanted, want) = watch::channel(None);
        let (find, found) = watch::channel(Arc::new(book.in_force(now)));
        (Self { book, file, fetcher: Fetcher::new(hosts), wanted: want, found: find }, Desk { wanted, found })
    }

    /// Fetches what is wanted and due until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = SystemTime::now();
            let wanted = self.wanted.borrow_and_update().clone();
            match wanted {
                Some(wanted) => self.book.want(&wanted, now),
                // What is kept counts until it is known what is wanted.
                None => tokio::select! {
                    changed = self.wanted.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                    () = stop.cancelled() => return,
                },
            }
            let due = self.book.due(now);
            let fetcher = &self.fetcher;
            let fetches = stream::iter(due).map(async |(url, timeout)| {
                let found = fetcher.fetch(&url, timeout).await;
                (url, found)
            });
            let fetches = fetches.buffer_unordered(FETCHES_AT_ONCE).collect::<Vec<_>>();
            let answers = tokio::select! {
                answers = fetches => answers,
                () = stop.cancelled() => return,
            };
            let asked = !answers.is_empty();
            answers.into_iter().for_each(|(url, found)| self.take_in(&url, found));
            self.publish();
            if asked {
                self.save().await;
            }
            let pause = self.book.pause(SystemTime::now()).unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    fn take_in(&mut self, url: &Arc<str>, found: Result<String, String>) {
        let now = SystemTime::now();
        let outcome = match found {
            Ok(keys) => {
                self.book.succeed(url, keys.into(), now);
                "fetched"
            }
            Err(error) => {
                let kept = self.book.fail(url, now, &mut rand::rng());
                tracing::warn!(%url, %error, kept, "keys of an issuer cannot be fetched");
                "failed"
            }
        };
        metrics::counter!("weft_jwks_fetches_total", "outcome" => outcome).increment(1);
    }

    fn publish(&self) {
        let now = self.book.in_force(SystemTime::now());
        self.found.send_if_modified(|before| {
            let changed = **before != now;
            if changed {
                *before = Arc::new(now);
            }
            changed
        });
    }

    async fn save(&self) {
        let (file, kept) = (self.file.clone(), self.book.kept());
        let saved = tokio::task::spawn_blocking(move || store(&file, &kept)).await;
        let saved = saved.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = saved {
            tracing::warn!(%error, "keys of issuers cannot be kept; a restart has to fetch them");
        }
    }
}

fn load(file: &Path) -> io::Result<Vec<Kept>> {
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The old file stays until the new one is whole.
fn store(file: &Path, kept: &[Kept]) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut written = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    serde_json::to_writer(&mut written, kept)?;
    written.sync_all()?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests;
