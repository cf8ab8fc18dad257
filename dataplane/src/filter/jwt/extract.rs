//! Where a request has its tokens, and how one is taken away. Pure.

use std::borrow::Cow;

use http::{HeaderMap, Uri, header::COOKIE, uri::PathAndQuery};

use crate::spec::{Location, Provider};

/// A token and where it was.
#[derive(Debug)]
pub struct Extracted<'p> {
    /// The place.
    pub location: &'p Location,
    /// The token.
    pub text: String,
}

/// The tokens that a request has at the places of a provider. A header that comes in several lines may have several.
pub fn tokens<'p>(provider: &'p Provider, headers: &HeaderMap, query: Option<&str>) -> Vec<Extracted<'p>> {
    let mut found = Vec::new();
    for location in &provider.locations {
        let mut push = |text: String| found.push(Extracted { location, text });
        match location {
            Location::Header(name, prefix) => {
                for line in headers.get_all(name) {
                    let line = String::from_utf8_lossy(line.as_bytes());
                    after(&line, prefix).into_iter().for_each(|token| push(token.to_owned()));
                }
            }
            Location::Param(name) => param(query, name).into_iter().for_each(&mut push),
            Location::Cookie(name) => cookie(headers, name).into_iter().for_each(&mut push),
        }
    }
    found
}

/// What stands behind a prefix, from the first character that a token can have on: Envoy's rule.
fn after<'l>(line: &'l str, prefix: &str) -> Option<&'l str> {
    if prefix.is_empty() {
        return Some(line);
    }
    let (_, rest) = line.split_once(prefix)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    Some(rest.find(legal).map_or(line, |start| &rest[start..]))
}

fn param(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *decoded(key) == *name).map(|(_, value)| decoded(value).into_owned())
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

/// With what `%` stands for.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let (bytes, mut out, mut i) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while i < bytes.len() {
        let hex = text.get(i + 1..i + 3).filter(|_| bytes[i] == b'%');
        let hex = hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Takes what a place has away, so that it does not go upstream. Cookies stay, as in Envoy: they are their client's.
pub fn remove(location: &Location, headers: &mut HeaderMap, uri: &mut Uri) {
    match location {
        Location::Header(name, _) => drop(headers.remove(name)),
        Location::Param(name) => {
            let Some(query) = uri.query() else { return };
            let kept = |pair: &&str| *decoded(pair.split('=').next().unwrap_or_default()) != **name;
            let query = query.split('&').filter(kept).collect::<Vec<_>>().join("&");
            let text =
                if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) };
            let mut parts = std::mem::take(uri).into_parts();
            parts.path_and_query = PathAndQuery::try_from(text).ok().or(parts.path_and_query);
            *uri = Uri::from_parts(parts).unwrap_or_default();
        }
        Location::Cookie(_) => {}
    }
}
