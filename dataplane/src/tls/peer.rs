//! Who is at the other end of a connection.

use std::{
    cell::OnceCell,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use weft_proto::spiffe::SpiffeId;

use super::names::Names;

/// The peer of a TLS connection that showed a certificate.
#[derive(Debug)]
pub struct Peer {
    /// Its certificates, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Who the leaf says it is.
    pub names: Names,
    /// Whether the validation context vouches for that; without one any certificate is taken.
    pub verified: bool,
    /// The SPIFFE id that was proven.
    pub spiffe: Option<SpiffeId>,
}

impl Peer {
    /// From a finished handshake; none when the leaf cannot be read.
    pub fn new(chain: &[CertificateDer<'static>], verified: bool) -> Option<Self> {
        let names = Names::of(chain.first()?).ok()?;
        let spiffe = names.spiffe().filter(|_| verified);
        Some(Self { chain: chain.to_vec(), names, verified, spiffe })
    }

    /// Every name that was proven, the strongest first: URIs, DNS names, the subject (Envoy's order for RBAC). A certificate
    /// that claims a SPIFFE id without being an SVID proves nothing.
    pub fn proven(&self) -> impl Iterator<Item = &str> {
        let names = Some(&self.names).filter(|names| self.verified && !names.is_false_svid());
        let all = names.into_iter().flat_map(|of| of.uris.iter().chain(&of.dns).chain([&of.subject]));
        all.map(String::as_str)
    }

    /// The identity that was proven, for metrics and logs: a SPIFFE id, or the first URI.
    pub fn principal(&self) -> Option<&str> {
        self.names.principal().filter(|_| self.verified)
    }
}

/// What is known of a connection over TLS that ends here.
#[derive(Debug)]
pub struct Secured {
    /// The client, if it showed a certificate.
    pub peer: Option<Peer>,
    /// The identity that was shown to it: a SPIFFE id, or the first URI of the certificate.
    pub own: Option<Arc<str>>,
    /// The server's name that it asked for, lower case.
    pub server_name: Option<Box<str>>,
    /// What workloads are told of the client's certificate; made when it is first needed.
    pub client_cert: OnceCell<HeaderValue>,
    mark: u64,
}

impl Secured {
    /// After a handshake.
    pub fn new(peer: Option<Peer>, own: Option<Arc<str>>, server_name: Option<Box<str>>) -> Self {
        let mut hasher = DefaultHasher::new();
        (peer.as_ref().and_then(Peer::principal), &own).hash(&mut hasher);
        let mark = hasher.finish().max(1);
        Self { peer, own, server_name, client_cert: OnceCell::new(), mark }
    }

    /// The client's SPIFFE id, if it proved one.
    pub fn spiffe(&self) -> Option<&SpiffeId> {
        self.peer.as_ref()?.spiffe.as_ref()
    }

    /// A number that stands for both sides, never zero; equal identities have equal numbers.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Whether both sides proved who they are.
    pub fn is_mutual(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.verified)
    }
}
