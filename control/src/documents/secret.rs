//! `Secret` (v1): certificates with their keys, and authorities, for gateways. Its values never leave it but for the
//! proxies that may have them: whoever shows a document shows [`redacted`].

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{
    problem::Report,
    reader::{At, Located, Object, nearest},
};

/// Kind in keys.
pub const KIND: &str = "Secret";
/// Keys that mean the same: the certificate chain, its private key, authorities, revocation lists.
const CHAIN: [&str; 2] = ["tls.crt", "cert"];
const KEY: [&str; 2] = ["tls.key", "key"];
const AUTHORITIES: [&str; 2] = ["ca.crt", "cacert"];
const REVOCATIONS: [&str; 2] = ["ca.crl", "crl"];

/// The name of the secret that may hold the authorities of another one, as Istio has it.
pub fn beside(name: &str) -> String {
    format!("{name}-cacert")
}

/// Certificates for gateways.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    /// Certificate chain, leaf first, and its private key; PEM.
    pub certificate: Option<(Sensitive, Sensitive)>,
    /// Trusted authorities, PEM.
    pub authorities: Option<Sensitive>,
    /// Revocation lists, PEM.
    pub revocations: Option<Sensitive>,
}

/// Bytes that nobody prints.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sensitive(Arc<[u8]>);

impl Sensitive {
    /// Of a text.
    pub(super) fn of(text: &str) -> Self {
        Self(text.as_bytes().into())
    }

    /// The bytes.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, not shown", self.0.len())
    }
}

/// A value with the place of its key.
struct Entry {
    key: Located,
    value: Sensitive,
}

/// Reads what is beside `metadata`.
pub(super) fn read(object: &mut Object<'_>, report: &mut Report) -> Option<Secret> {
    let kind = object.field("type", report);
    let kind_text = kind.as_ref().and_then(|at| at.text(report));
    if let (Some(at), Some(text)) = (&kind, &kind_text)
        && !matches!(&**text, "kubernetes.io/tls" | "Opaque" | "")
    {
        at.fail(report, format!("type {text:?} is not supported"), "kubernetes.io/tls or Opaque");
    }
    object.field("immutable", report).and_then(|at| at.boolean(report));
    let mut entries = Vec::new();
    if let Some(at) = object.field("data", report) {
        for (key, value) in at.entries(report) {
            entries.extend(encoded(&value, report).map(|value| Entry { key, value }));
        }
    }
    if let Some(at) = object.field("stringData", report) {
        for (key, value) in at.entries(report) {
            let text = value.text(report);
            // What is written in plain takes the place of what is encoded, as in Kubernetes.
            entries.retain(|entry: &Entry| entry.key.text != key.text);
            entries.extend(text.map(|text| Entry { key, value: Sensitive::of(&text) }));
        }
    }
    let known: Vec<&str> = [CHAIN, KEY, AUTHORITIES, REVOCATIONS].concat();
    for Entry { key, .. } in entries.iter().filter(|entry| !known.contains(&&*entry.key.text)) {
        let hint = nearest(&key.text, &known);
        report.error(key.place, &key.field, format!("{} is not used by proxies", key.text), hint);
    }
    let take = |names: [&str; 2], report: &mut Report| {
        let found: Vec<&Entry> = entries.iter().filter(|entry| names.contains(&&*entry.key.text)).collect();
        if let [_, second, ..] = found.as_slice() {
            let message = format!("{} and {} mean the same", names[0], names[1]);
            report.error(second.key.place, &second.key.field, message, "keep one");
        }
        found.first().map(|entry| (entry.key.clone(), entry.value.clone()))
    };
    let (chain, key) = (take(CHAIN, report), take(KEY, report));
    let (authorities, revocations) = (take(AUTHORITIES, report), take(REVOCATIONS, report));
    let certificate = certificate(chain, key, object, report);
    let authorities = authorities.and_then(|entry| self::authorities(entry, report));
    let revocations = revocations.and_then(|entry| self::revocations(entry, report));
    if kind_text.as_deref() == Some("kubernetes.io/tls") && certificate.is_none() && report.is_clean() {
        report.error(object.place, "data", "tls.crt and tls.key are missing", "add both");
    }
    Some(Secret { certificate, authorities, revocations })
}

