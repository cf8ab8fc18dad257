//! Who is at the other end of a connection.

use rustls::pki_types::CertificateDer;

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
}

impl Peer {
    /// From a finished handshake; none when the leaf cannot be read.
    pub fn new(chain: &[CertificateDer<'static>], verified: bool) -> Option<Self> {
        let names = Names::of(chain.first()?).ok()?;
        Some(Self { chain: chain.to_vec(), names, verified })
    }

    /// The identity that was proven: a SPIFFE id, or the first URI.
    pub fn principal(&self) -> Option<&str> {
        if !self.verified {
            return None;
        }
        self.names.principal()
    }
}
