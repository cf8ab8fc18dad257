//! Who the client of a request is, and that bytes which are no text do not get past a rule.

use http::HeaderMap;

use super::*;
use crate::spec::{HeaderMatch, ValueMatch};

#[test]
fn the_client_is_the_last_address_that_a_proxy_wrote_down() {
    let peer: Option<IpAddr> = Some([10, 0, 0, 9].into());
    for (edge, lines, expected) in [
        (false, &[][..], "10.0.0.9"),
        (false, &["192.0.2.1"], "192.0.2.1"),
        (false, &["192.0.2.1, 192.0.2.2"], "192.0.2.2"),
        (false, &["192.0.2.1", "192.0.2.3"], "192.0.2.3"),
        (false, &["2001:db8::1"], "2001:db8::1"),
        (false, &["192.0.2.1, "], "10.0.0.9"),
        (false, &["192.0.2.1, unknown"], "10.0.0.9"),
        (false, &["192.0.2.1:80"], "10.0.0.9"),
        (true, &["192.0.2.1"], "10.0.0.9"),
    ] {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let found = client(edge, &headers, peer);
        assert_eq!(found, Some(expected.parse().unwrap()), "{edge} {lines:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_compared_all_the_same() {
    let mut headers = HeaderMap::new();
    headers.insert("x-role", HeaderValue::from_bytes(b"guest\xff").unwrap());
    let method = http::Method::GET;
    let view = View { method: &method, scheme: "http", host: "a", path: "/", query: None, headers: &headers };
    let subject = Subject {
        view: Some(view),
        peer: None,
        tls: false,
        ends: Ends::default(),
        client: None,
        server_name: None,
        metadata: &[],
    };
    for value in [
        ValueMatch::Prefix { text: "guest".into(), ignore_case: false },
        ValueMatch::Contains { text: "UES".into(), ignore_case: true },
    ] {
        let name = "x-role".to_owned();
        let header = HeaderMatch { name, value, invert: false, missing_as_empty: false };
        assert!(holds(&Condition::Header(header), &subject, false));
    }
}
