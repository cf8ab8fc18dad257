//! Words that operators put on what they run, the same on every platform: labels, version, protocol. Pure.

use std::collections::BTreeMap;

use weft_proto::registry::v1 as proto;

/// Labels from tags of the form `name=value`; a tag such as `v2` is the version where nothing else says it.
pub(crate) fn labels(tags: &[String]) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for tag in tags {
        match tag.split_once('=') {
            Some((name, value)) => {
                labels.insert(name.to_owned(), value.to_owned());
            }
            None if is_version(tag) => {
                labels.entry("version".to_owned()).or_insert_with(|| tag.clone());
            }
            None => {}
        }
    }
    labels
}

/// The name of a port that speaks what the word says, and the protocol.
pub(crate) fn protocol(word: &str) -> Option<(&'static str, proto::Protocol)> {
    match word {
        "grpc" => Some(("grpc", proto::Protocol::Grpc)),
        "http2" | "h2c" => Some(("http2", proto::Protocol::Http2)),
        "http" => Some(("http", proto::Protocol::Http)),
        "tls" => Some(("tls", proto::Protocol::Tls)),
        "tcp" => Some(("tcp", proto::Protocol::Tcp)),
        _ => None,
    }
}

/// The protocol that a list of tags names, alone or as `protocol=`.
pub(crate) fn protocol_of(tags: &[String]) -> Option<(&'static str, proto::Protocol)> {
    tags.iter().find_map(|tag| protocol(tag.strip_prefix("protocol=").unwrap_or(tag)))
}

/// The number that clients use where nothing says it: what HTTP and TLS have everywhere; TCP has none.
pub(crate) fn usual_port(protocol: proto::Protocol) -> Option<u32> {
    match protocol {
        proto::Protocol::Http | proto::Protocol::Http2 | proto::Protocol::Grpc => Some(80),
        proto::Protocol::Tls => Some(443),
        proto::Protocol::Tcp | proto::Protocol::Unspecified => None,
    }
}

/// The transport of an endpoint, of which `mtls` says that a proxy of the mesh is in front of it.
pub(crate) fn transport(mtls: bool) -> i32 {
    let transport =
        if mtls { proto::endpoint::Transport::Mtls } else { proto::endpoint::Transport::Plaintext };
    transport.into()
}

/// The identity that a proxy of the mesh has there.
pub(crate) fn identity(trust_domain: &str, namespace: &str, account: &str) -> String {
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}")
}

/// A name that the mesh takes: every other character becomes a dash.
pub(crate) fn plain_name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    text.trim_matches('/').chars().map(plain).collect()
}

fn is_version(tag: &str) -> bool {
    tag.strip_prefix('v').is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    })
}
