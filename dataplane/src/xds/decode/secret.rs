//! Secrets: certificates with their keys, and validation contexts. No refusal says anything of their content.

use std::{mem::take, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use weft_proto::xds::envoy::{
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret as RawSecret, SubjectAltNameMatcher, TlsCertificate,
        certificate_validation_context::TrustChainVerification, secret::Type,
        subject_alt_name_matcher::SanType,
    },
    r#type::matcher::v3::StringMatcher,
};

use super::{At, Refusal, matching, nothing_left, pass_over, required, tls::data};
use crate::{
    spec::{
        AuthoritiesSource, CertificateSource, Data, NameKind, NameMatch, RevocationsSource, Secret,
        Validation,
    },
    tls::{
        provider,
        secret::{Authorities, Certificate, Invalid, Revocations},
    },
};

/// Bytes of a SHA-256 digest.
const DIGEST_BYTES: usize = 32;

/// A secret, with its name.
pub(super) fn secret(mut raw: RawSecret) -> Result<(Arc<str>, Secret), Refusal> {
    let name = required(take(&mut raw.name), "name")?.into();
    let secret = match raw.r#type.take() {
        Some(Type::TlsCertificate(raw)) => Secret::Certificate(certificate(raw).at("tls_certificate")?),
        Some(Type::ValidationContext(raw)) => {
            Secret::Validation(Box::new(validation(raw).at("validation_context")?))
        }
        Some(Type::SessionTicketKeys(_)) => {
            return Err(Refusal::new("session_ticket_keys", "not supported by this proxy"));
        }
        Some(Type::GenericSecret(_)) => {
            return Err(Refusal::new("generic_secret", "not supported by this proxy"));
        }
        None => return Err(Refusal::new("type", "missing")),
    };
    Ok((name, secret))
}

/// A certificate with its key, parsed where both are there.
pub(super) fn certificate(mut raw: TlsCertificate) -> Result<CertificateSource, Refusal> {
    let part =
        |raw: Option<_>, field: &str| raw.ok_or_else(|| Refusal::new("", "missing")).and_then(data).at(field);
    let chain = part(raw.certificate_chain.take(), "certificate_chain")?;
    let key = part(raw.private_key.take(), "private_key")?;
    // Files are looked at by their content, whichever way that changes.
    pass_over!(raw: watched_directory);
    nothing_left(&raw)?;
    match (chain, key) {
        (Data::Inline(chain), Data::Inline(key)) => {
            let parsed = Certificate::parse(&chain, &key, provider()).map_err(invalid)?;
            Ok(CertificateSource::Parsed(Arc::new(parsed)))
        }
        (chain, key) => Ok(CertificateSource::Files { chain, key }),
    }
}

/// A validation context.
pub(super) fn validation(mut raw: CertificateValidationContext) -> Result<Validation, Refusal> {
    let authorities = match (raw.trusted_ca.take(), raw.system_root_certs.take()) {
        (None, None) => None,
        (None, Some(_)) => Some(AuthoritiesSource::System),
        (Some(given), None) => Some(match data(given).at("trusted_ca")? {
            Data::Inline(pem) => {
                AuthoritiesSource::Parsed(Arc::new(Authorities::parse(&pem).map_err(invalid)?))
            }
            Data::File(path) => AuthoritiesSource::File(path),
        }),
        (Some(_), Some(_)) => {
            return Err(Refusal::new("system_root_certs", "trusted_ca is given too; keep one"));
        }
    };
    let revocations = match raw.crl.take().map(data).transpose().at("crl")? {
        None => None,
        Some(Data::Inline(pem)) => {
            Some(RevocationsSource::Parsed(Arc::new(Revocations::parse(&pem).map_err(invalid)?)))
        }
        Some(Data::File(path)) => Some(RevocationsSource::File(path)),
    };
    let accept_untrusted = match TrustChainVerification::try_from(take(&mut raw.trust_chain_verification)) {
        Ok(TrustChainVerification::VerifyTrustChain) => false,
        Ok(TrustChainVerification::AcceptUntrusted) => true,
        Err(_) => return Err(Refusal::new("trust_chain_verification", "an unknown value")),
    };
    let mut names = Vec::new();
    for (i, matcher) in take(&mut raw.match_typed_subject_alt_names).into_iter().enumerate() {
        names.push(typed_name(matcher).at_index("match_typed_subject_alt_names", i)?);
    }
    for (i, matcher) in take(&mut raw.match_subject_alt_names).into_iter().enumerate() {
        names.extend(any_name(matcher).at_index("match_subject_alt_names", i)?);
    }
    let validation = Validation {
        authorities,
        accept_untrusted,
        hide_authorities: take(&mut raw.suppress_client_ca_list),
        revocations,
        revocations_of_leaf_only: take(&mut raw.only_verify_leaf_cert_crl),
        depth_max: raw.max_verify_depth.take().map(|max| max.value),
        names,
        certificate_pins: pins(take(&mut raw.verify_certificate_hash), hexadecimal)
            .at("verify_certificate_hash")?,
        key_pins: pins(take(&mut raw.verify_certificate_spki), |text| BASE64_STANDARD.decode(text).ok())
            .at("verify_certificate_spki")?,
    };
    pass_over!(raw: watched_directory);
    nothing_left(&raw)?;
    Ok(validation)
}

fn invalid(error: Invalid) -> Refusal {
    Refusal::new(error.part, error.problem)
}

fn typed_name(mut raw: SubjectAltNameMatcher) -> Result<NameMatch, Refusal> {
    let kind = match SanType::try_from(take(&mut raw.san_type)) {
        Ok(SanType::Email) => NameKind::Email,
        Ok(SanType::Dns) => NameKind::Dns,
        Ok(SanType::Uri) => NameKind::Uri,
        Ok(SanType::IpAddress) => NameKind::Ip,
        Ok(SanType::Unspecified | SanType::OtherName) | Err(_) => {
            return Err(Refusal::new("san_type", "not supported by this proxy"));
        }
    };
    let matcher = raw.matcher.take().ok_or_else(|| Refusal::new("matcher", "missing"))?;
    let value = matching::string(matcher).at("matcher")?;
    nothing_left(&raw)?;
    Ok(NameMatch { kind, value })
}

/// The older form: a name of any kind.
fn any_name(raw: StringMatcher) -> Result<Vec<NameMatch>, Refusal> {
    let value = matching::string(raw)?;
    let kinds = [NameKind::Dns, NameKind::Uri, NameKind::Email, NameKind::Ip];
    Ok(kinds.map(|kind| NameMatch { kind, value: value.clone() }).into())
}

fn pins(
    given: Vec<String>,
    read: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Vec<[u8; DIGEST_BYTES]>, Refusal> {
    let pin = |text: &String| read(text).and_then(|bytes| bytes.try_into().ok());
    let pin = |text| pin(text).ok_or_else(|| Refusal::new("", "not a SHA-256 digest"));
    given.iter().map(pin).collect()
}

/// With or without colons.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16).and_then(|d| d.try_into().ok())).collect();
    let digits = digits?;
    (digits.len() % 2 == 0).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
