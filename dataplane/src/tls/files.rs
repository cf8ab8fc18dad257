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
use tracing::warn;

use super::{
    provider,
    secret::{Authorities, Certificate, Revocations},
    store::{FileKey, Files, Loaded},
};
use crate::spec::Data;

/// How often files are looked at.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Where most hosts keep the authorities that they trust. A control plane that means these names this file; a host that
/// keeps them elsewhere is asked where.
const HOST_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What was read of the disk.
#[derive(Debug, Default)]
pub struct Disk {
    files: Files,
    complaints: BTreeMap<FileKey, String>,
}

impl Disk {
    /// What was loaded; of what cannot be read any more, the last good content.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Whether no file is wanted.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.complaints.is_empty()
    }

    /// Reads those of the wanted files that are not loaded, or all of them `again`, and forgets the others.
    pub async fn read(&mut self, wanted: BTreeSet<FileKey>, again: bool) {
        self.files.retain(|key, _| wanted.contains(key));
        self.complaints.retain(|key, _| wanted.contains(key));
        let keys: Vec<FileKey> =
            wanted.into_iter().filter(|key| again || !self.files.contains_key(key)).collect();
        if keys.is_empty() {
            return;
        }
        let load_all = move || keys.into_iter().map(|key| (load(&key), key)).collect::<Vec<_>>();
        let Ok(read) = tokio::task::spawn_blocking(load_all).await else { return };
        for (loaded, key) in read {
            match loaded {
                Ok(loaded) => {
                    self.complaints.remove(&key);
                    // What is equal stays the same allocation, by which contexts are compared.
                    if self.files.get(&key) != Some(&loaded) {
                        self.files.insert(key, loaded);
                    }
                }
                Err(problem) => {
                    if self.complaints.get(&key) != Some(&problem) {
                        warn!(?key, %problem, "cannot load TLS files; what was loaded before stays in use");
                    }
                    self.complaints.insert(key, problem);
                }
            }
        }
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
        FileKey::Authorities(path) if **path == *Path::new(HOST_AUTHORITIES) && !path.exists() => {
            load(&FileKey::SystemAuthorities)?
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
