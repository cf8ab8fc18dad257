//! The proxy's own identity: a key that is made here and never leaves, a certificate for it, and whom to believe.
//!
//! ```text
//!  join token or certificate --agent--> Svid --watch--> tls (contexts), xds (connections), workload (applications)
//! ```

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;
use weft_proto::{identity::v1::Bundle, spiffe::SpiffeId};

use crate::tls::{
    provider,
    secret::{Authorities, Certificate, Invalid},
};

pub mod agent;
pub mod connect;
pub mod disk;
pub mod joining;
pub mod pace;
pub mod pin;
pub mod proof;
#[cfg(test)]
mod tests;
pub mod workload;

/// The identity in force; none before the first certificate came.
pub type Current = watch::Receiver<Option<Arc<Svid>>>;

/// An X.509-SVID with its key, and the bundle of its trust domain.
#[derive(Clone)]
pub struct Svid {
    /// Who it says we are.
    pub id: SpiffeId,
    /// As rustls uses it.
    pub certificate: Arc<Certificate>,
    /// Private key, PKCS#8 DER.
    key: Arc<[u8]>,
    /// When the certificate begins and ends.
    pub validity: (SystemTime, SystemTime),
    /// When it came to this process: its renewal is counted from there, since certificates begin in the past.
    pub came: SystemTime,
    /// Whom to believe.
    pub trust: Trusted,
}

/// Who is believed in the own trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// As the control plane counts.
    pub version: u64,
    /// Its roots, DER.
    pub roots: Vec<CertificateDer<'static>>,
    /// The same, as rustls uses them.
    pub authorities: Arc<Authorities>,
}

/// A certificate or bundle that cannot be used. Says nothing of a key.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A part is malformed.
    #[error(transparent)]
    Part(#[from] Invalid),
    /// It is of nobody, or of several.
    #[error("the certificate names no SPIFFE id")]
    Nameless,
    /// The id is of another trust domain than the bundle.
    #[error("the certificate is of the trust domain {0}, the bundle of {1}")]
    Foreign(String, String),
    /// The key cannot be read.
    #[error("the private key cannot be used")]
    Key,
}

impl Svid {
    /// Of a chain, leaf first, its key in PKCS#8, and a bundle.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &[u8],
        bundle: &Bundle,
        now: SystemTime,
    ) -> Result<Self, Unusable> {
        let private = PrivatePkcs8KeyDer::from(key.to_vec());
        let certificate = Certificate::of(chain, private.into(), provider())?;
        let id = certificate.names.spiffe().ok_or(Unusable::Nameless)?;
        if id.trust_domain() != bundle.trust_domain {
            return Err(Unusable::Foreign(id.trust_domain().to_owned(), bundle.trust_domain.clone()));
        }
        let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let validity = (at(certificate.names.begins), at(certificate.names.expires));
        let trust = Trusted::new(bundle)?;
        Ok(Self { id, certificate: Arc::new(certificate), key: key.into(), validity, came: now, trust })
    }

    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certificate.key.cert
    }

    /// The private key in PKCS#8, for those who are to have it.
    pub fn reveal_key(&self) -> &[u8] {
        &self.key
    }

    /// Whether it can be shown at a time.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        (self.validity.0..self.validity.1).contains(&now)
    }

    /// The same with another bundle; what is equal stays the same allocation.
    pub fn trusting(&self, trust: Trusted) -> Self {
        Self { trust: trust.over(&self.trust), ..self.clone() }
    }
}

impl Trusted {
    /// Of a bundle; at least one root.
    pub fn new(bundle: &Bundle) -> Result<Self, Unusable> {
        let roots: Vec<_> =
            bundle.authorities.iter().map(|root| CertificateDer::from(root.clone())).collect();
        let authorities = Arc::new(Authorities::of(&roots)?);
        Ok(Self { version: bundle.version, roots, authorities })
    }

    /// The same, sharing what equals the one before.
    pub fn over(self, before: &Self) -> Self {
        match self.roots == before.roots {
            true => Self { authorities: before.authorities.clone(), ..self },
            false => self,
        }
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).field("validity", &self.validity).finish_non_exhaustive()
    }
}
