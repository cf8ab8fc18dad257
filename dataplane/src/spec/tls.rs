//! TLS as configured: which certificates to show, whom to believe, and what to agree on.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use rustls::{SupportedProtocolVersion, crypto::CryptoProvider, pki_types::ServerName};

use super::ValueMatch;
use crate::tls::secret::{Authorities, Certificate, Revocations};

/// From a `DownstreamTlsContext`: the proxy is the TLS server.
#[derive(Clone, Debug)]
pub struct DownstreamTls {
    /// What both sides have in common; at least one certificate.
    pub common: TlsCommon,
    /// A client without a certificate is refused; else it is taken, and a certificate is verified when there is one.
    pub require_client_certificate: bool,
    /// A client that names no server is refused.
    pub require_sni: bool,
    /// Sessions may be resumed. Never where clients are asked for certificates, which resumption would not verify again.
    pub resumption: bool,
    /// Time for the whole handshake.
    pub handshake_timeout: Duration,
    /// SHA-256 of the message it was decoded from: equal digests are equal contexts.
    pub digest: [u8; 32],
}

/// From an `UpstreamTlsContext`: the proxy is the TLS client.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// What both sides have in common; at most one certificate.
    pub common: TlsCommon,
    /// The name that is asked for.
    pub sni: Sni,
    /// The certificate must be for that very name (`auto_sni_san_validation`).
    pub verify_sni: bool,
    /// Sessions kept for resumption; 0 is none.
    pub sessions_max: usize,
    /// SHA-256 of the message it was decoded from: equal digests are equal contexts.
    pub digest: [u8; 32],
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for UpstreamTls {}

/// The server's name in a client's hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sni {
    /// None.
    Absent,
    /// This one.
    Name(ServerName<'static>),
    /// The endpoint's host name, where it has one (`auto_host_sni`).
    Endpoint,
}

/// `CommonTlsContext`.
#[derive(Clone, Debug)]
pub struct TlsCommon {
    /// Algorithms: the defaults, or fewer of them.
    pub provider: Arc<CryptoProvider>,
    /// Protocol versions, 1.2 and above.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// What to show for ourselves.
    pub certificates: Vec<SecretRef<CertificateSource>>,
    /// How the peer is verified; none is not at all.
    pub validation: Option<ValidationRef>,
    /// Protocols to agree on, best first; empty is what follows from the use.
    pub alpn: Vec<Vec<u8>>,
}

/// A secret, or the name under which SDS delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef<T> {
    /// By name.
    Named(SecretName),
    /// As given.
    Given(T),
}

/// Who delivers a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretName {
    /// The control plane, under this name.
    Stream(Arc<str>),
    /// The proxy itself: its own certificate, or the authorities of its trust domain.
    Own,
}

/// A validation context: given, named, or the named one merged over the given one.
#[derive(Clone, Debug)]
pub struct ValidationRef {
    /// What the context itself says.
    pub given: Validation,
    /// The secret that completes it.
    pub named: Option<SecretName>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Parsed.
    Parsed(Arc<Certificate>),
    /// At least one part is in a file.
    Files {
        /// Leaf first, PEM.
        chain: Data,
        /// PEM.
        key: Data,
    },
}

/// Trusted authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthoritiesSource {
    /// Parsed.
    Parsed(Arc<Authorities>),
    /// In this file, PEM.
    File(Arc<Path>),
    /// Those that the host trusts (`system_root_certs`).
    System,
}

/// Certificate revocation lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationsSource {
    /// Parsed.
    Parsed(Arc<Revocations>),
    /// In this file, PEM.
    File(Arc<Path>),
}

/// Bytes that the control plane sent, or the file that holds them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// As sent; possibly a private key.
    Inline(Arc<[u8]>),
    /// A path.
    File(Arc<Path>),
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("inline"),
            Self::File(path) => fmt::Debug::fmt(path, f),
        }
    }
}

/// `CertificateValidationContext`: everything given must hold.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// The chain must end at one of these; none is any chain.
    pub authorities: Option<AuthoritiesSource>,
    /// A chain that does not end there is taken nevertheless, and counts as not verified (`ACCEPT_UNTRUSTED`).
    pub accept_untrusted: bool,
    /// Clients are not told which authorities are trusted (`suppress_client_ca_list`).
    pub hide_authorities: bool,
    /// No certificate of the chain may be on these lists, and each issuer must have one.
    pub revocations: Option<RevocationsSource>,
    /// Only the leaf is looked up in the lists.
    pub revocations_of_leaf_only: bool,
    /// Most intermediate certificates; none is the library's limit.
    pub depth_max: Option<u32>,
    /// One of the certificate's names must match one of these; empty is any name.
    pub names: Vec<NameMatch>,
    /// SHA-256 of the leaf, or of its public key, must be one of these; both empty is any.
    pub certificate_pins: Vec<[u8; 32]>,
    /// See `certificate_pins`.
    pub key_pins: Vec<[u8; 32]>,
}

/// A condition on a subject alternative name.
#[derive(Clone, Debug)]
pub struct NameMatch {
    /// Which kind of name.
    pub kind: NameKind,
    /// What it must be. An exact DNS condition is met by a wildcard of the certificate.
    pub value: ValueMatch,
}

/// Kinds of subject alternative names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A URI: SPIFFE ids are these.
    Uri,
    /// A DNS name.
    Dns,
    /// A mail address.
    Email,
    /// An IP address, compared as text.
    Ip,
}

/// A secret that SDS delivers.
#[derive(Clone, Debug)]
pub enum Secret {
    /// A certificate with its key.
    Certificate(CertificateSource),
    /// A validation context.
    Validation(Box<Validation>),
}
