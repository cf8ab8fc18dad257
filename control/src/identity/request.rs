//! Certificate requests of peers: proof that they have a key, of which the public half is taken and nothing else. Pure.

use rcgen::{PublicKeyData, SignatureAlgorithm};
use x509_parser::{
    certification_request::X509CertificationRequest, prelude::FromDer, public_key::PublicKey as Parsed,
    x509::SubjectPublicKeyInfo,
};

/// Largest request, bytes.
pub const REQUEST_BYTES_MAX: usize = 8 << 10;
/// RSA keys that are signed, bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Why a request is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not DER of a request, or more than one.
    #[error("csr: not a certificate request in DER")]
    Malformed,
    /// The signature is not that of the key.
    #[error("csr: its signature is not that of its key")]
    Signature,
    /// It asks for extensions; identities come from credentials.
    #[error("csr: it has attributes; who the certificate is for is not the request's to say")]
    Attributes,
    /// The key is of another kind.
    #[error("csr: the key is none of ECDSA P-256, P-384, Ed25519, and RSA of 2048 to 4096 bits")]
    Key,
}

/// A public key whose owner has the private one.
#[derive(Clone, Debug)]
pub struct PublicKey(rcgen::SubjectPublicKeyInfo);

impl PublicKey {
    /// Of a request in DER.
    pub fn of_request(der: &[u8]) -> Result<Self, BadRequest> {
        if der.len() > REQUEST_BYTES_MAX {
            return Err(BadRequest::Malformed);
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| BadRequest::Malformed)?;
        if !rest.is_empty() {
            return Err(BadRequest::Malformed);
        }
        if !request.certification_request_info.attributes().is_empty() {
            return Err(BadRequest::Attributes);
        }
        let info = &request.certification_request_info.subject_pki;
        check_key(info)?;
        request.verify_signature().map_err(|_| BadRequest::Signature)?;
        rcgen::SubjectPublicKeyInfo::from_der(info.raw).map(Self).map_err(|_| BadRequest::Key)
    }

    /// Of a key of our own.
    pub fn of_key(key: &rcgen::KeyPair) -> Result<Self, BadRequest> {
        let info = key.subject_public_key_info();
        rcgen::SubjectPublicKeyInfo::from_der(&info).map(Self).map_err(|_| BadRequest::Key)
    }
}

fn check_key(info: &SubjectPublicKeyInfo<'_>) -> Result<(), BadRequest> {
    let good = match info.parsed().map_err(|_| BadRequest::Key)? {
        Parsed::RSA(key) => RSA_BITS.contains(&key.key_size()),
        Parsed::EC(point) => matches!(point.key_size(), 256 | 384),
        // Ed25519 is not one of the parser's kinds.
        Parsed::Unknown(bytes) => {
            info.algorithm.algorithm.to_id_string() == "1.3.101.112" && bytes.len() == 32
        }
        Parsed::DSA(_) | Parsed::GostR3410(_) | Parsed::GostR3410_2012(_) => false,
    };
    if good { Ok(()) } else { Err(BadRequest::Key) }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}
