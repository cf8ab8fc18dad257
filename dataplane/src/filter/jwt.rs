//! Tokens of end users (Envoy's JWT authentication filter): a request with one that is not good is refused, what a good one
//! says is told to filters and, where that is asked for, to the workload.

mod extract;
pub mod keys;
pub mod status;
#[cfg(test)]
mod tests;
pub mod token;

use std::{
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response,
    header::{ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, ORIGIN, WWW_AUTHENTICATE},
};
use metrics::{Counter, counter};
use serde_json::{Map, Value};

use super::{Exchange, Verdict, rbac::engine::Found};
use crate::{
    fault::{Cause, Details},
    router::matches,
    spec::{Audiences, Leniency, Location, Provider, Requirement, Tokens},
};
use status::Status;
use token::Token;

/// The name under which filters after this one look for what it found out, whatever it is called itself: Envoy's.
const METADATA: &str = "envoy.filters.http.jwt_authn";

/// Longest part of a path that a refusal repeats, bytes.
const REALM_BYTES_MAX: usize = 256;

/// Requests by what came of their tokens: `weft_token_checks_total`.
static CHECKS: LazyLock<[Counter; 3]> = LazyLock::new(|| {
    ["accepted", "missing", "refused"]
        .map(|outcome| counter!("weft_token_checks_total", "outcome" => outcome))
});

/// A good token.
#[derive(Debug)]
struct Accepted<'p> {
    provider: &'p Provider,
    location: &'p Location,
    /// As it was signed, base64url.
    payload: String,
    claims: Map<String, Value>,
}

/// A request, as far as tokens are concerned.
#[derive(Clone, Copy)]
struct Asked<'a> {
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    /// Seconds since 1970.
    now: u64,
}

/// Checks the tokens of a request.
pub(super) fn check(tokens: &Tokens, exchange: &mut Exchange<'_>) -> Verdict {
    let preflight = exchange.parts.method == Method::OPTIONS
        && [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD]
            .iter()
            .all(|name| exchange.parts.headers.contains_key(name));
    for name in tokens.providers.iter().flat_map(|provider| given(provider)) {
        exchange.parts.headers.remove(name);
    }
    if preflight && tokens.bypass_preflight {
        return Verdict::Pass;
    }
    let Some(view) = exchange.view() else { return Verdict::Fail(Cause::BadRequest.into()) };
    let rule = exchange
        .serving
        .worker
        .with_rng(|rng| tokens.rules.iter().find(|rule| matches(&rule.matches, &view, rng)));
    let Some(requirement) = rule.and_then(|rule| rule.requirement.as_ref()) else { return Verdict::Pass };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let asked = Asked { headers: &exchange.parts.headers, query: exchange.parts.uri.query(), now };
    let mut accepted = Vec::new();
    if let Err(status) = meets(requirement, asked, &mut accepted) {
        CHECKS[2].increment(1);
        return refuse(status, tokens.silent, exchange);
    }
    CHECKS[usize::from(accepted.is_empty())].increment(1);
    accepted.into_iter().for_each(|token| take_in(token, exchange));
    Verdict::Pass
}

/// Headers that only we may give.
fn given(provider: &Provider) -> impl Iterator<Item = &HeaderName> {
    provider.payload_header.iter().chain(provider.claim_headers.iter().map(|(name, _)| name))
}

/// Whether a request has what it needs; good tokens that were looked at on the way are told.
fn meets<'p>(
    requirement: &'p Requirement,
    asked: Asked<'_>,
    good: &mut Vec<Accepted<'p>>,
) -> Result<(), Status> {
    match requirement {
        Requirement::Provider(provider, audiences) => {
            let audiences = audiences.as_ref().unwrap_or(&provider.audiences);
            provided(provider, audiences, asked).map(|tokens| good.extend(tokens))
        }
        Requirement::All(all) => all.iter().try_for_each(|one| meets(one, asked, good)),
        Requirement::Any { of, leniency } => {
            let mut worst = Status::Missing;
            for one in of {
                match meets(one, asked, good) {
                    Ok(()) => return Ok(()),
                    // What is wrong with a token says more than that there is none, or none of this provider.
                    Err(status) => match (status, worst) {
                        (Status::Missing, _) => {}
                        (Status::UnknownIssuer, worst) if worst != Status::Missing => {}
                        (status, _) => worst = status,
                    },
                }
            }
            match leniency {
                Leniency::MissingOrFailed => Ok(()),
                Leniency::Missing if worst == Status::Missing => Ok(()),
                Leniency::Missing | Leniency::None => Err(worst),
            }
        }
    }
}

