//! Authorities on disk. Everything is mode 0600 in a folder of mode 0700, written whole and then moved into place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    OpenError,
    issue::Signer,
    keyring::{Authority, Former, Keyring},
};

/// The built-in authority.
const FILE: &str = "authority.bin";
/// The roots that are trusted.
const ROOTS_FILE: &str = "root-cert.pem";
/// Characters of a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;
/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most certificates of a chain that an operator gives.
const CHAIN_MAX: usize = 8;

/// A keyring as it is kept.
#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(message, optional, tag = "2")]
    active: Option<KeptAuthority>,
    #[prost(message, optional, tag = "3")]
    next: Option<KeptAuthority>,
    /// Seconds of Unix time.
    #[prost(uint64, tag = "4")]
    next_since: u64,
    #[prost(message, repeated, tag = "5")]
    former: Vec<KeptFormer>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct KeptAuthority {
    #[prost(bytes = "vec", tag = "1")]
    root: Vec<u8>,
    #[prost(string, tag = "2")]
    root_key: String,
    #[prost(bytes = "vec", tag = "3")]
    intermediate: Vec<u8>,
    #[prost(string, tag = "4")]
    intermediate_key: String,
}

impl std::fmt::Debug for KeptAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an authority, not shown")
    }
}

#[derive(Clone, PartialEq, Message)]
struct KeptFormer {
    #[prost(bytes = "vec", tag = "1")]
    root: Vec<u8>,
    /// Seconds of Unix time.
    #[prost(uint64, tag = "2")]
    until: u64,
}

/// The built-in authority: as it was kept, or a new one.
pub fn built_in(folder: &Path, domain: &str, now: SystemTime) -> Result<Keyring, OpenError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::File { path, error }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
    let path = folder.join(FILE);
    match read_private(&path) {
        Ok(bytes) => {
            let damaged = |problem: String| OpenError::Content { path: path.clone(), problem };
            let kept = Kept::decode(bytes.as_slice()).map_err(|_| damaged("damaged".to_owned()))?;
            read(kept).map_err(|error| damaged(format!("damaged: {error}; restore it from a backup")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keyring = Keyring::new(Authority::new(domain, now)?);
            save(folder, &keyring)?;
            tracing::info!(folder = %folder.display(), "made a certificate authority");
            Ok(keyring)
        }
        Err(error) => Err(at(&path)(error)),
    }
}

/// An authority that an operator gives: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and, where there are more between the
/// two, `cert-chain.pem`, as Istio names them.
pub fn supplied(folder: &Path, domain: &str) -> Result<Keyring, OpenError> {
    let read = |name: &str| {
        let path = folder.join(name);
        read_private_if(&path, name == "ca-key.pem").map_err(|error| OpenError::File { path, error })
    };
    let wrong = |name: &str, problem: &str| OpenError::Content {
        path: folder.join(name),
        problem: problem.to_owned(),
    };
    let certificates = |name: &str| -> Result<Vec<CertificateDer<'static>>, OpenError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(name)?).take(CHAIN_MAX).collect();
        found.ok().filter(|found| !found.is_empty()).ok_or_else(|| wrong(name, "holds no PEM certificate"))
    };
    let first = |name| certificates(name).map(|found| found[0].clone());
    let (certificate, root) = (first("ca-cert.pem")?, first("root-cert.pem")?);
    let key = String::from_utf8(read("ca-key.pem")?).map_err(|_| wrong("ca-key.pem", "is no PEM"))?;
    // What the library says might quote the key.
    let signer = Signer::from_parts(certificate.clone(), &key).map_err(|_| {
        wrong("ca-key.pem", "holds no PEM private key that is supported (PKCS#8, not encrypted)")
    })?;
    if !signer.is_consistent() {
        return Err(wrong("ca-key.pem", "is not the key of ca-cert.pem, or that is no authority"));
    }
    let chain = match folder.join("cert-chain.pem").exists() {
        true => certificates("cert-chain.pem")?.into_iter().filter(|link| *link != root).collect(),
        false => vec![certificate.clone()],
    };
    if chain.first() != Some(&certificate) {
        return Err(wrong("cert-chain.pem", "does not begin with the certificate of ca-cert.pem"));
    }
    tracing::info!(domain, folder = %folder.display(), "certificates are signed by the given authority");
    Ok(Keyring::new(Authority { root, root_signer: None, signer: Arc::new(signer), chain }))
}

/// Keeps the built-in authority.
pub fn save(folder: &Path, keyring: &Keyring) -> Result<(), OpenError> {
    let kept = Kept {
        version: keyring.version,
        active: Some(kept(&keyring.active)),
        next: keyring.next.as_ref().map(|(next, _)| kept(next)),
        next_since: keyring.next.as_ref().map_or(0, |(_, since)| seconds(*since)),
        former: keyring
            .former
            .iter()
            .map(|former| KeptFormer { root: former.root.to_vec(), until: seconds(former.until) })
            .collect(),
    };
    let path = folder.join(FILE);
    write_private(folder, FILE, &kept.encode_to_vec()).map_err(|error| OpenError::File { path, error })
}

/// Writes the roots that are trusted, for who joins without a join token to know us by. They are no secret.
pub fn publish(folder: &Path, keyring: &Keyring) -> Result<(), OpenError> {
    let mut pem = String::new();
    for root in keyring.trusted() {
        let text = BASE64_STANDARD.encode(root);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for start in (0..text.len()).step_by(PEM_LINE) {
            pem.push_str(&text[start..text.len().min(start + PEM_LINE)]);
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    let path = folder.join(ROOTS_FILE);
    write_private(folder, ROOTS_FILE, pem.as_bytes()).map_err(|error| OpenError::File { path, error })
}

fn kept(authority: &Authority) -> KeptAuthority {
    let root_key = authority.root_signer.as_ref().map(|root| root.key_pem()).unwrap_or_default();
    KeptAuthority {
        root: authority.root.to_vec(),
        root_key,
        intermediate: authority.signer.certificate().to_vec(),
        intermediate_key: authority.signer.key_pem(),
    }
}

fn read(kept: Kept) -> Result<Keyring, super::IssueError> {
    let authority = |kept: KeptAuthority| {
        let root = CertificateDer::from(kept.root);
        let root_signer = Arc::new(Signer::from_parts(root.clone(), &kept.root_key)?);
        let signer = Arc::new(Signer::from_parts(kept.intermediate.into(), &kept.intermediate_key)?);
        let chain = vec![signer.certificate().clone()];
        Ok::<_, super::IssueError>(Arc::new(Authority {
            root,
            root_signer: Some(root_signer),
            signer,
            chain,
        }))
    };
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let former = kept.former.into_iter();
    let since = at(kept.next_since);
    Ok(Keyring {
        version: kept.version,
        active: authority(kept.active.ok_or(super::IssueError::Unreadable)?)?,
        next: kept.next.map(authority).transpose()?.map(|next| (next, since)),
        former: former.map(|one| Former { root: one.root.into(), until: at(one.until) }).collect(),
    })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A file that nobody else may read; one that others may is refused.
fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    read_private_if(path, true)
}

fn read_private_if(path: &Path, private: bool) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if private && file.metadata()?.permissions().mode() & 0o077 != 0 {
        let problem = "others may read this key; run chmod 600 on it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write_private(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = folder.join(format!("{name}.new"));
    // What an earlier process left behind may have other rights.
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, folder.join(name))?;
    File::open(folder)?.sync_all()
}
