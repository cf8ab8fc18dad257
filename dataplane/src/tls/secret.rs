//! Certificates, keys, authorities and revocation lists, parsed from the PEM that a control plane or a file holds. Pure.

use std::{fmt, sync::Arc};

use rustls::{
    DistinguishedName,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use webpki::{CertRevocationList, OwnedCertRevocationList, anchor_from_trusted_cert};

use super::names::Names;

/// Most certificates of one chain, and most lists of one set.
const CHAIN_MAX: usize = 16;
/// Most authorities of one set; a host's own set has about 150.
const AUTHORITIES_MAX: usize = 1024;

/// What is wrong with a secret. Says nothing of its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {problem}")]
pub struct Invalid {
    /// Field of the secret.
    pub part: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Invalid {
    fn new(part: &'static str, problem: impl Into<String>) -> Self {
        Self { part, problem: problem.into() }
    }
}

/// A certificate chain with its private key.
pub struct Certificate {
    /// What rustls shows and signs with.
    pub key: Arc<CertifiedKey>,
    /// Who the leaf says it is.
    pub names: Names,
}

impl Certificate {
    /// Checks that the chain can be read and that the key belongs to its leaf.
    pub fn parse(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Self, Invalid> {
        let part = "certificate_chain";
        let chain = certificates(chain, part, CHAIN_MAX)?;
        let part = "private_key";
        // No error of a parser is passed on: it might quote the key.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            Invalid::new(part, "no PEM with a PKCS#8, PKCS#1 or SEC1 key that is not encrypted")
        })?;
        Self::of(chain, key, provider)
    }

    /// The same of what is parsed already.
    pub fn of(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<Self, Invalid> {
        let part = "certificate_chain";
        let leaf = chain.first().ok_or_else(|| Invalid::new(part, "empty"))?;
        let names = Names::of(leaf).map_err(|problem| Invalid::new(part, problem))?;
        let part = "private_key";
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Invalid::new(part, "does not belong to the certificate"),
            _ => Invalid::new(part, "not a key that is supported: RSA, ECDSA P-256, P-384, P-521 or Ed25519"),
        })?;
        Ok(Self { key: Arc::new(key), names })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Equal chains have equal keys, since a key belongs to its certificate.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

impl Eq for Certificate {}

/// Trusted authorities.
#[derive(Debug)]
pub struct Authorities {
    /// Where a chain may end.
    pub anchors: Vec<TrustAnchor<'static>>,
    /// Their names, told to clients that are asked for a certificate.
    pub hints: Vec<DistinguishedName>,
    /// When the first of them expires, seconds of Unix time.
    pub expires: i64,
}

impl Authorities {
    /// Every certificate must be usable.
    pub fn parse(pem: &[u8]) -> Result<Self, Invalid> {
        let part = "trusted_ca";
        Self::of(&certificates(pem, part, AUTHORITIES_MAX)?)
    }

    /// The same of what is parsed already.
    pub fn of(found: &[CertificateDer<'_>]) -> Result<Self, Invalid> {
        let usable = |der| anchor(der).map_err(|problem| Invalid::new("trusted_ca", problem));
        Self::new(found.iter().map(usable).collect::<Result<_, _>>()?)
    }

    /// Those of a host's collection that are usable; at least one.
    pub fn usable<'a>(found: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Result<Self, Invalid> {
        Self::new(found.into_iter().filter_map(|der| anchor(der).ok()).take(AUTHORITIES_MAX).collect())
    }

    fn new(found: Vec<(TrustAnchor<'static>, i64)>) -> Result<Self, Invalid> {
        let expires = found.iter().map(|(_, expires)| *expires).min();
        let expires = expires.ok_or_else(|| Invalid::new("trusted_ca", "no certificate in it"))?;
        let anchors: Vec<_> = found.into_iter().map(|(anchor, _)| anchor).collect();
        let hints = anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect();
        Ok(Self { anchors, hints, expires })
    }
}

/// Equal anchors; the hints follow from them.
impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.anchors == other.anchors
    }
}

impl Eq for Authorities {}

fn anchor(der: &CertificateDer<'_>) -> Result<(TrustAnchor<'static>, i64), String> {
    let anchor = anchor_from_trusted_cert(der).map_err(|error| format!("not usable: {error}"))?.to_owned();
    let (_, parsed) =
        x509_parser::parse_x509_certificate(der).map_err(|error| format!("malformed: {error}"))?;
    Ok((anchor, parsed.validity().not_after.timestamp()))
}

/// Certificate revocation lists.
pub struct Revocations {
    /// Parsed; signatures are verified with the chain that they are used for.
    pub lists: Vec<CertRevocationList<'static>>,
    encoded: Vec<CertificateRevocationListDer<'static>>,
}

impl Revocations {
    /// Every list must be readable.
    pub fn parse(pem: &[u8]) -> Result<Self, Invalid> {
        let part = "crl";
        let encoded: Vec<CertificateRevocationListDer<'static>> = sections(pem, part, CHAIN_MAX)?;
        let list = |der: &CertificateRevocationListDer<'_>| {
            OwnedCertRevocationList::from_der(der)
                .map(CertRevocationList::from)
                .map_err(|error| Invalid::new(part, format!("not usable: {error}")))
        };
        let lists = encoded.iter().map(list).collect::<Result<_, _>>()?;
        Ok(Self { lists, encoded })
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lists", self.lists.len())
    }
}

impl PartialEq for Revocations {
    fn eq(&self, other: &Self) -> bool {
        self.encoded == other.encoded
    }
}

impl Eq for Revocations {}

fn certificates(pem: &[u8], part: &'static str, max: usize) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    sections(pem, part, max)
}

/// All PEM sections of one type; at least one.
fn sections<T: PemObject>(pem: &[u8], part: &'static str, max: usize) -> Result<Vec<T>, Invalid> {
    let mut found = Vec::new();
    for section in T::pem_slice_iter(pem) {
        found.push(section.map_err(|error| Invalid::new(part, format!("not valid PEM: {}", kind(&error))))?);
        if found.len() > max {
            return Err(Invalid::new(part, format!("more than {max} entries")));
        }
    }
    if found.is_empty() {
        return Err(Invalid::new(part, "no PEM section in it"));
    }
    Ok(found)
}

/// What kind of error, without the text that it may quote.
fn kind(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section does not end",
        pem::Error::IllegalSectionStart { .. } => "a section begins wrongly",
        pem::Error::Base64Decode(_) => "not base64",
        pem::Error::SectionTooLarge => "a section is too large",
        _ => "unreadable",
    }
}
