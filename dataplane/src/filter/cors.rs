//! Cross-origin resource sharing: answers preflights, and tells browsers who may read an answer.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Response,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    },
};

use super::{Exchange, Verdict};
use crate::{
    fault::Details,
    router::value_matches,
    spec::{Cors, Route, RouteAction, ValueMatch},
};

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
/// What an answer to a preflight is called.
const DETAILS: Details = Details::Fixed("cors_response");
const YES: HeaderValue = HeaderValue::from_static("true");

pub(super) fn check(policy: Option<&Cors>, exchange: &mut Exchange<'_>) -> Verdict {
    // As in Envoy a policy is for what is sent to a cluster, not for redirects and fixed answers.
    let forwards = |route: &Route| matches!(route.action, RouteAction::Forward(_));
    if !exchange.route.is_some_and(forwards) {
        return Verdict::Pass;
    }
    let headers = &exchange.parts.headers;
    let (Some(policy), Some(origin)) = (policy, headers.get(ORIGIN)) else { return Verdict::Pass };
    if origin.is_empty() {
        return Verdict::Pass;
    }
    let asked = |name| headers.get(name).is_some_and(|value: &HeaderValue| !value.is_empty());
    let preflight = exchange.parts.method == Method::OPTIONS && asked(ACCESS_CONTROL_REQUEST_METHOD);
    if !policy.origins.iter().any(|allowed| allows(allowed, origin)) {
        // The browser refuses an answer that allows nothing, whoever gives it.
        return match preflight && !policy.forward_unmatched {
            true => Verdict::Answer(Response::new(Bytes::new()), DETAILS),
            false => Verdict::Pass,
        };
    }
    let every_answer = &mut exchange.effects.answer_headers;
    every_answer.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
    if policy.credentials {
        every_answer.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, YES));
    }
    if let Some(expose) = &policy.expose {
        every_answer.push((ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone()));
    }
    if !preflight {
        return Verdict::Pass;
    }
    let mut response = Response::new(Bytes::new());
    let own = [
        (ACCESS_CONTROL_ALLOW_METHODS, named(&policy.methods, headers.get(ACCESS_CONTROL_REQUEST_METHOD))),
        (ACCESS_CONTROL_ALLOW_HEADERS, named(&policy.headers, headers.get(ACCESS_CONTROL_REQUEST_HEADERS))),
        (ACCESS_CONTROL_MAX_AGE, policy.max_age.as_ref()),
    ];
    for (name, value) in own {
        if let Some(value) = value {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if policy.private_network && headers.get(REQUEST_PRIVATE_NETWORK).is_some_and(|asked| asked == YES) {
        response.headers_mut().insert(ALLOW_PRIVATE_NETWORK, YES);
    }
    Verdict::Answer(response, DETAILS)
}

/// What is allowed, by name: a star is what was asked for, since browsers that send credentials take it by its letter.
fn named<'a>(allowed: &'a Option<HeaderValue>, asked: Option<&'a HeaderValue>) -> Option<&'a HeaderValue> {
    allowed.as_ref().and_then(|allowed| if allowed == "*" { asked } else { Some(allowed) })
}

/// Whether a condition allows an origin; one that holds for `*` is meant for every origin.
fn allows(allowed: &ValueMatch, origin: &HeaderValue) -> bool {
    value_matches(allowed, b"*") || value_matches(allowed, origin.as_bytes())
}
