//! The identity on disk, so that a proxy that starts again is who it was. One file of mode 0600, replaced as a whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use prost::Message;
use rustls::pki_types::CertificateDer;
use weft_proto::identity::v1::Bundle;

use super::Svid;

/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The file within the state directory.
#[derive(Clone, Debug)]
pub struct Home {
    folder: PathBuf,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct Kept {
    #[prost(bytes = "vec", repeated, tag = "1")]
    chain: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    bundle: Option<Bundle>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an identity, not shown")
    }
}

impl Home {
    /// In a folder, which is made (mode 0700) when it is missing.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// What was kept; an error says why it cannot be used.
    pub fn load(&self, now: SystemTime) -> io::Result<Option<Svid>> {
        let file = match File::open(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            let problem = "others may read this key; remove it, or run chmod 600 on it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "damaged; it is not used");
        // What a decoder says might quote the key.
        let kept = Kept::decode(bytes.as_slice()).map_err(|_| damaged())?;
        let chain = kept.chain.into_iter().map(CertificateDer::from).collect();
        let bundle = kept.bundle.ok_or_else(damaged)?;
        Svid::new(chain, &kept.key, &bundle, now).map(Some).map_err(io::Error::other)
    }

    /// Keeps it.
    pub fn save(&self, svid: &Svid) -> io::Result<()> {
        let bundle = Bundle {
            version: svid.trust.version,
            trust_domain: svid.id.trust_domain().to_owned(),
            authorities: svid.trust.roots.iter().map(|root| root.to_vec()).collect(),
        };
        let chain = svid.chain().iter().map(|one| one.to_vec()).collect();
        let kept = Kept { chain, key: svid.reveal_key().to_vec(), bundle: Some(bundle) };
        let fresh = self.folder.join("identity.new");
        // What an earlier process left behind may have other rights.
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(&kept.encode_to_vec())?;
        file.sync_all()?;
        fs::rename(&fresh, self.path())?;
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self) -> PathBuf {
        self.folder.join("identity.bin")
    }
}
