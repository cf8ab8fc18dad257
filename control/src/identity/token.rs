//! Join tokens: a secret of 256 bits that is kept as its hash alone, and can be used once. Using one is a durable write
//! that removes it before anything is signed, so that of any number of uses at once one succeeds, and none after a crash.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message;
use redb::{Database, TableDefinition};
use sha2::{Digest, Sha256};
use weft_proto::spiffe::SpiffeId;

/// SHA-256 of the secret to an encoded [`Record`].
const TOKENS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tokens");
/// What tokens begin with, so that scanners find those that leak.
const PREFIX: &str = "weft1";
/// Life where nobody says.
pub const LIFE_DEFAULT: Duration = Duration::from_secs(3600);
/// Longest life.
pub const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most tokens that are not used yet.
pub const TOKENS_MAX: usize = 10_000;

/// What a token gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who its bearer becomes.
    pub id: SpiffeId,
    /// Until when.
    pub expires: SystemTime,
}

/// Why a token proves nothing. The bearer is not told which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was never made, or it was used.
    #[error("the token is not known, or was used already")]
    Unknown,
    /// It was not used in time.
    #[error("the token has expired")]
    Expired,
    /// The disk.
    #[error("join tokens cannot be read: {0}")]
    Store(String),
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(string, tag = "1")]
    id: String,
    /// Seconds of Unix time.
    #[prost(uint64, tag = "2")]
    expires: u64,
}

/// Tokens that were not used yet.
pub struct Tokens {
    /// Held for one write.
    database: Mutex<Database>,
}

impl Tokens {
    /// Opens the file, and makes it (mode 0600) if it is not there. Blocks on the disk.
    pub fn open(path: &Path) -> Result<Self, String> {
        use std::os::unix::fs::OpenOptionsExt;
        let text = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(path).map_err(|error| text(&error))?;
        let database = Database::create(path).map_err(|error| text(&error))?;
        Ok(Self { database: Mutex::new(database) })
    }

    /// Makes a token of `secret`; those that ended are forgotten. Blocks on the disk.
    pub fn create(&self, grant: &Grant, now: SystemTime, secret: [u8; 32]) -> Result<[u8; 32], String> {
        let record = Record { id: grant.id.to_string(), expires: seconds(grant.expires) }.encode_to_vec();
        let created = self.write(|table| {
            table.retain(|_, record| {
                Record::decode(record).is_ok_and(|record| record.expires > seconds(now))
            })?;
            let full = redb::ReadableTableMetadata::len(table)? >= TOKENS_MAX as u64;
            if !full {
                table.insert(hash(&secret).as_slice(), record.as_slice())?;
            }
            Ok(!full)
        });
        match created {
            Ok(true) => Ok(secret),
            Ok(false) => Err(format!("{TOKENS_MAX} tokens wait to be used already")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Uses a token, which is gone then. Blocks on the disk.
    pub fn consume(&self, secret: &[u8], now: SystemTime) -> Result<SpiffeId, TokenError> {
        let taken = self
            .write(|table| Ok(table.remove(hash(secret).as_slice())?.map(|record| record.value().to_vec())))
            .map_err(|error| TokenError::Store(error.to_string()))?;
        let record = taken.and_then(|bytes| Record::decode(bytes.as_slice()).ok());
        let record = record.ok_or(TokenError::Unknown)?;
        if record.expires <= seconds(now) {
            return Err(TokenError::Expired);
        }
        record.id.parse().map_err(|_| TokenError::Unknown)
    }

    /// One durable transaction.
    fn write<T>(
        &self,
        change: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let write = database.begin_write()?;
        let changed = change(&mut write.open_table(TOKENS)?)?;
        write.commit()?;
        Ok(changed)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("join tokens")
    }
}

/// A token as its bearer has it: its secret, and the hash of the root by which to know the control plane.
pub fn text(secret: &[u8; 32], root: &[u8]) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    format!("{PREFIX}.{}.{}", encode(secret), encode(&hash(root)))
}

/// The secret of a token's text.
pub fn secret(text: &str) -> Option<Vec<u8>> {
    let (prefix, rest) = text.trim().split_once('.')?;
    let (secret, _) = rest.split_once('.')?;
    let secret = BASE64_URL_SAFE_NO_PAD.decode(secret).ok()?;
    (prefix == PREFIX && secret.len() == 32).then_some(secret)
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
