//! The embedded store: one redb file. Every commit is one transaction with immediate durability; readers never touch the
//! file, they read the snapshot that the last commit left.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use prost::Message;
use redb::{Database, Durability, ReadableTable, TableDefinition};
use tokio::sync::watch;

use super::{
    Committed, DocumentKey, DocumentStore, Outcome, Snapshot, StoreError, StoredDocument, Write, plan,
};

/// `Kind/namespace/name` to an encoded [`Record`].
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
/// Numbers: `revision`, `format` and `reserved`, the first that is not set aside.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Layout of this file.
const FORMAT: u64 = 1;

/// What the file holds of a document.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(string, tag = "1")]
    yaml: String,
    #[prost(uint64, tag = "2")]
    version: u64,
    #[prost(string, tag = "3")]
    owner: String,
    #[prost(int64, tag = "4")]
    stored_at_seconds: i64,
    /// 0 in files of versions that did not keep it.
    #[prost(int64, tag = "5")]
    created_at_seconds: i64,
}

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its format is of a newer program.
    #[error("the document store has format {0}, newer than this program's {FORMAT}; run the newer weft")]
    Newer(u64),
    /// It holds what no version of this program wrote.
    #[error("the document store holds a damaged entry {0:?}; restore the file from a backup")]
    Damaged(String),
    /// The file or the disk.
    #[error("the document store cannot be opened: {0}")]
    File(String),
}

/// Documents in one file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
}

struct Shared {
    /// Held for a whole commit: commits are one after another anyway.
    database: Mutex<Database>,
    snapshot: ArcSwap<Snapshot>,
    revision: watch::Sender<u64>,
}

impl EmbeddedStore {
    /// Opens the file, and makes it (mode 0600) if it is not there. Blocks on the disk.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = |error: &dyn std::fmt::Display| OpenError::File(format!("{}: {error}", path.display()));
        private_file(path).map_err(|error| file(&error))?;
        let database = Database::create(path).map_err(|error| file(&error))?;
        let write = database.begin_write().map_err(|error| file(&error))?;
        let snapshot = {
            let mut numbers = write.open_table(NUMBERS).map_err(|error| file(&error))?;
            let format =
                numbers.get("format").map_err(|error| file(&error))?.map_or(FORMAT, |value| value.value());
            if format > FORMAT {
                return Err(OpenError::Newer(format));
            }
            numbers.insert("format", FORMAT).map_err(|error| file(&error))?;
            let revision =
                numbers.get("revision").map_err(|error| file(&error))?.map_or(0, |value| value.value());
            let table = write.open_table(DOCUMENTS).map_err(|error| file(&error))?;
            let mut snapshot = Snapshot { revision, ..Snapshot::default() };
            for entry in table.iter().map_err(|error| file(&error))? {
                let (key, value) = entry.map_err(|error| file(&error))?;
                let document = read(key.value(), value.value())?;
                snapshot.documents.insert(document.key.clone(), Arc::new(document));
            }
            snapshot
        };
        write.commit().map_err(|error| file(&error))?;
        let (revision, _) = watch::channel(snapshot.revision);
        let shared =
            Shared { database: Mutex::new(database), snapshot: ArcSwap::from_pointee(snapshot), revision };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl DocumentStore for EmbeddedStore {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Committed, StoreError>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            tokio::task::spawn_blocking(move || shared.commit(writes))
                .await
                .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
        })
    }

    fn reserve(&self, count: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let reserved = tokio::task::spawn_blocking(move || {
                let database = shared.database.lock().unwrap_or_else(PoisonError::into_inner);
                set_aside(&database, count).map_err(|error| error.to_string())
            });
            reserved.await.map_err(|error| error.to_string()).flatten().map_err(StoreError::Unavailable)
        })
    }
}

impl Shared {
    fn commit(&self, writes: Vec<Write>) -> Result<Committed, StoreError> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let keys: Vec<DocumentKey> = writes.iter().map(|write| key_of(write).clone()).collect();
        let (after, committed) = plan(&self.snapshot.load(), writes, i64::try_from(now).unwrap_or(i64::MAX))?;
        if committed.outcomes.iter().all(|(outcome, _)| *outcome == Outcome::Unchanged) {
            return Ok(committed);
        }
        write_down(&database, &after, &keys).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.snapshot.store(Arc::new(after));
        self.revision.send_replace(committed.revision);
        Ok(committed)
    }
}

/// Writes the documents named by `keys` as `after` has them.
fn write_down(database: &Database, after: &Snapshot, keys: &[DocumentKey]) -> Result<(), redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    {
        let mut table = write.open_table(DOCUMENTS)?;
        for key in keys {
            let name = key.to_string();
            match after.documents.get(key) {
                Some(document) => {
                    let record = Record {
                        yaml: document.yaml.to_string(),
                        version: document.version,
                        owner: document.owner.to_string(),
                        stored_at_seconds: document.stored_at_seconds,
                        created_at_seconds: document.created_at_seconds,
                    };
                    table.insert(name.as_str(), record.encode_to_vec().as_slice())?;
                }
                None => {
                    table.remove(name.as_str())?;
                }
            }
        }
        write.open_table(NUMBERS)?.insert("revision", after.revision)?;
    }
    write.commit()?;
    Ok(())
}

fn set_aside(database: &Database, count: u64) -> Result<u64, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    let first = {
        let mut numbers = write.open_table(NUMBERS)?;
        let first = numbers.get("reserved")?.map_or(1, |value| value.value());
        numbers.insert("reserved", first.saturating_add(count))?;
        first
    };
    write.commit()?;
    Ok(first)
}

fn key_of(write: &Write) -> &DocumentKey {
    match write {
        Write::Put { key, .. } | Write::Delete { key, .. } => key,
    }
}

fn read(key: &str, value: &[u8]) -> Result<StoredDocument, OpenError> {
    let damaged = || OpenError::Damaged(key.to_owned());
    let record = Record::decode(value).map_err(|_| damaged())?;
    Ok(StoredDocument {
        key: DocumentKey::parse(key).ok_or_else(damaged)?,
        yaml: record.yaml.into(),
        version: record.version,
        owner: record.owner.into(),
        stored_at_seconds: record.stored_at_seconds,
        created_at_seconds: match record.created_at_seconds {
            0 => record.stored_at_seconds,
            created => created,
        },
    })
}

/// Makes the file readable by its owner only before anything is in it.
fn private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests;
