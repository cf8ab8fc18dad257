//! The last known registry on disk, so that a restarted control plane serves the last known mesh at once. A file is
//! replaced whole (write, sync, rename), readable by its owner only, and carries a checksum.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message;
use sha2::{Digest, Sha256};
use weft_proto::registry::v1 as wire;

use super::{
    fact::{self, DocumentFact, DocumentText, Object, Speaker},
    source::Source,
};
use crate::{
    model::ServiceKey,
    virtual_ips::{Range, VirtualIps},
};

/// First bytes of the file: name and format.
const MAGIC: &[u8; 8] = b"WEFTREG1";
/// Bytes of the checksum that follows.
const SUM_BYTES: usize = 32;

#[derive(Clone, PartialEq, Message)]
struct Saved {
    #[prost(message, repeated, tag = "1")]
    sources: Vec<SavedSource>,
    #[prost(message, repeated, tag = "2")]
    virtual_ips: Vec<SavedIp>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedSource {
    #[prost(message, optional, tag = "1")]
    hello: Option<wire::Hello>,
    #[prost(message, repeated, tag = "2")]
    objects: Vec<wire::Upsert>,
    #[prost(int64, tag = "3")]
    last_sync_seconds: i64,
    #[prost(message, repeated, tag = "4")]
    documents: Vec<SavedDocument>,
}

/// What is known of a document beside its text.
#[derive(Clone, PartialEq, Message)]
struct SavedDocument {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(int64, tag = "2")]
    since_seconds: i64,
    #[prost(message, optional, tag = "3")]
    good: Option<wire::Document>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedIp {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(fixed32, tag = "3")]
    ip: u32,
}

/// What the file held.
#[derive(Debug)]
pub struct Loaded {
    /// Sources with their facts.
    pub sources: Vec<Source>,
    /// Virtual IPs as they were assigned.
    pub virtual_ips: VirtualIps,
}

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk.
    #[error("{path}: {error}; check the data directory")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Reads the file; none if there is none, or if it is damaged: then it is put aside, and sources list anew.
pub fn load(path: &Path) -> Result<Option<Loaded>, DiskError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::Io { path: path.to_owned(), error }),
    };
    if let Some(saved) = open(&bytes) {
        return Ok(Some(restore(saved)));
    }
    let aside = path.with_extension("damaged");
    tracing::error!(file = %path.display(), aside = %aside.display(), "the last known registry is damaged; put aside");
    fs::rename(path, aside).map_err(|error| DiskError::Io { path: path.to_owned(), error })?;
    Ok(None)
}

fn open(bytes: &[u8]) -> Option<Saved> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, body) = rest.split_at_checked(SUM_BYTES)?;
    if Sha256::digest(body)[..] != *sum {
        return None;
    }
    Saved::decode(body).ok()
}

fn restore(saved: Saved) -> Loaded {
    let mut sources = Vec::with_capacity(saved.sources.len());
    for source in saved.sources {
        let hello = source.hello.unwrap_or_default();
        let Ok(speaker) = fact::speaker(&hello) else { continue };
        let mut known: BTreeMap<String, SavedDocument> =
            source.documents.into_iter().map(|saved| (saved.key.clone(), saved)).collect();
        // Objects were checked before they were written; one that a stricter version refuses is left out.
        let checked = source.objects.into_iter().filter_map(|object| fact::upsert(&speaker, object).ok());
        let objects: Vec<Object> = checked
            .map(|object| match object {
                Object::Document(fact) => {
                    let saved = known.remove(&fact.key.to_string());
                    Object::Document(restored(fact, saved, source.last_sync_seconds))
                }
                Object::Service(_) | Object::Endpoint(_) => object,
            })
            .collect();
        let mut restored = Source::new(speaker);
        restored.restore(objects.into_iter(), source.last_sync_seconds);
        sources.push(restored);
    }
    let ips = saved
        .virtual_ips
        .into_iter()
        .map(|saved| (ServiceKey::new(&saved.namespace, &saved.name), Ipv4Addr::from(saved.ip)));
    Loaded { sources, virtual_ips: VirtualIps::restore(Range::Registered, ips) }
}

/// A document with what is known of it; files of older versions do not have that.
fn restored(fact: DocumentFact, saved: Option<SavedDocument>, last_sync_seconds: i64) -> DocumentFact {
    let Some(saved) = saved else { return DocumentFact { since_seconds: last_sync_seconds, ..fact } };
    let good = saved.good.map(|good| {
        Arc::new(DocumentText { yaml: good.yaml.into(), origin: good.origin.into(), line: good.line })
    });
    DocumentFact { since_seconds: saved.since_seconds, good, ..fact }
}

/// The bytes of a file.
pub fn encode<'a>(sources: impl Iterator<Item = &'a Source>, virtual_ips: &VirtualIps) -> Vec<u8> {
    let saved = Saved {
        sources: sources.map(saved_source).collect(),
        virtual_ips: virtual_ips
            .iter()
            .map(|(key, ip)| SavedIp {
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                ip: ip.into(),
            })
            .collect(),
    };
    let body = saved.encode_to_vec();
    [MAGIC.as_slice(), &Sha256::digest(&body), &body].concat()
}

fn saved_source(source: &Source) -> SavedSource {
    let Speaker { name, platform, cluster, region } = source.speaker();
    let hello = wire::Hello {
        source: name.to_string(),
        platform: platform.to_string(),
        cluster: cluster.to_string(),
        region: region.to_string(),
        // The facts outlive the process that told them; a resume does not.
        incarnation: "disk".to_owned(),
        version: String::new(),
    };
    let facts = source.facts();
    let objects = facts
        .services()
        .map(fact::ServiceFact::to_wire)
        .chain(facts.endpoints().map(|endpoint| endpoint.to_wire(name)))
        .chain(facts.documents().map(DocumentFact::to_wire));
    let document = |fact: &DocumentFact| SavedDocument {
        key: fact.key.to_string(),
        since_seconds: fact.since_seconds,
        good: fact.good.as_ref().map(|good| wire::Document {
            yaml: good.yaml.to_string(),
            origin: good.origin.to_string(),
            line: good.line,
        }),
    };
    SavedSource {
        hello: Some(hello),
        objects: objects.collect(),
        last_sync_seconds: source.last_sync_seconds(),
        documents: facts.documents().map(document).collect(),
    }
}

/// Replaces the file whole.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let replace = || -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // The rename itself must reach the disk.
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    replace().map_err(|error| DiskError::Io { path: path.to_owned(), error })
}
