//! Reads what a rule of a `VirtualService` does: destinations, rewrites, redirects, answers, retries.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};

use super::{Delegate, Destination, DirectResponse, Redirect, RedirectPath, RedirectPort, Retries, Rewrite};
use crate::documents::{
    problem::Report,
    reader::{At, Object, nearest},
    values::{self, HeaderOperations},
};

/// The largest sum of weights that Envoy holds is 2^32 - 1; one weight is kept far below it.
const WEIGHT_MAX: u32 = 1_000_000;

pub(super) fn destinations(at: &At<'_>, report: &mut Report) -> Option<Vec<Destination>> {
    let items = at.list(report);
    if items.is_empty() {
        at.fail(report, "has no destination", "name at least one");
        return None;
    }
    let several = items.len() > 1;
    let mut found = Vec::new();
    let mut sum = 0u64;
    for item in &items {
        let mut object = item.object(report)?;
        let weight = object.field("weight", report).and_then(|at| at.integer(report, 0, WEIGHT_MAX));
        let weight = weight.unwrap_or(if several { 0 } else { 100 });
        sum += u64::from(weight);
        let headers = values::headers(&mut object, report);
        let destination = object.required("destination", report);
        let read = destination.and_then(|at| self::destination(&at, weight, headers, report));
        object.finish(report);
        found.extend(read);
    }
    if several && sum != 100 && report.is_clean() {
        at.fail(report, format!("the weights sum to {sum}, not to 100"), "make them sum to 100");
    }
    if !several && sum == 0 && report.is_clean() {
        at.fail(report, "the only destination has weight 0", "remove the weight");
    }
    (found.len() == items.len()).then_some(found)
}

pub(super) fn destination(
    at: &At<'_>,
    weight: u32,
    headers: HeaderOperations,
    report: &mut Report,
) -> Option<Destination> {
    let mut object = at.object(report)?;
    let host = object.required("host", report).and_then(|at| values::exact_host(&at, report));
    let subset = object.field("subset", report).and_then(|at| at.located(report));
    let port = object.field("port", report).and_then(|at| {
        let mut object = at.object(report)?;
        let number = object.required("number", report).and_then(|at| at.port(report));
        object.finish(report);
        number
    });
    object.finish(report);
    let subset = subset.filter(|subset| !subset.text.is_empty());
    Some(Destination { host: host?, subset, port, weight, headers, backend: None })
}

pub(super) fn delegate(at: &At<'_>, report: &mut Report) -> Option<Delegate> {
    let mut object = at.object(report)?;
    let name = object.required("name", report).and_then(|at| at.located(report));
    let namespace = object.field("namespace", report).and_then(|at| at.text(report));
    object.finish(report);
    Some(Delegate { name: name?, namespace: namespace.filter(|namespace| !namespace.is_empty()) })
}

pub(super) fn rewrite(at: &At<'_>, report: &mut Report) -> Option<Rewrite> {
    let mut object = at.object(report)?;
    let uri = object.field("uri", report).and_then(|at| at.text(report));
    let authority = object.field("authority", report).and_then(|at| at.text(report));
    let regex_at = object.field("uriRegexRewrite", report);
    let uri_regex = regex_at.as_ref().and_then(|at| {
        let mut object = at.object(report)?;
        let pattern = object.required("match", report).and_then(|at| values::regex(&at, report));
        let becomes = object.required("rewrite", report).and_then(|at| at.text(report));
        object.finish(report);
        Some((pattern?, becomes?))
    });
    if let (Some(at), true) = (&regex_at, uri.is_some()) {
        at.fail(report, "uri is given too", "keep one of uri and uriRegexRewrite");
    }
    object.finish(report);
    Some(Rewrite { uri, authority, uri_regex })
}

pub(super) fn redirect(at: &At<'_>, report: &mut Report) -> Option<Redirect> {
    let mut object = at.object(report)?;
    let code = object.field("redirectCode", report);
    let number = code.as_ref().and_then(|at| at.integer(report, 0, u32::MAX)).unwrap_or(301);
    if let (Some(at), false) = (&code, matches!(number, 301 | 302 | 303 | 307 | 308)) {
        at.fail(report, format!("{number} is no redirect"), "301, 302, 303, 307 and 308 are");
    }
    let found = Redirect {
        path: redirect_path(&mut object, report),
        authority: object.field("authority", report).and_then(|at| at.text(report)),
        scheme: object.field("scheme", report).and_then(|at| values::scheme(&at, report)),
        port: redirect_port(&mut object, report),
        code: u16::try_from(number).unwrap_or(301),
    };
    object.finish(report);
    Some(found)
}

