//! The head of a request, made unambiguous once: what is routed on is what goes upstream. Pure.

use std::{borrow::Cow, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{CONNECTION, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
    uri::{PathAndQuery, Scheme},
};

use crate::{
    fault::{Cause, Fault},
    spec::HeaderMutation,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Proto of the downstream connection, for the application.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Addresses of the client and of the proxies that the request came by.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Names a request across proxies.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Headers by which a proxy is told what to do; from downstream they are not to be believed.
const INTERNAL_PREFIX: &str = "x-envoy-";

/// Checks and normalises a head; gives its host, lower case, with the port if there is one. Doubled slashes in the path
/// become one where `merge_slashes` says so.
pub fn normalise(parts: &mut Parts, merge_slashes: bool) -> Result<HeaderValue, Fault> {
    if parts.method == Method::CONNECT {
        return Err(Cause::NoRoute.into()); // No route takes it: it has no path.
    }
    framing(&parts.headers)?;
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    let host = host(parts)?;
    if let Some(path) = normal_path(parts.uri.path(), merge_slashes)? {
        let text = match parts.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let path = PathAndQuery::try_from(text).map_err(|_| Fault::from(Cause::BadRequest))?;
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.path_and_query = Some(path);
        parts.uri = Uri::from_parts(uri).map_err(|_| Fault::from(Cause::BadRequest))?;
    }
    Ok(host)
}

/// A body comes in chunks and nothing else, if it comes without a length (RFC 9112, 6.1). A length beside a coding is gone
/// already (6.3).
fn framing(headers: &HeaderMap) -> Result<(), Fault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let clear = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if clear { Ok(()) } else { Err(Cause::BadRequest.into()) }
}

/// The one host that the request names; two different ones are refused.
fn host(parts: &Parts) -> Result<HeaderValue, Fault> {
    let bad = || Fault::from(Cause::BadRequest);
    let mut given = parts.headers.get_all(HOST).iter();
    let (header, more) = (given.next(), given.next());
    if more.is_some() {
        return Err(bad());
    }
    let host = match (parts.uri.authority(), header) {
        (None, None) => return Err(bad()),
        (None, Some(header)) => header.clone(),
        (Some(authority), header) => {
            let text = authority.as_str();
            if text.contains('@')
                || header.is_some_and(|h| !h.as_bytes().eq_ignore_ascii_case(text.as_bytes()))
            {
                return Err(bad());
            }
            HeaderValue::from_str(text).map_err(|_| bad())?
        }
    };
    let bytes = host.as_bytes();
    if bytes.is_empty() || !bytes.iter().all(|b| b.is_ascii_graphic() && !b"/?#@\\,".contains(b)) {
        return Err(bad());
    }
    if bytes.iter().any(u8::is_ascii_uppercase) {
        return HeaderValue::from_bytes(&bytes.to_ascii_lowercase()).map_err(|_| bad());
    }
    Ok(host)
}

/// The path with unreserved characters decoded, `.` and `..` resolved; none when it is normal already. What could be
/// read as another path by someone else (an encoded slash, backslash or NUL, a broken escape) is refused.
pub fn normal_path(path: &str, merge_slashes: bool) -> Result<Option<String>, Fault> {
    let bytes = path.as_bytes();
    let suspicious = bytes
        .windows(2)
        .any(|pair| pair == b"/." || (merge_slashes && pair == b"//") || matches!(pair[1], b'%' | b'\\'));
    if !suspicious {
        return Ok(None);
    }
    let decoded = decode_unreserved(path)?;
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            "" if merge_slashes && !last => {}
            other => kept.push(other),
        }
    }
    let normal = format!("/{}", kept.join("/"));
    Ok((normal != path).then_some(normal))
}

fn decode_unreserved(path: &str) -> Result<Cow<'_, str>, Fault> {
    let bad = || Fault::from(Cause::BadPath);
    if path.contains('\\') {
        return Err(bad());
    }
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let hex = after.get(..2).ok_or_else(bad)?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        match u8::from_str_radix(hex, 16).map_err(|_| bad())? {
            b'/' | b'\\' | 0 => return Err(bad()),
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(char::from(b)),
            _ => {
                out.push('%');
                out.push_str(hex);
            }
        }
        rest = &after[2..];
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// Removes what concerns one connection only. `te: trailers` stays: gRPC asks for it end to end.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let lines: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
        headers.remove(CONNECTION);
        let named = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        for name in named.map(str::trim) {
            // These two are addressing and framing; a peer cannot have them dropped.
            if !name.eq_ignore_ascii_case("host") && !name.eq_ignore_ascii_case("content-length") {
                headers.remove(name);
            }
        }
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    // The body is asked for as soon as it is wanted.
    if headers.get(EXPECT).is_some_and(|wish| wish.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        headers.remove(EXPECT);
    }
    if let http::header::Entry::Occupied(mut te) = headers.entry(TE) {
        let wishes = te.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        let trailers = wishes.map(str::trim).any(|wish| wish.eq_ignore_ascii_case("trailers"));
        if trailers {
            te.insert(HeaderValue::from_static("trailers"));
        } else {
            te.remove_entry_mult();
        }
    }
}