fn encoded(at: &At<'_>, report: &mut Report) -> Option<Sensitive> {
    let text = at.text(report)?;
    let compact: String = text.split_whitespace().collect();
    match BASE64_STANDARD.decode(compact) {
        Ok(bytes) => Some(Sensitive(bytes.into())),
        Err(_) => {
            at.fail(report, "is not base64", "write plain text under stringData");
            None
        }
    }
}

/// A value with the place of its key.
pub(super) type Value = (Located, Sensitive);

fn certificate(
    chain: Option<Value>,
    key: Option<Value>,
    object: &Object<'_>,
    report: &mut Report,
) -> Option<(Sensitive, Sensitive)> {
    let ((chain_at, chain), (key_at, key)) = match (chain, key) {
        (Some(chain), Some(key)) => (chain, key),
        (None, None) => return None,
        (Some((at, _)), None) | (None, Some((at, _))) => {
            let missing = if CHAIN.contains(&&*at.text) { KEY[0] } else { CHAIN[0] };
            report.error(object.place, &at.field, format!("{missing} is missing"), "both belong together");
            return None;
        }
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.reveal()).collect();
    let certificates = found.ok().filter(|found| !found.is_empty());
    let Some(certificates) = certificates else {
        report.error(chain_at.place, &chain_at.field, "holds no PEM certificate", "");
        return None;
    };
    // No error of a parser is passed on: it might quote the key.
    let Ok(private) = PrivateKeyDer::from_pem_slice(key.reveal()) else {
        report.error(
            key_at.place,
            &key_at.field,
            "holds no PEM private key",
            "PKCS#8, PKCS#1 or SEC1, not encrypted",
        );
        return None;
    };
    match CertifiedKey::from_der(certificates, private, &aws_lc_rs::default_provider()) {
        Ok(_) => Some((chain, key)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            report.error(key_at.place, &key_at.field, "does not belong to the certificate", "");
            None
        }
        Err(_) => {
            let hint = "RSA, ECDSA P-256, P-384, P-521 or Ed25519";
            report.error(key_at.place, &key_at.field, "is not a key that proxies support", hint);
            None
        }
    }
}

/// Authorities, where they are some.
pub(super) fn authorities(entry: Value, report: &mut Report) -> Option<Sensitive> {
    checked(entry, authorities_problem, report)
}

/// Revocation lists, where they are some.
pub(super) fn revocations(entry: Value, report: &mut Report) -> Option<Sensitive> {
    checked(entry, revocations_problem, report)
}

fn checked(
    (at, value): Value,
    problem: fn(&[u8]) -> Option<&'static str>,
    report: &mut Report,
) -> Option<Sensitive> {
    match problem(value.reveal()) {
        None => Some(value),
        Some(problem) => {
            report.error(at.place, &at.field, problem, "");
            None
        }
    }
}

fn authorities_problem(pem: &[u8]) -> Option<&'static str> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Some("holds no PEM certificate"),
        Ok(found) => {
            let usable = found.iter().all(|der| webpki::anchor_from_trusted_cert(der).is_ok());
            (!usable).then_some("holds a certificate that is no authority")
        }
        Err(_) => Some("holds no PEM certificate"),
    }
}

fn revocations_problem(pem: &[u8]) -> Option<&'static str> {
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let some = found.is_ok_and(|found| !found.is_empty());
    (!some).then_some("holds no PEM revocation list")
}

/// The text of a document as it may be shown: of a Secret only its name, and which values it holds.
pub fn redacted(kind: &str, yaml: &str) -> String {
    if kind != KIND {
        return yaml.to_owned();
    }
    let (found, _) = super::parse(yaml, "", 1);
    let Some(super::Document { namespace, name, spec: super::DocumentSpec::Secret(secret), .. }) =
        found.first()
    else {
        return "# a Secret that cannot be read; its text is not shown\n".to_owned();
    };
    let mut text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\nstringData:\n"
    );
    let parts = [
        (CHAIN[0], secret.certificate.as_ref().map(|(chain, _)| chain)),
        (KEY[0], secret.certificate.as_ref().map(|(_, key)| key)),
        (AUTHORITIES[0], secret.authorities.as_ref()),
        (REVOCATIONS[0], secret.revocations.as_ref()),
    ];
    for (key, value) in parts.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        text.push_str(&format!("  {key}: ({value:?})\n"));
    }
    text
}
