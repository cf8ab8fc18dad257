//! How a proxy knows the control plane: by a root that it trusts, or by the hash of one in its join token; and by the id
//! that the control plane alone can have. Names of hosts do not count: addresses differ from platform to platform.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use weft_proto::spiffe::Principal;

use super::Svid;
use crate::tls::{names::Names, provider, secret::Authorities};

/// By what the control plane is known before there is an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// A root with this SHA-256, which the control plane shows.
    Hash([u8; 32]),
    /// One of these roots.
    Roots(Arc<Authorities>),
}

impl Pin {
    /// The hash within a join token.
    pub fn of_token(text: &str) -> Option<Self> {
        let hash = BASE64_URL_SAFE_NO_PAD.decode(text.trim().splitn(3, '.').nth(2)?).ok()?;
        hash.try_into().ok().map(Self::Hash)
    }
}

/// TLS to a control plane: shows `own` where it is valid, and believes what `own` or else `pin` trusts.
pub fn context(own: Option<&Svid>, pin: Option<&Pin>, now: SystemTime) -> Result<ClientConfig, Error> {
    let trusted = match (own, pin) {
        (Some(own), _) => Pin::Roots(own.trust.authorities.clone()),
        (None, Some(pin)) => pin.clone(),
        (None, None) => return Err(Error::General("nothing says which control plane to believe".to_owned())),
    };
    let domain = own.map(|own| own.id.trust_domain().to_owned());
    let config = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ControlPlane { trusted, domain }));
    let mut config = match own.filter(|own| own.is_valid(now)) {
        Some(own) => config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
            own.certificate.key.clone(),
        ))),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// Verifies a control plane.
#[derive(Debug)]
pub(super) struct ControlPlane {
    pub(super) trusted: Pin,
    /// Its trust domain, where that is known.
    pub(super) domain: Option<String>,
}

impl ControlPlane {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let refused = |error| Error::InvalidCertificate(error);
        let parsed = EndEntityCert::try_from(leaf).map_err(|_| refused(CertificateError::BadEncoding))?;
        let shown: Vec<TrustAnchor<'_>>;
        let anchors = match &self.trusted {
            Pin::Roots(roots) => roots.anchors.as_slice(),
            Pin::Hash(hash) => {
                let pinned = others.iter().filter(|other| Sha256::digest(other)[..] == hash[..]);
                shown = pinned.filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
                shown.as_slice()
            }
        };
        let algorithms = provider().signature_verification_algorithms.all;
        parsed
            .verify_for_usage(algorithms, anchors, others, now, KeyUsage::server_auth(), None, None)
            .map_err(|error| match error {
                webpki::Error::CertExpired { .. } => refused(CertificateError::Expired),
                webpki::Error::CertNotValidYet { .. } => refused(CertificateError::NotValidYet),
                _ => refused(CertificateError::UnknownIssuer),
            })?;
        let names = Names::of(leaf).map_err(|_| refused(CertificateError::BadEncoding))?;
        let known = |domain: &str| self.domain.as_deref().is_none_or(|own| own == domain);
        match names.spiffe() {
            Some(id) if id.principal() == Principal::ControlPlane && known(id.trust_domain()) => Ok(()),
            _ => Err(refused(CertificateError::NotValidForName)),
        }
    }
}

impl ServerCertVerifier for ControlPlane {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, others, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
