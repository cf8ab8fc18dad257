//! The hash of a request, by which consistent balancers pick. Pure; Envoy's values, so that both proxies agree.

use http::{HeaderValue, header::COOKIE, request::Parts};
use rand::Rng;
use twox_hash::XxHash64;

use crate::{
    spec::{HashCookie, HashPolicy, HashSource},
    stream::Ends,
};

/// A request's hash.
#[derive(Debug, Default)]
pub struct Hashed {
    /// None where the request has nothing of what is hashed.
    pub hash: Option<u64>,
    /// Cookies that were made up for the hash; the response sets them (`Set-Cookie`).
    pub cookies: Vec<HeaderValue>,
}

/// Hashes a request, normalised, as the policies say.
pub fn hash(
    policies: &[HashPolicy],
    parts: &Parts,
    host: &HeaderValue,
    ends: &Ends,
    rng: &mut impl Rng,
) -> Hashed {
    let mut hashed = Hashed::default();
    for policy in policies {
        let found = match &policy.source {
            HashSource::Header { name, rewrite } => {
                let rewrite = rewrite.as_ref().map(|(regex, by)| (regex, by.as_str()));
                header(name, rewrite, parts, host)
            }
            HashSource::Cookie(cookie) => match (value(cookie, parts), &cookie.issue) {
                (Some(value), _) => Some(xx(value)),
                (None, Some(rest)) => {
                    let value = issued(ends, rng);
                    // The name and the rest were checked when they were decoded.
                    let set = HeaderValue::try_from(format!("{}=\"{value}\"{rest}", cookie.name));
                    hashed.cookies.extend(set);
                    Some(xx(value.as_bytes()))
                }
                (None, None) => None,
            },
            HashSource::SourceIp => source_ip(ends),
            HashSource::Query(name) => query(name, parts),
        };
        if let Some(found) = found {
            // Rotated, so that equal parts do not cancel each other out.
            hashed.hash = Some(hashed.hash.map_or(0, |old| old.rotate_left(1)) ^ found);
        }
        if policy.terminal && hashed.hash.is_some() {
            break;
        }
    }
    hashed
}

/// The hash of the caller's IP address.
pub fn source_ip(ends: &Ends) -> Option<u64> {
    ends.remote.map(|remote| xx(remote.ip().to_string().as_bytes()))
}

fn xx(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

fn header(
    name: &str,
    rewrite: Option<(&regex::bytes::Regex, &str)>,
    parts: &Parts,
    host: &HeaderValue,
) -> Option<u64> {
    let one = |value: &[u8]| match rewrite {
        Some((regex, by)) => xx(&regex.replace_all(value, by.as_bytes())),
        None => xx(value),
    };
    let path = || parts.uri.path_and_query().map_or("/", |path| path.as_str());
    match name {
        ":authority" | "host" => return Some(one(host.as_bytes())),
        ":path" => return Some(one(path().as_bytes())),
        ":method" => return Some(one(parts.method.as_str().as_bytes())),
        ":scheme" => return Some(one(b"http")),
        _ => {}
    }
    let mut values = parts.headers.get_all(name).iter();
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(one(first.as_bytes())) };
    // Several values hash alike in whatever order they come.
    let all = [first, second].into_iter().chain(values);
    let mut all: Vec<_> = all
        .map(|value| match rewrite {
            Some((regex, by)) => regex.replace_all(value.as_bytes(), by.as_bytes()),
            None => value.as_bytes().into(),
        })
        .collect();
    all.sort_unstable();
    Some(all.iter().fold(0, |seed, value| XxHash64::oneshot(seed, value)))
}

/// A cookie's value, without the quotes that may be around it; none where it is empty.
fn value<'a>(cookie: &HashCookie, parts: &'a Parts) -> Option<&'a [u8]> {
    let lines = parts.headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut named = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii_start();
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        (&pair[..equals] == cookie.name.as_bytes()).then(|| &pair[equals + 1..])
    });
    let value = named.next()?;
    let value = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
    (!value.is_empty()).then_some(value)
}

/// The value of a cookie that is set: the same for all requests of a connection, so that those which come at once stay
/// together.
fn issued(ends: &Ends, rng: &mut impl Rng) -> String {
    let hash = match (ends.remote, ends.local) {
        (Some(remote), Some(local)) => xx(format!("{remote}{local}").as_bytes()),
        _ => rng.random(),
    };
    format!("{hash:016x}")
}

