//! The last good resources on disk, so that a proxy starts and serves while the control plane is away.
//!
//! The file is a magic word, a checksum and one encoded message with every resource; it is replaced as a whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use prost::Message;
use weft_proto::xds::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};

const MAGIC: &[u8; 8] = b"WEFTXDS1";
const HEAD: usize = 16;
/// Largest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The file within the state directory.
#[derive(Clone, Debug)]
pub struct Cache {
    path: PathBuf,
}

impl Cache {
    /// A cache in a directory, which is created when it is missing.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { path: directory.join("xds.cache") })
    }

    /// What was saved last; nothing when there is no file. A damaged file is an error.
    pub fn load(&self) -> io::Result<Vec<Resource>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "damaged; it is not used");
        let body = bytes.get(HEAD..).ok_or_else(damaged)?;
        if &bytes[..8] != MAGIC || bytes[8..HEAD] != checksum(body).to_le_bytes() {
            return Err(damaged());
        }
        DeltaDiscoveryResponse::decode(body).map(|saved| saved.resources).map_err(|_| damaged())
    }

    /// Replaces what is saved: all or nothing, also when the machine stops half way.
    pub fn save(&self, resources: Vec<Resource>) -> io::Result<()> {
        let body = DeltaDiscoveryResponse { resources, ..Default::default() }.encode_to_vec();
        let fresh = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(MAGIC)?;
        file.write_all(&checksum(&body).to_le_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        // The rename itself is durable only once the directory is.
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// FNV-1a: against torn and bit-rotten files, not against an attacker, who could write the checksum as well.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> Vec<Resource> {
        vec![Resource { name: "a".into(), version: "7".into(), ..Default::default() }]
    }

    #[test]
    fn what_is_saved_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        assert!(cache.load().unwrap().is_empty());
        cache.save(resources()).unwrap();
        assert_eq!(cache.load().unwrap(), resources());
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        cache.save(resources()).unwrap();
        let mut bytes = fs::read(&cache.path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&cache.path, bytes).unwrap();
        assert!(cache.load().is_err());
    }
}
