//! `RequestAuthentication`: which tokens of end users some workloads take, and where they find them. Istio's fields.

use std::{sync::Arc, time::Duration};

use super::{
    jwks,
    problem::Report,
    reader::{At, Object},
    target::{self, Scope},
    values::{changed_header, header_value},
};

/// Most rules of one document.
const RULES_MAX: usize = 100;
/// How long a fetch of keys may take where a rule does not say: Istio's default.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Where an issuer says what its keys are (OpenID Connect Discovery 1.0, 4).
const DISCOVERY: &str = ".well-known/openid-configuration";

/// Tokens that some workloads take.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestAuthentication {
    /// Where it holds.
    pub scope: Scope,
    /// One for each issuer or place.
    pub rules: Vec<JwtRule>,
}

/// Tokens of one issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtRule {
    /// `iss`.
    pub issuer: Arc<str>,
    /// One of these must be in `aud`; none is any.
    pub audiences: Vec<Arc<str>>,
    /// What signs them.
    pub keys: KeySource,
    /// Headers, lower case, with what stands before the token there.
    pub from_headers: Vec<(Arc<str>, Arc<str>)>,
    /// Parameters of the query.
    pub from_params: Vec<Arc<str>>,
    /// Cookies.
    pub from_cookies: Vec<Arc<str>>,
    /// Header that tells the workload the claims, base64url.
    pub payload_header: Option<Arc<str>>,
    /// Headers that tell the workload single claims, each by the names that lead to it with dots between.
    pub claim_headers: Vec<(Arc<str>, Arc<str>)>,
    /// Whether the workload gets the token.
    pub forward: bool,
    /// Claims that are lists with spaces between, besides `scope` and `permission`.
    pub space_delimited: Vec<Arc<str>>,
    /// How long a fetch of its keys may take.
    pub timeout: Duration,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// Here: a key set (RFC 7517).
    Inline(Arc<str>),
    /// At a URL: a key set, or the issuer's description, which names one.
    Url(Arc<str>),
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<RequestAuthentication> {
    let mut object = spec.object(report)?;
    let scope = target::scope(&mut object, report);
    let items = object.list("jwtRules", report);
    if items.len() > RULES_MAX {
        spec.fail(report, format!("more than {RULES_MAX} rules"), "write several documents");
    }
    let rules = items.iter().filter_map(|at| rule(at, report)).collect();
    object.finish(report);
    Some(RequestAuthentication { scope, rules })
}

fn rule(at: &At<'_>, report: &mut Report) -> Option<JwtRule> {
    let mut object = at.object(report)?;
    let issuer_at = object.required("issuer", report);
    let issuer = issuer_at.as_ref().and_then(|at| filled(at, report));
    let audiences = texts(&mut object, "audiences", report);
    let keys = keys(&mut object, issuer_at.as_ref().zip(issuer.as_deref()), report);
    let headers = object.list("fromHeaders", report);
    let from_headers = headers.iter().filter_map(|at| from_header(at, report)).collect();
    let from_params = texts(&mut object, "fromParams", report);
    let from_cookies = texts(&mut object, "fromCookies", report);
    let payload_header = object.field("outputPayloadToHeader", report).and_then(|at| header(&at, report));
    let claims = object.list("outputClaimToHeaders", report);
    let claim_headers = claims.iter().filter_map(|at| claim_header(at, report)).collect();
    let forward = object.field("forwardOriginalToken", report).and_then(|at| at.boolean(report));
    let space_delimited = texts(&mut object, "spaceDelimitedClaims", report);
    let timeout = object.field("timeout", report).and_then(|at| at.duration_above_zero(report));
    object.finish(report);
    Some(JwtRule {
        issuer: issuer?,
        audiences,
        keys: keys?,
        from_headers,
        from_params,
        from_cookies,
        payload_header,
        claim_headers,
        forward: forward.unwrap_or_default(),
        space_delimited,
        timeout: timeout.unwrap_or(FETCH_TIMEOUT),
    })
}

fn keys(object: &mut Object<'_>, issuer: Option<(&At<'_>, &str)>, report: &mut Report) -> Option<KeySource> {
    let inline = object.field("jwks", report);
    let uri = object.field("jwksUri", report).or_else(|| object.field("jwks_uri", report));
    match (inline, uri) {
        (Some(at), Some(_)) => {
            at.fail(report, "keys are given here and by jwksUri", "give one of the two");
            None
        }
        (Some(at), None) => {
            let text = at.text(report)?;
            match jwks::check(&text) {
                Ok(()) => Some(KeySource::Inline(text)),
                Err(problem) => {
                    at.fail(report, problem, "a JSON object with \"keys\" (RFC 7517)");
                    None
                }
            }
        }
        (None, Some(at)) => {
            let url = at.text(report)?;
            if let Err(problem) = jwks::check_url(&url) {
                at.fail(report, problem, "write it like https://issuer.example/keys");
                return None;
            }
            Some(KeySource::Url(url))
        }
        (None, None) => {
            let (at, issuer) = issuer?;
            if jwks::check_url(issuer).is_err() {
                at.fail(
                    report,
                    "there are no keys, and the issuer is no URL that tells them",
                    "add jwks or jwksUri",
                );
                return None;
            }
            Some(KeySource::Url(format!("{}/{DISCOVERY}", issuer.trim_end_matches('/')).into()))
        }
    }
}

fn from_header(at: &At<'_>, report: &mut Report) -> Option<(Arc<str>, Arc<str>)> {
    let mut object = at.object(report)?;
    let name = object.required("name", report).and_then(|at| header(&at, report));
    let prefix = object.field("prefix", report).and_then(|at| header_value(&at, report));
    object.finish(report);
    Some((name?, prefix.unwrap_or_default()))
}

fn claim_header(at: &At<'_>, report: &mut Report) -> Option<(Arc<str>, Arc<str>)> {
    let mut object = at.object(report)?;
    let name = object.required("header", report).and_then(|at| header(&at, report));
    let claim = object.required("claim", report).and_then(|at| filled(&at, report));
    object.finish(report);
    Some((name?, claim?))
}

fn header(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let name = at.located(report)?;
    changed_header(&name, report)
}

fn texts(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Vec<Arc<str>> {
    let items = object.list(name, report);
    items.iter().filter_map(|at| filled(at, report)).collect()
}

fn filled(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    if text.is_empty() {
        at.fail(report, "is empty", "");
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests;
