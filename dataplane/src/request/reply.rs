//! Answers of our own: faults, redirects, fixed responses; and the path that a route makes of the one requested.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode, Uri,
    header::{CONTENT_TYPE, LOCATION},
    uri::{PathAndQuery, Scheme},
};

use super::record::Record;
use crate::{
    fault::{Cause, Fault},
    spec::{DirectResponse, Forward, PathMatch, PathRedirect, Redirect},
};

/// The answer to a request that failed: HTTP's, or gRPC's where that was called.
pub(super) fn fault(fault: Fault, record: &mut Record) -> Response<Bytes> {
    let face = fault.cause.face();
    let grpc = record.grpc;
    record.fail(fault);
    let status = if grpc { StatusCode::OK } else { face.status };
    record.status = Some(status);
    let text = match face.body_after(record.attempts) {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    let body = if grpc { Bytes::new() } else { text.clone() };
    let empty = body.is_empty();
    if grpc {
        record.grpc_status = Some(face.grpc);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if grpc {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(face.grpc));
        if !text.is_empty()
            && let Ok(message) = HeaderValue::from_maybe_shared(text)
        {
            headers.insert("grpc-message", message);
        }
    } else if !empty {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

/// Makes a response one to a gRPC call: its status becomes gRPC's, its body the message.
pub(super) fn speak_grpc(response: &mut Response<Bytes>) -> u16 {
    let status = grpc_of_http(response.status());
    let body = std::mem::take(response.body_mut());
    let mut message = Vec::with_capacity(body.len());
    for byte in body {
        match byte {
            b' '..=b'~' if byte != b'%' => message.push(byte),
            _ => message.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(status));
    if let Some(message) = HeaderValue::from_bytes(&message).ok().filter(|message| !message.is_empty()) {
        headers.insert("grpc-message", message);
    }
    status
}

/// gRPC's table of what an HTTP status means (`doc/http-grpc-status-mapping.md`).
fn grpc_of_http(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// A fixed response.
pub(super) fn direct(direct: &DirectResponse) -> Response<Bytes> {
    let mut response = Response::new(direct.body.clone());
    *response.status_mut() = direct.status;
    if !direct.body.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

/// A redirect.
pub(super) fn redirect(
    redirect: &Redirect,
    requested: &Scheme,
    matched: &PathMatch,
    (host, uri): (&HeaderValue, &Uri),
) -> Response<Bytes> {
    let scheme = redirect.scheme.as_ref().unwrap_or(requested);
    let default_port = if *requested == Scheme::HTTPS { "443" } else { "80" };
    let host = String::from_utf8_lossy(host.as_bytes());
    // The port requested stays unless there is a new one, or a new scheme to whose default it would not belong.
    let name = match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (redirect.port.is_some() || (scheme != requested && port == default_port)) =>
        {
            name
        }
        _ => &*host,
    };
    let mut location = format!("{scheme}://{}", redirect.host.as_deref().unwrap_or(name));
    if let Some(port) = redirect.port {
        location.push_str(&format!(":{port}"));
    }
    let path = uri.path();
    let path = match &redirect.path {
        PathRedirect::Keep => path.to_owned(),
        PathRedirect::Full(path) => path.clone(),
        PathRedirect::Prefix(prefix) => replace_prefix(matched, path, prefix),
    };
    location.push_str(&path);
    if let Some(query) = uri.query()
        && !redirect.strip_query
        && !path.contains('?')
    {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = redirect.status;
    match HeaderValue::try_from(location) {
        Ok(location) => drop(response.headers_mut().insert(LOCATION, location)),
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

/// The path and query that go upstream.
pub(super) fn rewritten_path(
    forward: &Forward,
    matched: &PathMatch,
    uri: &Uri,
) -> Result<PathAndQuery, Fault> {
    let path = if let Some(prefix) = &forward.prefix_rewrite {
        replace_prefix(matched, uri.path(), prefix)
    } else if let Some((regex, replacement)) = &forward.regex_rewrite {
        let replaced = regex.replace_all(uri.path().as_bytes(), replacement.as_bytes());
        String::from_utf8_lossy(&replaced).into_owned()
    } else {
        return Ok(uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    };
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    PathAndQuery::try_from(text).map_err(|_| Cause::BadRequest.into())
}

/// The path with the part that the route matched replaced; all of it where the match is not a prefix.
fn replace_prefix(matched: &PathMatch, path: &str, replacement: &str) -> String {
    let rest = match matched {
        PathMatch::Prefix(prefix) | PathMatch::SegmentPrefix(prefix) | PathMatch::Exact(prefix) => {
            path.get(prefix.len()..).unwrap_or_default()
        }
        PathMatch::Regex(_) => "",
    };
    // `/a` -> `/` leaves `/a/b` as `/b`.
    if replacement.ends_with('/') && rest.starts_with('/') {
        return format!("{}{rest}", &replacement[..replacement.len() - 1]);
    }
    format!("{replacement}{rest}")
}
