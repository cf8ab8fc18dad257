//! Who is who in the mesh: the certificate authority, what proves an identity, and what an identity may do.
//!
//! ```text
//!  credential --attest--> SPIFFE id --issue--> certificate     (of a request only the public key is used)
//!  keyring: the authority that signs, one that will, and all that are trusted    (disk: mode 0600)
//! ```

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_proto::spiffe::SpiffeId;

pub mod access;
pub mod attest;
pub mod disk;
pub mod door;
pub mod issue;
pub mod keyring;
pub mod request;
pub mod service;
#[cfg(test)]
mod tests;
pub mod token;

use attest::{Attestors, Method, kubernetes};
use issue::{IssueError, Signer};
use keyring::Keyring;
use request::PublicKey;
use token::{Grant, Tokens};

/// How often it is looked whether something is to be renewed.
const TICK: Duration = Duration::from_secs(1);

/// What is known of identities when the control plane starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// Life of the certificates of workloads.
    pub leaf_life: Duration,
    /// Where authorities and tokens are kept.
    pub folder: PathBuf,
    /// An authority of the operator's in place of the built-in one, in files named as Istio's `cacerts`.
    pub supplied: Option<PathBuf>,
    /// The API server by whose word service accounts of Kubernetes are known; none is by nobody's.
    pub kubernetes: Option<kubernetes::Options>,
}

/// Why there are no identities.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file.
    #[error("{path}: {error}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file that holds something else.
    #[error("{path}: {problem}")]
    Content {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A certificate.
    #[error("a certificate cannot be made: {0}")]
    Issue(#[from] IssueError),
    /// Join tokens.
    #[error("the join tokens cannot be opened: {0}")]
    Tokens(String),
    /// What proves identities.
    #[error("service accounts of Kubernetes: {0}")]
    Attestor(String),
}

/// A certificate that was signed.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
}

/// The mesh's identities. Shared by all that serve them.
pub struct Identity {
    options: Options,
    keyring: watch::Sender<Arc<Keyring>>,
    tokens: Arc<Tokens>,
    attestors: Attestors,
    /// The bundle that each client has that asks for changes of it.
    believers: Mutex<Believers>,
}

#[derive(Default)]
struct Believers {
    next: u64,
    versions: BTreeMap<u64, u64>,
}

/// A client that is told of changes of the bundle; not waited for any more once dropped.
pub struct Believer {
    identity: Arc<Identity>,
    key: u64,
}

impl Identity {
    /// Opens what is kept, or makes it. Blocks on the disk.
    pub fn open(options: Options, now: SystemTime) -> Result<Arc<Self>, OpenError> {
        let keyring = match &options.supplied {
            Some(folder) => disk::supplied(folder, &options.trust_domain)?,
            None => disk::built_in(&options.folder, &options.trust_domain, now)?,
        };
        let tokens = Arc::new(Tokens::open(&options.folder.join("tokens.redb")).map_err(OpenError::Tokens)?);
        let mut attestors = Attestors::new(options.trust_domain.clone(), tokens.clone());
        if let Some(kubernetes) = options.kubernetes.clone() {
            let attestor = kubernetes::Kubernetes::new(kubernetes, options.trust_domain.clone());
            attestors.open(Method::Kubernetes, Arc::new(attestor.map_err(OpenError::Attestor)?));
        }
        disk::publish(&options.folder, &keyring)?;
        let keyring = watch::Sender::new(Arc::new(keyring));
        Ok(Arc::new(Self { options, keyring, tokens, attestors, believers: Mutex::default() }))
    }

    /// The mesh's trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.options.trust_domain
    }

    /// Who signs and who is trusted now.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.keyring.borrow().clone()
    }

    /// Tells of changes of it.
    pub fn watch(&self) -> watch::Receiver<Arc<Keyring>> {
        self.keyring.subscribe()
    }

    /// What can prove who somebody is.
    pub fn attestors(&self) -> &Attestors {
        &self.attestors
    }

    /// Signs a certificate for a proven identity.
    pub fn issue(&self, key: &PublicKey, id: &SpiffeId, now: SystemTime) -> Result<Issued, IssueError> {
        let keyring = self.keyring();
        let leaf = keyring.signer().leaf(key, id, now, self.options.leaf_life)?;
        let mut chain = vec![leaf];
        chain.extend(keyring.intermediates().iter().cloned());
        Ok(Issued { chain })
    }

    /// Makes a token by which one bearer can join, once, and says when it ends. Its text names the root by which the bearer
    /// knows us. Blocks on the disk.
    pub fn create_token(
        &self,
        id: SpiffeId,
        life: Duration,
        now: SystemTime,
    ) -> Result<(String, SystemTime), String> {
        let expires = now + life;
        let secret = self.tokens.create(&Grant { id, expires }, now, rand::random())?;
        Ok((token::text(&secret, self.keyring().root()), expires))
    }

    /// Begins to replace the root: the new one is trusted from now on, and signs once every live client believes it. The
    /// version of the bundle that has it. Blocks on the disk.
    pub fn rotate(&self, now: SystemTime) -> Result<u64, OpenError> {
        let next = self.keyring().rotation(&self.options.trust_domain, now)?;
        let version = next.version();
        self.replace(next)?;
        Ok(version)
    }

    /// A client that believes bundle `version`; rotations wait for it.
    pub fn believer(self: &Arc<Self>, version: u64) -> Believer {
        let mut believers = self.lock();
        believers.next += 1;
        let key = believers.next;
        believers.versions.insert(key, version);
        Believer { identity: self.clone(), key }
    }

    /// Renews what is to be renewed, until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let this = self.clone();
            let renewed = tokio::task::spawn_blocking(move || this.renew(SystemTime::now())).await;
            if let Ok(Err(error)) = renewed {
                tracing::error!(%error, "the certificate authority cannot be renewed");
            }
        }
    }

    /// One step of upkeep: a new intermediate at half life, a new root in the last quarter of its life, the end of a
    /// rotation that everybody followed, and old roots that nobody needs any more.
    fn renew(&self, now: SystemTime) -> Result<(), OpenError> {
        let keyring = self.keyring();
        let believed = self.lock().versions.values().copied().min();
        let left = keyring.expires().duration_since(now).unwrap_or_default();
        metrics::gauge!("weft_ca_expiry_seconds").set(left.as_secs_f64());
        let next = keyring.upkeep(&self.options.trust_domain, believed, self.options.leaf_life, now)?;
        next.map_or(Ok(()), |next| self.replace(next))
    }

    fn replace(&self, next: Keyring) -> Result<(), OpenError> {
        if self.options.supplied.is_none() {
            disk::save(&self.options.folder, &next)?;
        }
        disk::publish(&self.options.folder, &next)?;
        tracing::info!(bundle = next.version(), "the certificate authority changed");
        self.keyring.send_replace(Arc::new(next));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Believers> {
        self.believers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Believer {
    /// Takes in what the client believes now.
    pub fn believes(&self, version: u64) {
        self.identity.lock().versions.insert(self.key, version);
    }
}

impl Drop for Believer {
    fn drop(&mut self) {
        self.identity.lock().versions.remove(&self.key);
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("trust_domain", &self.options.trust_domain).finish_non_exhaustive()
    }
}

/// The one that signs for the mesh's own parts too.
impl AsRef<Signer> for Keyring {
    fn as_ref(&self) -> &Signer {
        self.signer()
    }
}
