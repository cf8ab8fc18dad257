//! Certificates, authorities and revocation lists on disk, read again as they change.
//!
//! Files are compared by content every few seconds: that also sees what no watch on a file does, a symbolic link somewhere
//! above it that is switched (as Kubernetes does) or a network file system. Half a change, a new certificate beside the old
//! key, does not parse and so does not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    provider,
    secret::{Authorities, Certificate, Revocations},
    store::{FileKey, Files, Loaded},
};
use crate::spec::Data;

/// How often files are looked at.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Keeps `files` as the disk has them, until stopped.
pub async fn run(
    mut wanted: watch::Receiver<BTreeSet<FileKey>>,
    files: watch::Sender<Arc<Files>>,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complaints = BTreeMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            _ = tick.tick() => {}
        }
        let keys = wanted.borrow_and_update().clone();
        if keys.is_empty() && files.borrow().is_empty() {
            continue;
        }
        let read = tokio::task::spawn_blocking(move || {
            keys.into_iter()
                .map(|key| (load(&key), key))
                .map(|(loaded, key)| (key, loaded))
                .collect::<Vec<_>>()
        });
        let Ok(read) = read.await else { continue };
        let mut next = Files::new();
        let mut failed = BTreeMap::new();
        for (key, loaded) in read {
            let before = files.borrow().get(&key).cloned();
            match loaded {
                Ok(loaded) => {
                    drop(next.insert(key, before.filter(|before| *before == loaded).unwrap_or(loaded)))
                }
                Err(problem) => {
                    if complaints.get(&key) != Some(&problem) {
                        warn!(?key, %problem, "cannot load TLS files; what was loaded before stays in use");
                    }
                    failed.insert(key.clone(), problem);
                    if let Some(before) = before {
                        next.insert(key, before);
                    }
                }
            }
        }
        complaints = failed;
        files.send_if_modified(|files| {
            let changed = **files != next;
            *files = Arc::new(next);
            changed
        });
    }
}

/// Reads and parses; an error says what to mend.
fn load(key: &FileKey) -> Result<Loaded, String> {
    let text = |error: super::secret::Invalid| error.to_string();
    Ok(match key {
        FileKey::Certificate { chain, key } => {
            let certificate = Certificate::parse(&data(chain)?, &data(key)?, provider()).map_err(text)?;
            Loaded::Certificate(Arc::new(certificate))
        }
        FileKey::Authorities(path) => {
            Loaded::Authorities(Arc::new(Authorities::parse(&read(path)?).map_err(text)?))
        }
        FileKey::Revocations(path) => {
            Loaded::Revocations(Arc::new(Revocations::parse(&read(path)?).map_err(text)?))
        }
        FileKey::SystemAuthorities => {
            let file = openssl_probe::probe().cert_file.ok_or("the host has no collection of authorities")?;
            let pem = read(&file)?;
            let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
            Loaded::Authorities(Arc::new(Authorities::usable(&found).map_err(text)?))
        }
    })
}

fn data(data: &Data) -> Result<Vec<u8>, String> {
    match data {
        Data::Inline(bytes) => Ok(bytes.to_vec()),
        Data::File(path) => read(path),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)? as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("larger than {FILE_BYTES_MAX} bytes"),
            ));
        }
        Ok(bytes)
    };
    read().map_err(|error| format!("{}: {error}", path.display()))
}