fn query(name: &str, parts: &Parts) -> Option<u64> {
    let pairs = parts.uri.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| xx(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use rand::{SeedableRng, rngs::StdRng};
    use regex::bytes::Regex;

    use super::*;

    const FOO: u64 = 3728699739546630719;
    const BAR: u64 = 5234164152756840025;

    fn policy(source: HashSource) -> HashPolicy {
        HashPolicy { source, terminal: false }
    }

    fn by_header(name: &str) -> HashPolicy {
        policy(HashSource::Header { name: name.into(), rewrite: None })
    }

    fn by_cookie(issue: Option<&str>) -> HashPolicy {
        policy(HashSource::Cookie(HashCookie { name: "id".into(), issue: issue.map(str::to_owned) }))
    }

    fn ends() -> Ends {
        let at = |ip: [u8; 4], port| Some((ip, port).into());
        Ends { remote: at([1, 2, 3, 4], 5), local: at([127, 0, 0, 1], 80), original: None }
    }

    fn hash_of(policies: &[HashPolicy], uri: &str, headers: &[(&str, &str)]) -> Hashed {
        let request =
            headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
        let parts = request.body(()).unwrap().into_parts().0;
        let host = HeaderValue::from_static("foo");
        hash(policies, &parts, &host, &ends(), &mut StdRng::seed_from_u64(7))
    }

    #[track_caller]
    fn check(policies: &[HashPolicy], uri: &str, headers: &[(&str, &str)], expected: Option<u64>) {
        let hashed = hash_of(policies, uri, headers);
        assert_eq!(hashed.hash, expected);
        assert!(hashed.cookies.is_empty());
    }

    #[test]
    fn headers_hash_as_in_envoy() {
        check(&[by_header("x")], "/", &[("x", "foo")], Some(FOO));
        check(&[by_header("x")], "/", &[("y", "foo")], None);
        check(&[by_header("x")], "/", &[("x", "foo"), ("x", "bar")], Some(XxHash64::oneshot(BAR, b"foo")));
        check(&[by_header("x")], "/", &[("x", "bar"), ("x", "foo")], Some(XxHash64::oneshot(BAR, b"foo")));
        check(&[by_header(":authority")], "/", &[], Some(FOO));
        check(&[by_header(":path")], "/a?b", &[], Some(xx(b"/a?b")));
        let rewrite = Some((Regex::new("^/(\\w+)/.*").unwrap(), "${1}".to_owned()));
        let by_part = policy(HashSource::Header { name: ":path".into(), rewrite });
        check(&[by_part], "/foo/7", &[], Some(FOO));
    }

    #[test]
    fn several_values_hash_one_after_the_other() {
        // Envoy's own test has {"foo", "bar"} in this order.
        assert_eq!(XxHash64::oneshot(FOO, b"bar"), 17745830980996999794);
    }

    #[test]
    fn parts_are_combined_by_rotation() {
        let both = [by_header("x"), by_header("y")];
        check(&both, "/", &[("x", "foo"), ("y", "bar")], Some(FOO.rotate_left(1) ^ BAR));
        check(&both, "/", &[("y", "bar")], Some(BAR));
        check(&both, "/", &[("x", "foo"), ("y", "foo")], Some(FOO.rotate_left(1) ^ FOO));
    }

    #[test]
    fn a_terminal_part_ends_the_list_once_there_is_a_hash() {
        let terminal = |name| HashPolicy { terminal: true, ..by_header(name) };
        let list = [terminal("x"), by_header("y")];
        check(&list, "/", &[("x", "foo"), ("y", "bar")], Some(FOO));
        check(&list, "/", &[("y", "bar")], Some(BAR));
        let list = [by_header("x"), terminal("y"), by_header("z")];
        check(&list, "/", &[("x", "foo"), ("z", "bar")], Some(FOO));
    }

    #[test]
    fn cookies_are_found_among_others() {
        check(&[by_cookie(None)], "/", &[("cookie", "a=b; id=foo;c=d")], Some(FOO));
        check(&[by_cookie(None)], "/", &[("cookie", "a=b"), ("cookie", "id=\"foo\"")], Some(FOO));
        check(&[by_cookie(None)], "/", &[("cookie", "xid=foo; id=")], None);
        check(&[by_cookie(Some(""))], "/", &[("cookie", "id=foo")], Some(FOO));
    }

    #[test]
    fn a_cookie_that_is_missing_is_issued_the_same_for_a_connection() {
        let list = [by_cookie(Some("; Max-Age=60; Path=/; HttpOnly"))];
        let hashed = hash_of(&list, "/", &[]);
        let value = format!("{:016x}", xx(b"1.2.3.4:5127.0.0.1:80"));
        assert_eq!(hashed.cookies, [format!("id=\"{value}\"; Max-Age=60; Path=/; HttpOnly")]);
        assert_eq!(hashed.hash, Some(xx(value.as_bytes())));
        assert_eq!(hash_of(&list, "/other", &[]).hash, hashed.hash);
        check(&list, "/", &[("cookie", &format!("id=\"{value}\""))], hashed.hash);
    }

    #[test]
    fn the_callers_address_counts_without_its_port() {
        check(&[policy(HashSource::SourceIp)], "/", &[], Some(xx(b"1.2.3.4")));
        assert_eq!(source_ip(&Ends::default()), None);
    }

    #[test]
    fn the_first_of_equal_query_parameters_counts() {
        let by_query = [policy(HashSource::Query("q".into()))];
        check(&by_query, "/?a=b&q=foo&q=bar", &[], Some(FOO));
        check(&by_query, "/?Q=foo", &[], None);
        check(&by_query, "/?q", &[], Some(xx(b"")));
        check(&by_query, "/", &[], None);
    }
}
