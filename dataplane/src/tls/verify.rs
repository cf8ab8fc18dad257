//! Whether to believe a peer's certificate: chain and validity by webpki, then revocation, pins and names. Pure but for the
//! time, which rustls passes in.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use sha2::{Digest, Sha256};
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};

use super::{
    names::Names,
    secret::{Authorities, Revocations},
};
use crate::{
    router,
    spec::{NameKind, NameMatch, ValueMatch},
};

/// A validation context with everything that it names.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The chain must end at one of these; none is any chain.
    pub authorities: Option<Arc<Authorities>>,
    /// See `spec::Validation::accept_untrusted`.
    pub accept_untrusted: bool,
    /// Clients are not told which authorities are trusted.
    pub hide_authorities: bool,
    /// Revocation lists.
    pub revocations: Option<Arc<Revocations>>,
    /// Only the leaf is looked up in them.
    pub revocations_of_leaf_only: bool,
    /// Most intermediate certificates.
    pub depth_max: Option<u32>,
    /// Names, one of which must match.
    pub names: Vec<NameMatch>,
    /// SHA-256 of accepted leaves.
    pub certificate_pins: Vec<[u8; 32]>,
    /// SHA-256 of accepted public keys.
    pub key_pins: Vec<[u8; 32]>,
}

impl Trust {
    /// Whether what passes is verified: it is of a trusted authority, or pinned.
    pub fn proves(&self) -> bool {
        let pinned = !self.certificate_pins.is_empty() || !self.key_pins.is_empty();
        pinned || (self.authorities.is_some() && !self.accept_untrusted)
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: KeyUsage,
        algorithms: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = EndEntityCert::try_from(leaf).map_err(refused)?;
        if let Some(authorities) = self.authorities.as_ref().filter(|_| !self.accept_untrusted) {
            self.check_chain(&parsed, others, usage, algorithms, now, authorities)?;
        }
        self.check_pins(leaf, &parsed)?;
        if self.authorities.is_some() || !self.names.is_empty() {
            let names = Names::of(leaf).map_err(|_| CertificateError::BadEncoding)?;
            self.check_names(&names)?;
        }
        Ok(())
    }

    fn check_chain(
        &self,
        leaf: &EndEntityCert<'_>,
        others: &[CertificateDer<'_>],
        usage: KeyUsage,
        algorithms: &WebPkiSupportedAlgorithms,
        now: UnixTime,
        authorities: &Authorities,
    ) -> Result<(), Error> {
        let lists: Vec<_> = self.revocations.iter().flat_map(|all| &all.lists).collect();
        let depth = if self.revocations_of_leaf_only {
            RevocationCheckDepth::EndEntity
        } else {
            RevocationCheckDepth::Chain
        };
        // As in Envoy: with any list given, an issuer without one and a list out of date are refused.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(depth)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let path = leaf
            .verify_for_usage(algorithms.all, &authorities.anchors, others, now, usage, revocation, None)
            .map_err(refused)?;
        let depth = path.intermediate_certificates().count();
        if self.depth_max.is_some_and(|max| depth > max as usize) {
            return Err(refused(webpki::Error::MaximumPathDepthExceeded));
        }
        Ok(())
    }

    /// One pin of either kind is enough.
    fn check_pins(&self, leaf: &CertificateDer<'_>, parsed: &EndEntityCert<'_>) -> Result<(), Error> {
        if self.certificate_pins.is_empty() && self.key_pins.is_empty() {
            return Ok(());
        }
        let digest = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(bytes).into() };
        let pinned = self.certificate_pins.contains(&digest(leaf))
            || self.key_pins.contains(&digest(&parsed.subject_public_key_info()));
        if pinned { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }

    fn check_names(&self, names: &Names) -> Result<(), Error> {
        let matched = self.names.is_empty() || self.names.iter().any(|wanted| is_named(wanted, names));
        if names.is_false_svid() || !matched {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(())
    }
}

fn is_named(wanted: &NameMatch, names: &Names) -> bool {
    let is = |text: &String| router::value_matches(&wanted.value, text.as_bytes());
    match wanted.kind {
        NameKind::Uri => names.uris.iter().any(is),
        NameKind::Email => names.emails.iter().any(is),
        NameKind::Ip => names.ips.iter().any(|ip| is(&ip.to_string())),
        NameKind::Dns => names.dns.iter().any(|name| match (&wanted.value, name.strip_prefix("*.")) {
            (ValueMatch::Exact { text, .. }, Some(suffix)) => {
                text.split_once('.')
                    .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(suffix))
                    || is(name)
            }
            // DNS names have no case.
            (ValueMatch::Exact { text, .. }, None) => text.eq_ignore_ascii_case(name),
            _ => is(&name.to_ascii_lowercase()),
        }),
    }
}

/// webpki's errors as rustls tells them, which decides the alert that the peer gets.
fn refused(error: webpki::Error) -> Error {
    use webpki::Error::{
        BadDer, BadDerTime, CertExpired, CertNotValidForName, CertNotValidYet, CertRevoked, CrlExpired,
        InvalidCertValidity, InvalidSignatureForPublicKey, RequiredEkuNotFoundContext, TrailingData,
        UnknownIssuer, UnknownRevocationStatus,
    };
    Error::InvalidCertificate(match error {
        BadDer | BadDerTime | TrailingData(_) => CertificateError::BadEncoding,
        CertExpired { .. } | InvalidCertValidity => CertificateError::Expired,
        CertNotValidYet { .. } => CertificateError::NotValidYet,
        CertNotValidForName(_) => CertificateError::NotValidForName,
        CertRevoked => CertificateError::Revoked,
        UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        InvalidSignatureForPublicKey => CertificateError::BadSignature,
        RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        UnknownIssuer => CertificateError::UnknownIssuer,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

/// Verifies servers for our connections to endpoints.
#[derive(Debug)]
pub struct Servers {
    trust: Trust,
    name_too: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Servers {
    /// With `name_too` the certificate must also be for the name that was asked for.
    pub fn new(trust: Trust, name_too: bool, provider: &CryptoProvider) -> Self {
        Self { trust, name_too, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.trust.check(leaf, others, KeyUsage::server_auth(), &self.algorithms, now)?;
        if self.name_too {
            let parsed = EndEntityCert::try_from(leaf).map_err(refused)?;
            parsed.verify_is_valid_for_subject_name(server_name).map_err(refused)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies clients of our listeners.
#[derive(Debug)]
pub struct Clients {
    trust: Trust,
    required: bool,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    /// With `required` a client without a certificate is refused.
    pub fn new(trust: Trust, required: bool, provider: &CryptoProvider) -> Self {
        let told = trust.authorities.as_ref().filter(|_| !trust.hide_authorities);
        let hints = told.map_or_else(Vec::new, |authorities| authorities.hints.clone());
        Self { trust, required, hints, algorithms: provider.signature_verification_algorithms }
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.check(leaf, others, KeyUsage::client_auth(), &self.algorithms, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
