//! Answers of our own: faults, redirects, fixed responses; and the path that a route makes of the one requested.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode, Uri,
    header::{CONTENT_TYPE, LOCATION},
    request::Parts,
    uri::PathAndQuery,
};

use super::{head, record::Record};
use crate::{
    body::ResponseBody,
    fault::{Cause, Fault},
    spec::{DirectResponse, Forward, HeaderMutation, PathMatch, PathRedirect, Redirect, Route},
};

/// The answer to a request that failed: HTTP's, or gRPC's where that was called.
pub(super) fn fault(fault: Fault, mut record: Box<Record>) -> Response<ResponseBody> {
    let face = fault.cause.face();
    let grpc = record.grpc;
    record.fail(fault);
    let status = if grpc { StatusCode::OK } else { face.status };
    record.status = Some(status);
    let body = if grpc { "" } else { face.body };
    if grpc {
        record.grpc_status = Some(face.grpc);
    }
    let mut response = Response::new(ResponseBody::whole(Bytes::from_static(body.as_bytes()), record));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if grpc {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(face.grpc));
        if !face.body.is_empty() {
            headers.insert("grpc-message", HeaderValue::from_static(face.body));
        }
    } else if !body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

/// A fixed response.
pub(super) fn direct(direct: &DirectResponse, mutation: &HeaderMutation) -> Response<Bytes> {
    let mut response = Response::new(direct.body.clone());
    *response.status_mut() = direct.status;
    if !direct.body.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    head::mutate(response.headers_mut(), mutation);
    response
}

/// A redirect.
pub(super) fn redirect(
    redirect: &Redirect,
    route: &Route,
    parts: &Parts,
    host: &HeaderValue,
) -> Response<Bytes> {
    let requested = String::from_utf8_lossy(host.as_bytes());
    let scheme = redirect.scheme.as_ref().map_or("http", |scheme| scheme.as_str());
    let (name, port) = match requested.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port.parse::<u16>().ok()),
        _ => (&*requested, None),
    };
    // A port stays only where nothing about the address was changed, as in Envoy.
    let port = redirect.port.or(port.filter(|_| redirect.scheme.is_none() && redirect.host.is_none()));
    let mut location = format!("{scheme}://{}", redirect.host.as_deref().unwrap_or(name));
    if let Some(port) = port
        && !matches!((scheme, port), ("http", 80) | ("https", 443))
    {
        location.push_str(&format!(":{port}"));
    }
    let path = parts.uri.path();
    let path = match &redirect.path {
        PathRedirect::Keep => path.to_owned(),
        PathRedirect::Full(path) => path.clone(),
        PathRedirect::Prefix(prefix) => replace_prefix(&route.matches.path, path, prefix),
    };
    location.push_str(&path);
    if let Some(query) = parts.uri.query()
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
    head::mutate(response.headers_mut(), &route.response_headers);
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