/// Removes what a client must not tell a proxy, and adds what applications expect of one: by which `scheme` the request
/// came, where a proxy before us has not said so. At the `edge` there is none.
pub fn announce(headers: &mut HeaderMap, scheme: &Scheme, edge: bool, rng: &mut impl rand::Rng) {
    if headers.keys().any(|name| name.as_str().starts_with(INTERNAL_PREFIX)) {
        let internal: Vec<HeaderName> =
            headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_PREFIX)).cloned().collect();
        for name in internal {
            headers.remove(name);
        }
    }
    if edge || !headers.contains_key(FORWARDED_PROTO) {
        let proto = if *scheme == Scheme::HTTPS { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id(rng.random()));
    }
}

/// Adds the client's address to those of the proxies before us.
pub fn forwarded_for(headers: &mut HeaderMap, client: IpAddr) {
    let before = headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let client = client.to_string();
    let all: Vec<&[u8]> = before.chain([client.as_bytes()]).collect();
    if let Ok(all) = HeaderValue::from_bytes(&all.join(&b","[..])) {
        headers.insert(FORWARDED_FOR, all);
    }
}

/// A version 4 UUID.
fn request_id(random: u128) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let random = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; 36];
    let mut nibbles = (0..32u32).rev();
    for (i, byte) in text.iter_mut().enumerate() {
        if !matches!(i, 8 | 13 | 18 | 23)
            && let Some(n) = nibbles.next()
        {
            *byte = HEX[(random >> (4 * n)) as usize & 0xf];
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

/// HTTP/2 may split the cookie header; HTTP/1.1 knows only one.
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
}

/// Applies a route's changes.
pub fn mutate(headers: &mut HeaderMap, mutation: &HeaderMutation) {
    for name in &mutation.remove {
        headers.remove(name);
    }
    for (name, value) in &mutation.set {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in &mutation.add {
        headers.append(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        check_with(false, path, expected);
    }

    #[track_caller]
    fn check_with(merge_slashes: bool, path: &str, expected: Option<&str>) {
        let found = normal_path(path, merge_slashes).ok().map(|new| new.unwrap_or_else(|| path.to_owned()));
        assert_eq!(found.as_deref(), expected, "{path}");
    }

    #[test]
    fn paths_have_one_form() {
        check("/", Some("/"));
        check("/a//b", Some("/a//b"));
        check("/a/./b", Some("/a/b"));
        check("/a/../b", Some("/b"));
        check("/../../b", Some("/b"));
        check("/a/b/..", Some("/a/"));
        check("/a/.", Some("/a/"));
        check("/%61%2e%7e", Some("/a.~"));
        check("/a/%2e%2E/b", Some("/b"));
        check("/a%20b", Some("/a%20b"));
        check("/.well-known/x", Some("/.well-known/x"));
    }

    #[test]
    fn doubled_slashes_become_one_where_that_is_asked() {
        for (path, merged) in [("//", "/"), ("/a//b///", "/a/b/"), ("//a", "/a"), ("/a/..//b", "/b")] {
            check_with(true, path, Some(merged));
        }
    }

    #[test]
    fn paths_that_others_could_read_differently_are_refused() {
        for path in ["/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/%00", "/%", "/%4", "/%zz"] {
            check(path, None);
        }
    }

    #[track_caller]
    fn host_of(uri: &str, hosts: &[&str], expected: Option<&str>) {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let found = normalise(&mut parts, false).ok();
        assert_eq!(found.as_ref().map(|host| host.to_str().unwrap()), expected);
    }

    #[test]
    fn a_request_names_one_host() {
        host_of("/", &["A.b:80"], Some("a.b:80"));
        host_of("/", &[], None);
        host_of("/", &["a", "a"], None);
        host_of("/", &["a/b"], None);
        host_of("http://a/", &["a"], Some("a"));
        host_of("http://a/", &["b"], None);
    }

    #[test]
    fn headers_named_by_connection_do_not_pass() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("x-a, Host, close"));
        headers.insert("x-a", HeaderValue::from_static("1"));
        headers.insert(HOST, HeaderValue::from_static("h"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "te"]);
    }

    #[track_caller]
    fn framed(lines: &[(&str, &str)], expected: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        assert_eq!(framing(&headers).is_ok(), expected, "{lines:?}");
    }

    #[test]
    fn a_body_comes_in_chunks_and_nothing_else() {
        let coding = "transfer-encoding";
        framed(&[], true);
        framed(&[(coding, "Chunked")], true);
        framed(&[(coding, "chunked"), (coding, "chunked")], false);
        framed(&[(coding, "gzip, chunked")], false);
    }

    #[test]
    fn the_clients_address_comes_after_those_before() {
        let mut headers = HeaderMap::new();
        forwarded_for(&mut headers, [10, 0, 0, 1].into());
        assert_eq!(headers[FORWARDED_FOR], "10.0.0.1");
        headers.append(FORWARDED_FOR, HeaderValue::from_static("10.0.0.2"));
        forwarded_for(&mut headers, [10, 0, 0, 3].into());
        assert_eq!(headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>(), ["10.0.0.1,10.0.0.2,10.0.0.3"]);
    }

    #[test]
    fn of_te_only_trailers_pass() {
        for (te, expected) in [("trailers", true), ("gzip, Trailers", true), ("gzip", false)] {
            let mut headers = HeaderMap::from_iter([(TE, HeaderValue::from_static(te))]);
            strip_hop_by_hop(&mut headers);
            assert_eq!(headers.get(TE).is_some_and(|te| te == "trailers"), expected, "{te}");
        }
    }

    #[test]
    fn request_ids_are_random_uuids() {
        assert_eq!(request_id(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(request_id(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