/// The tokens of a provider that a request has; all must be good and the same, and each at a place of its own: a workload
/// could look at another one than we did.
fn provided<'p>(
    provider: &'p Provider,
    audiences: &Audiences,
    asked: Asked<'_>,
) -> Result<Vec<Accepted<'p>>, Status> {
    let found = extract::tokens(provider, asked.headers, asked.query);
    let Some(first) = found.first() else { return Err(Status::Missing) };
    let clashes = |other: &extract::Extracted<'_>| {
        other.text != first.text || std::ptr::eq(other.location, first.location)
    };
    if found[1..].iter().any(clashes) {
        return Err(Status::Multiple);
    }
    let token = Token::parse(&first.text)?;
    token.check(provider, audiences, asked.now)?;
    let accepted = |of: &extract::Extracted<'p>| Accepted {
        provider,
        location: of.location,
        payload: token.payload.to_owned(),
        claims: token.claims.clone(),
    };
    Ok(found.iter().map(accepted).collect())
}

/// Tells the workload and other filters what a good token says.
fn take_in(token: Accepted<'_>, exchange: &mut Exchange<'_>) {
    let Accepted { provider, location, mut payload, claims } = token;
    let headers = &mut exchange.parts.headers;
    if !provider.forward {
        extract::remove(location, headers, &mut exchange.parts.uri);
        exchange.record.came_by(exchange.parts.uri.path_and_query());
    }
    if let Some(name) = &provider.payload_header {
        if provider.pad_payload {
            payload.extend(std::iter::repeat_n('=', (4 - payload.len() % 4) % 4));
        }
        if let Ok(value) = HeaderValue::try_from(payload) {
            headers.insert(name.clone(), value);
        }
    }
    for (name, path) in &provider.claim_headers {
        let value = at(&claims, path).and_then(text).filter(|text| !text.is_empty());
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(name.clone(), value);
        }
    }
    if let Some(key) = &provider.payload_in_metadata {
        let value = normalised(claims, provider);
        let known = &mut exchange.effects.metadata;
        known.retain(|found| *found.filter != *METADATA || found.key != *key);
        known.push(Found { filter: METADATA.into(), key: key.clone(), value });
    }
}

fn at<'c>(claims: &'c Map<String, Value>, path: &[std::sync::Arc<str>]) -> Option<&'c Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.get(&**first)?, |value, key| value.as_object()?.get(&**key))
}

/// A claim as the text of a header; what has parts is JSON in base64.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => match (number.as_u64(), number.as_f64()?) {
            (Some(whole), _) => Some(whole.to_string()),
            // Envoy's form of what is no whole number.
            (None, other) => Some(format!("{other:.6}")),
        },
        Value::Array(_) | Value::Object(_) => Some(STANDARD.encode(value.to_string())),
    }
}

/// With lists in the place of texts that are lists.
fn normalised(mut claims: Map<String, Value>, provider: &Provider) -> Value {
    for name in &provider.space_delimited {
        if let Some(value) = claims.get_mut(&**name)
            && let Value::String(text) = value
        {
            let words = text.split(' ').filter(|word| !word.is_empty());
            *value = words.map(|word| Value::String(word.to_owned())).collect();
        }
    }
    Value::Object(claims)
}

/// The answer to a request with a token that is not good (RFC 6750, 3).
fn refuse(status: Status, silent: bool, exchange: &Exchange<'_>) -> Verdict {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status.code();
    if !silent {
        *response.body_mut() = Bytes::from_static(status.text().as_bytes());
        let uri = &exchange.parts.uri;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.get(..REALM_BYTES_MAX).unwrap_or(path);
        let host = String::from_utf8_lossy(exchange.host.as_bytes());
        let error = if status == Status::Missing { "" } else { ", error=\"invalid_token\"" };
        let challenge = format!("Bearer realm=\"{}://{host}{path}\"{error}", exchange.scheme.as_str());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
    }
    Verdict::Answer(response, Details::Named(status.details()))
}
