//! Who signs, who will, and who is trusted. Pure: each step makes a new keyring of an old one.
//!
//! A root is replaced without a moment in which somebody is not believed: the new one is trusted first, signs once every
//! live client has said that it believes it, and the old one stays trusted until what it signed last has ended.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;

use super::issue::{INTERMEDIATE_LIFE, IssueError, ROOT_LIFE, Signer};

/// What a new authority waits at least before it signs: for clients between two connections.
const OVERLAP_MIN: Duration = Duration::from_secs(10);
/// How much longer than a leaf an old root is trusted.
const LINGER: Duration = Duration::from_secs(60);

/// A root with the intermediate that signs for it.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The root's certificate.
    pub root: CertificateDer<'static>,
    /// The root's key, where it is ours to have.
    pub root_signer: Option<Arc<Signer>>,
    /// What signs leaves.
    pub signer: Arc<Signer>,
    /// From the signer's certificate up to the one below the root.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// A new root and its first intermediate.
    pub fn new(domain: &str, now: SystemTime) -> Result<Self, IssueError> {
        let root = Arc::new(Signer::root(domain, now, ROOT_LIFE)?);
        Self::of_root(root, domain, now)
    }

    /// A root with a new intermediate.
    pub fn of_root(root: Arc<Signer>, domain: &str, now: SystemTime) -> Result<Self, IssueError> {
        let signer = Arc::new(root.intermediate(domain, now, INTERMEDIATE_LIFE)?);
        let chain = vec![signer.certificate().clone()];
        Ok(Self { root: root.certificate().clone(), root_signer: Some(root), signer, chain })
    }
}

/// A root that signs no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// Its certificate.
    pub root: CertificateDer<'static>,
    /// Until when it is trusted.
    pub until: SystemTime,
}

/// All authorities.
#[derive(Clone, Debug)]
pub struct Keyring {
    /// Rises with every change of who is trusted.
    pub(super) version: u64,
    pub(super) active: Arc<Authority>,
    /// The authority that will sign, and since when it is trusted.
    pub(super) next: Option<(Arc<Authority>, SystemTime)>,
    pub(super) former: Vec<Former>,
}

impl Keyring {
    /// With one authority.
    pub fn new(active: Authority) -> Self {
        Self { version: 1, active: Arc::new(active), next: None, former: Vec::new() }
    }

    /// What signs leaves.
    pub fn signer(&self) -> &Signer {
        &self.active.signer
    }

    /// What goes between a leaf and its root.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.active.chain
    }

    /// The root that signs.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.active.root
    }

    /// Every root that is trusted.
    pub fn trusted(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        let next = self.next.as_ref().map(|(next, _)| &next.root);
        let former = self.former.iter().map(|former| &former.root);
        [&self.active.root].into_iter().chain(next).chain(former)
    }

    /// The version of who is trusted.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When nothing can be signed any more.
    pub fn expires(&self) -> SystemTime {
        self.active.signer.validity().1
    }

    /// The same with a new root that is trusted from now on; what already waits to sign is given up for it.
    pub fn rotation(&self, domain: &str, now: SystemTime) -> Result<Self, IssueError> {
        let next = Some((Arc::new(Authority::new(domain, now)?), now));
        Ok(Self { version: self.version + 1, next, ..self.clone() })
    }

    /// What is due now, if anything is; `believed` is the oldest bundle that a live client has.
    pub fn upkeep(
        &self,
        domain: &str,
        believed: Option<u64>,
        leaf_life: Duration,
        now: SystemTime,
    ) -> Result<Option<Self>, IssueError> {
        if let Some((next, since)) = &self.next {
            let all = believed.is_none_or(|version| version >= self.version);
            if all && now >= *since + OVERLAP_MIN {
                let former = Former { root: self.active.root.clone(), until: now + leaf_life + LINGER };
                let former = self.former.iter().cloned().chain([former]).collect();
                return Ok(Some(Self {
                    version: self.version + 1,
                    active: next.clone(),
                    next: None,
                    former,
                }));
            }
        }
        if self.former.iter().any(|former| former.until <= now) {
            let former = self.former.iter().filter(|former| former.until > now).cloned().collect();
            return Ok(Some(Self { version: self.version + 1, former, ..self.clone() }));
        }
        let Some(root) = &self.active.root_signer else { return Ok(None) };
        if self.next.is_none() && is_past(root.validity(), 3, now) {
            return self.rotation(domain, now).map(Some);
        }
        let (begins, expires) = self.active.signer.validity();
        // One that already lives as long as its root gains nothing from a new one.
        if is_past((begins, expires), 2, now) && expires < root.validity().1 {
            let active = Arc::new(Authority::of_root(root.clone(), domain, now)?);
            return Ok(Some(Self { active, ..self.clone() }));
        }
        Ok(None)
    }
}

/// Whether so many quarters of a life have passed.
fn is_past((begins, expires): (SystemTime, SystemTime), quarters: u32, now: SystemTime) -> bool {
    let life = expires.duration_since(begins).unwrap_or_default();
    now >= begins + life * quarters / 4
}
