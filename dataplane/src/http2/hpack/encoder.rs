//! Writes header blocks: by the table that everybody knows, else as literals that nobody has to keep, and without Huffman's
//! code. A few bytes more on the way, but no table to search, to fill and to shrink on both sides, which was a fifth of
//! what a request cost; and nothing that a peer's settings could change. Pure.

use http::{HeaderMap, Method, StatusCode, Uri, header, uri::Scheme};

const AUTHORITY: usize = 1;
const METHOD: usize = 2;
const PATH: usize = 4;
const SCHEME: usize = 6;
const STATUS: usize = 8;

/// The head of a request. `CONNECT` has neither scheme nor path (RFC 9113, 8.5).
pub fn request(out: &mut Vec<u8>, method: &Method, uri: &Uri, headers: &HeaderMap) {
    match *method {
        Method::GET => out.push(0x82),
        Method::POST => out.push(0x83),
        _ => named(out, METHOD, method.as_str().as_bytes(), false),
    }
    if *method != Method::CONNECT {
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => out.push(0x87),
            None => out.push(0x86),
            Some(scheme) if *scheme == Scheme::HTTP => out.push(0x86),
            Some(scheme) => named(out, SCHEME, scheme.as_str().as_bytes(), false),
        }
    }
    if let Some(authority) = uri.authority() {
        named(out, AUTHORITY, authority.as_str().as_bytes(), false);
    }
    if *method != Method::CONNECT {
        match uri.path_and_query().map_or("/", |path| path.as_str()) {
            "/" | "" => out.push(0x84),
            path => named(out, PATH, path.as_bytes(), false),
        }
    }
    fields(out, headers);
}

/// The head of a response.
pub fn response(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    let known = match status.as_u16() {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => 0,
    };
    match known {
        0 => named(out, STATUS, status.as_str().as_bytes(), false),
        index => out.push(0x80 | index),
    }
    fields(out, headers);
}

/// Fields proper: of a head, or trailers.
pub fn fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        let sensitive = value.is_sensitive();
        match index(name.as_str()) {
            Some(at) => named(out, at, value.as_bytes(), sensitive),
            None => {
                out.push(if sensitive { 0x10 } else { 0 });
                string(out, name.as_str().as_bytes());
                string(out, value.as_bytes());
            }
        }
    }
}

/// A literal by the index of its name.
fn named(out: &mut Vec<u8>, index: usize, value: &[u8], sensitive: bool) {
    number(out, if sensitive { 0x10 } else { 0 }, 4, index);
    string(out, value);
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    number(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

fn number(out: &mut Vec<u8>, flags: u8, prefix: u32, value: usize) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The place of a name in the table that everybody knows, for those that requests and answers have often.
fn index(name: &str) -> Option<usize> {
    let (index, known) = match name.len() {
        3 => match name.as_bytes()[0] {
            b'a' => (21, header::AGE),
            _ => (60, header::VIA),
        },
        4 => match name.as_bytes()[0] {
            b'd' => (33, header::DATE),
            b'e' => (34, header::ETAG),
            b'l' => (45, header::LINK),
            _ => (59, header::VARY),
        },
        6 => match name.as_bytes()[0] {
            b'a' => (19, header::ACCEPT),
            b's' => (54, header::SERVER),
            _ => (32, header::COOKIE),
        },
        7 => match name.as_bytes()[0] {
            b'r' => (51, header::REFERER),
            _ => (36, header::EXPIRES),
        },
        8 => (46, header::LOCATION),
        10 => match name.as_bytes()[0] {
            b's' => (55, header::SET_COOKIE),
            _ => (58, header::USER_AGENT),
        },
        11 => (53, header::RETRY_AFTER),
        12 => (31, header::CONTENT_TYPE),
        13 => match name.as_bytes()[0] {
            b'a' if name.as_bytes()[1] == b'u' => (23, header::AUTHORIZATION),
            b'a' => (18, header::ACCEPT_RANGES),
            b'c' => (24, header::CACHE_CONTROL),
            b'l' => (44, header::LAST_MODIFIED),
            _ => (41, header::IF_NONE_MATCH),
        },
        14 => (28, header::CONTENT_LENGTH),
        15 => match name.as_bytes()[7] {
            b'e' => (16, header::ACCEPT_ENCODING),
            _ => (17, header::ACCEPT_LANGUAGE),
        },
        16 => (26, header::CONTENT_ENCODING),
        _ => return None,
    };
    (known.as_str() == name).then_some(index)
}