fn redirect_path(object: &mut Object<'_>, report: &mut Report) -> Option<RedirectPath> {
    let full = object.field("uri", report).and_then(|at| at.text(report));
    let prefix_at = object.field("prefixRewrite", report);
    let prefix = prefix_at.as_ref().and_then(|at| at.text(report));
    if let (Some(_), Some(at)) = (&full, &prefix_at) {
        at.fail(report, "uri is given too", "keep one of uri and prefixRewrite");
    }
    full.map(RedirectPath::Full).or(prefix.map(RedirectPath::Prefix))
}

const DERIVE_PORT: [&str; 2] = ["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"];

fn redirect_port(object: &mut Object<'_>, report: &mut Report) -> Option<RedirectPort> {
    let number = object.field("port", report).and_then(|at| at.port(report));
    let derived = object.field("derivePort", report);
    if let (Some(_), Some(at)) = (number, &derived) {
        at.fail(report, "port is given too", "keep one of port and derivePort");
    }
    let derived = derived.and_then(|at| match &*at.text(report)? {
        "FROM_PROTOCOL_DEFAULT" => Some(RedirectPort::OfScheme),
        "FROM_REQUEST_PORT" => Some(RedirectPort::OfRequest),
        other => {
            at.fail(report, format!("{other:?} is unknown"), nearest(other, &DERIVE_PORT));
            None
        }
    });
    number.map(RedirectPort::Number).or(derived)
}

/// Envoy refuses larger direct responses by default.
const DIRECT_BODY_BYTES_MAX: usize = 4096;

pub(super) fn direct_response(at: &At<'_>, report: &mut Report) -> Option<DirectResponse> {
    let mut object = at.object(report)?;
    let status = object.required("status", report).and_then(|at| at.integer(report, 200, 599));
    let body = object.field("body", report).and_then(|at| {
        let mut object = at.object(report)?;
        let text = object.field("string", report).and_then(|at| at.text(report));
        let bytes = object.field("bytes", report).and_then(|at| base64(&at, report));
        object.finish(report);
        let body = match (text, bytes) {
            (Some(text), None) => Some(Arc::from(text.as_bytes())),
            (None, bytes) => bytes,
            (Some(_), Some(_)) => {
                at.fail(report, "string and bytes are both given", "keep one of them");
                None
            }
        };
        if body.as_ref().is_none_or(|body| body.is_empty()) && report.is_clean() {
            at.fail(report, "says no body", "add string or bytes, or remove body");
        }
        if body.as_ref().is_some_and(|body| body.len() > DIRECT_BODY_BYTES_MAX) {
            at.fail(report, "the body is too long", format!("{DIRECT_BODY_BYTES_MAX} bytes are allowed"));
        }
        body
    });
    object.finish(report);
    Some(DirectResponse { status: u16::try_from(status?).ok()?, body: body.unwrap_or_default() })
}

/// Bytes in base64, as JSON has them.
fn base64(at: &At<'_>, report: &mut Report) -> Option<Arc<[u8]>> {
    let text = at.text(report)?;
    match STANDARD.decode(&*text) {
        Ok(bytes) => Some(bytes.into()),
        Err(error) => {
            at.fail(report, format!("is not base64: {error}"), "");
            None
        }
    }
}

/// Conditions that Envoy knows, and that both dataplanes understand.
const RETRY_CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

pub(super) fn retries(at: &At<'_>, report: &mut Report) -> Option<Retries> {
    let mut object = at.object(report)?;
    let retry_on_at = object.field("retryOn", report);
    let retry_on = retry_on_at.as_ref().and_then(|at| at.text(report));
    if let (Some(at), Some(text)) = (&retry_on_at, &retry_on) {
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let status = word.parse().is_ok_and(|code: u16| (100..600).contains(&code));
            if !status && !RETRY_CONDITIONS.contains(&word) {
                let hint = nearest(word, &RETRY_CONDITIONS);
                at.fail(report, format!("{word:?} is no retry condition"), hint);
            }
        }
    }
    let found = Retries {
        attempts: object.field("attempts", report).and_then(|at| at.integer(report, 0, 100)).unwrap_or(2),
        per_try_timeout: object.field("perTryTimeout", report).and_then(|at| at.duration(report)),
        retry_on: retry_on.filter(|text| !text.trim().is_empty()),
        backoff: object.field("backoff", report).and_then(|at| at.duration(report)),
        avoid_tried: object
            .field("retryIgnorePreviousHosts", report)
            .and_then(|at| at.boolean(report))
            .unwrap_or(true),
        leave_tried_localities: object
            .field("retryRemoteLocalities", report)
            .and_then(|at| at.boolean(report))
            .unwrap_or(false),
    };
    object.finish(report);
    Some(found)
}
