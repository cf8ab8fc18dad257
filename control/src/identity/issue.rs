//! Certificates as they are made: roots, intermediates, and leaves for proven identities. Pure but for the randomness of
//! keys and serial numbers, which the cryptographic library draws by itself.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use weft_proto::spiffe::SpiffeId;

use super::request::PublicKey;

/// Life of a built-in root.
pub const ROOT_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Life of a built-in intermediate.
pub const INTERMEDIATE_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Life of a workload's certificate where nobody says.
pub const LEAF_LIFE_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// How far certificates begin in the past, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Bytes of a serial number; the first bit is never set, since the number is positive.
const SERIAL_BYTES: usize = 16;

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The library refused.
    #[error("{0}")]
    Library(#[from] rcgen::Error),
    /// The authority is expired, so that nothing that it signs would be believed.
    #[error("the certificate authority has expired; give it a new certificate")]
    Expired,
    /// The certificate does not say when it ends.
    #[error("a certificate of the authority cannot be read")]
    Unreadable,
}

/// An authority's certificate with its key. Never printed.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    begins: SystemTime,
    expires: SystemTime,
}

impl Signer {
    /// A new root with a new key.
    pub fn root(domain: &str, now: SystemTime, life: Duration) -> Result<Self, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = authority(&format!("{domain} root"), BasicConstraints::Constrained(1), now, now + life);
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate, begins: now, expires: now + life })
    }

    /// A new intermediate with a new key, which lives no longer than its root.
    pub fn intermediate(&self, domain: &str, now: SystemTime, life: Duration) -> Result<Self, IssueError> {
        let expires = (now + life).min(self.expires);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let name = format!("{domain} intermediate");
        let params = authority(&name, BasicConstraints::Constrained(0), now, expires);
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate, begins: now, expires })
    }

    /// From what was kept; an error names what is wrong with it, and nothing of the key.
    pub fn from_parts(certificate: CertificateDer<'static>, key_pem: &str) -> Result<Self, IssueError> {
        let key = KeyPair::from_pem(key_pem)?;
        let (begins, expires) = validity(&certificate).ok_or(IssueError::Unreadable)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { issuer, certificate, begins, expires })
    }

    /// A certificate for a public key and a proven identity, and nothing else.
    pub fn leaf(
        &self,
        key: &PublicKey,
        id: &SpiffeId,
        now: SystemTime,
        life: Duration,
    ) -> Result<CertificateDer<'static>, IssueError> {
        if self.expires <= now {
            return Err(IssueError::Expired);
        }
        let mut params = dated(now, (now + life).min(self.expires));
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer)?.der().clone())
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The key, for the disk alone.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Whether a key is the certificate's own.
    pub fn is_consistent(&self) -> bool {
        let parsed = x509_parser::parse_x509_certificate(&self.certificate);
        parsed.is_ok_and(|(_, parsed)| {
            let public = rcgen::PublicKeyData::subject_public_key_info(self.issuer.key());
            parsed.is_ca() && parsed.public_key().raw == public.as_slice()
        })
    }

    /// When it begins and ends.
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        (self.begins, self.expires)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// When a certificate begins and ends.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let at =
        |seconds: i64| u64::try_from(seconds).ok().map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
    let validity = parsed.validity();
    Some((at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?))
}

fn authority(
    name: &str,
    constraints: BasicConstraints,
    now: SystemTime,
    expires: SystemTime,
) -> CertificateParams {
    let mut params = dated(now, expires);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Weft");
    // The number keeps authorities of one name apart, for those who look for issuers by name.
    let number: u32 = rand::random();
    params.distinguished_name.push(DnType::CommonName, format!("{name} {number:08x}"));
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn dated(now: SystemTime, expires: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = now.checked_sub(BACKDATE).unwrap_or(SystemTime::UNIX_EPOCH).into();
    params.not_after = expires.into();
    let mut serial: [u8; SERIAL_BYTES] = rand::random();
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}
