//! Certificates and contexts for tests.

use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::ServerName;

use super::{
    client::ClientContext,
    provider,
    secret::{Authorities, Certificate, Revocations},
    server::ServerContext,
    store::{Material, Secrets},
};
use crate::spec::{
    AuthoritiesSource, CertificateSource, DownstreamTls, RevocationsSource, SecretRef, Sni, TlsCommon,
    UpstreamTls, Validation, ValidationRef,
};

pub(crate) const BOTH: [ExtendedKeyUsagePurpose; 2] =
    [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

/// An authority.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its own certificate and those above it, but for the root's.
    chain: String,
}

/// What a leaf is to say.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) uris: Vec<&'static str>,
    pub(crate) dns: Vec<&'static str>,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    /// First and last year.
    pub(crate) years: (i32, i32),
    pub(crate) serial: u64,
}

impl Default for Leaf {
    fn default() -> Self {
        Self { uris: Vec::new(), dns: Vec::new(), usages: BOTH.to_vec(), years: (2020, 2100), serial: 1 }
    }
}

/// A leaf that names these.
pub(crate) fn spiffe(uri: &'static str) -> Leaf {
    Leaf { uris: vec![uri], ..Leaf::default() }
}

/// A server's leaf.
pub(crate) fn dns(name: &'static str) -> Leaf {
    Leaf { dns: vec![name], ..Leaf::default() }
}

/// PEM of a leaf with its chain, and of its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Issued {
    pub(crate) fn certificate(&self) -> Arc<Certificate> {
        Arc::new(Certificate::parse(self.chain.as_bytes(), self.key.as_bytes(), provider()).unwrap())
    }
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap();
        Self { issuer, chain: String::new() }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(authority(name), key, &self.issuer).unwrap();
        let chain = format!("{}{}", issuer.pem(), self.chain);
        Self { issuer, chain }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's own certificate, shown as if it were a leaf.
    pub(crate) fn itself(&self) -> Issued {
        Issued { chain: self.pem(), key: self.issuer.key().serialize_pem() }
    }

    pub(crate) fn issue(&self, leaf: &Leaf) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params(leaf).signed_by(&key, &self.issuer).unwrap();
        Issued { chain: format!("{}{}", certificate.pem(), self.chain), key: key.serialize_pem() }
    }

    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    pub(crate) fn trusted(&self) -> Validation {
        let authorities = Arc::new(Authorities::parse(self.pem().as_bytes()).unwrap());
        Validation { authorities: Some(AuthoritiesSource::Parsed(authorities)), ..Validation::default() }
    }
}

pub(crate) fn self_signed(leaf: &Leaf) -> Issued {
    let key = KeyPair::generate().unwrap();
    Issued { chain: params(leaf).self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn params(leaf: &Leaf) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.distinguished_name.push(DnType::OrganizationName, "Weft, \"tests\"");
    let uris = leaf.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
    let dns = leaf.dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
    params.subject_alt_names = uris.chain(dns).collect();
    params.extended_key_usages.clone_from(&leaf.usages);
    params.not_before = date_time_ymd(leaf.years.0, 1, 1);
    params.not_after = date_time_ymd(leaf.years.1, 1, 1);
    params.serial_number = Some(SerialNumber::from(leaf.serial));
    params
}

pub(crate) fn revocations(pem: &str) -> RevocationsSource {
    RevocationsSource::Parsed(Arc::new(Revocations::parse(pem.as_bytes()).unwrap()))
}

pub(crate) fn common(certificates: &[&Issued], validation: Option<Validation>) -> TlsCommon {
    let given = |issued: &&Issued| SecretRef::Given(CertificateSource::Parsed(issued.certificate()));
    TlsCommon {
        provider: provider().clone(),
        versions: rustls::DEFAULT_VERSIONS.to_vec(),
        certificates: certificates.iter().map(given).collect(),
        validation: validation.map(|given| ValidationRef { given, named: None }),
        alpn: Vec::new(),
    }
}

pub(crate) fn downstream(certificates: &[&Issued], validation: Option<Validation>) -> DownstreamTls {
    DownstreamTls {
        require_client_certificate: validation.is_some(),
        common: common(certificates, validation),
        require_sni: false,
        resumption: true,
        handshake_timeout: Duration::from_secs(5),
        digest: rand::random(),
    }
}

pub(crate) fn upstream(certificates: &[&Issued], validation: Option<Validation>) -> UpstreamTls {
    UpstreamTls {
        common: common(certificates, validation),
        sni: Sni::Name(ServerName::try_from("a.test").unwrap()),
        verify_sni: false,
        sessions_max: 8,
        digest: rand::random(),
    }
}

pub(crate) fn server(tls: &DownstreamTls) -> ServerContext {
    let material = Material::resolve(&tls.common, &Secrets::default()).unwrap();
    ServerContext::new(tls, material).unwrap()
}

pub(crate) fn client(tls: &UpstreamTls) -> ClientContext {
    let material = Material::resolve(&tls.common, &Secrets::default()).unwrap();
    ClientContext::new(tls, material).unwrap()
}
