//! What the protocol says of access, read word by word from its own messages. Slow and plain.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use super::*;
use crate::{filter::rbac::engine::Found, stream::Ends, tls::peer::Peer};

/// A request, or a connection where `tcp` says so.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) host: &'static str,
    pub(super) headers: HeaderMap,
    pub(super) peer: Option<Peer>,
    pub(super) ends: Ends,
    pub(super) client: Option<IpAddr>,
    pub(super) server_name: Option<&'static str>,
    pub(super) metadata: Vec<Found>,
    pub(super) tcp: bool,
}

/// Whether the request may pass, and the first policy that matches.
pub(super) fn verdict(rules: &RawRules, request: &Request) -> (bool, Option<String>) {
    let wide = rules.action != Action::Allow as i32;
    let mut matching: Vec<&String> = Vec::new();
    for (name, policy) in &rules.policies {
        let permitted = policy.permissions.iter().any(|one| permission(one, request, wide));
        if permitted && policy.principals.iter().any(|one| principal(one, request, wide)) {
            matching.push(name);
        }
    }
    let first = matching.into_iter().min().cloned();
    let allowed = match Action::try_from(rules.action).unwrap() {
        Action::Allow => first.is_some(),
        Action::Deny => first.is_none(),
        Action::Log => true,
    };
    (allowed, first)
}

fn permission(permission_: &Permission, request: &Request, wide: bool) -> bool {
    match permission_.rule.as_ref().unwrap() {
        Rule::AndRules(set) => set.rules.iter().all(|one| permission(one, request, wide)),
        Rule::OrRules(set) => set.rules.iter().any(|one| permission(one, request, wide)),
        Rule::NotRule(inner) => !permission(inner, request, !wide),
        Rule::Any(_) => true,
        Rule::Header(matcher) => header(matcher, request, wide),
        Rule::UrlPath(matcher) => path(matcher, request),
        Rule::DestinationIp(range) => within(range, request.ends.local.map(|end: SocketAddr| end.ip())),
        Rule::DestinationPort(port) => u32::from(request.ends.local.unwrap().port()) == *port,
        Rule::DestinationPortRange(range) => {
            (range.start..range.end).contains(&request.ends.local.unwrap().port().into())
        }
        Rule::RequestedServerName(matcher) => {
            text(matcher, request.server_name.unwrap_or_default().as_bytes())
        }
        Rule::UriTemplate(raw) => {
            let config = UriTemplateMatchConfig::decode(&*raw.typed_config.as_ref().unwrap().value).unwrap();
            !request.tcp && template(config.path_template.as_bytes(), request.path.as_bytes())
        }
        other => unreachable!("{other:?}"),
    }
}

fn principal(principal_: &Principal, request: &Request, wide: bool) -> bool {
    match principal_.identifier.as_ref().unwrap() {
        Identifier::AndIds(set) => set.ids.iter().all(|one| principal(one, request, wide)),
        Identifier::OrIds(set) => set.ids.iter().any(|one| principal(one, request, wide)),
        Identifier::NotId(inner) => !principal(inner, request, !wide),
        Identifier::Any(_) => true,
        Identifier::Authenticated(raw) => {
            let Some(peer) = request.peer.as_ref().filter(|peer| peer.verified) else { return false };
            let matcher = raw.principal_name.as_ref().unwrap();
            let own = peer.names.uris.iter().chain(&peer.names.dns).chain([&peer.names.subject]);
            own.into_iter().any(|name| text(matcher, name.as_bytes()))
        }
        Identifier::DirectRemoteIp(range) => within(range, request.ends.remote.map(|end| end.ip())),
        Identifier::RemoteIp(range) => within(range, request.client),
        Identifier::Header(matcher) => header(matcher, request, wide),
        Identifier::UrlPath(matcher) => path(matcher, request),
        Identifier::SourcedMetadata(raw) => found(raw.metadata_matcher.as_ref().unwrap(), request),
        other => unreachable!("{other:?}"),
    }
}

fn text(matcher: &StringMatcher, value: &[u8]) -> bool {
    let fold = |bytes: &[u8]| if matcher.ignore_case { bytes.to_ascii_lowercase() } else { bytes.to_vec() };
    let value = fold(value);
    match matcher.match_pattern.as_ref().unwrap() {
        StringPattern::Exact(text) => value == fold(text.as_bytes()),
        StringPattern::Prefix(text) => value.starts_with(&fold(text.as_bytes())),
        StringPattern::Suffix(text) => value.ends_with(&fold(text.as_bytes())),
        StringPattern::Contains(text) => {
            let text = fold(text.as_bytes());
            (0..=value.len()).any(|start| value[start..].starts_with(&text))
        }
        other => unreachable!("{other:?}"),
    }
}

/// Of several lines all must match, or any where `wide`, for which all in one count, too.
fn header(matcher: &HeaderMatcher, request: &Request, wide: bool) -> bool {
    let lines: Vec<&[u8]> = match matcher.name.as_str() {
        _ if request.tcp => Vec::new(),
        ":authority" => vec![request.host.as_bytes()],
        ":method" => vec![request.method.as_str().as_bytes()],
        name => request.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect(),
    };
    let fits = |value: &[u8]| match matcher.header_match_specifier.as_ref().unwrap() {
        HeaderMatchSpecifier::StringMatch(wanted) => text(wanted, value) ^ matcher.invert_match,
        other => unreachable!("{other:?}"),
    };
    if let Some(HeaderMatchSpecifier::PresentMatch(wanted)) = &matcher.header_match_specifier {
        let there = !lines.is_empty() || matcher.treat_missing_header_as_empty;
        return (there == *wanted) ^ matcher.invert_match;
    }
    match lines.as_slice() {
        [] => matcher.treat_missing_header_as_empty && fits(b""),
        lines if wide => lines.iter().any(|line| fits(line)) || fits(&lines.join(&b","[..])),
        lines => lines.iter().all(|line| fits(line)),
    }
}

fn within(range: &CidrRange, ip: Option<IpAddr>) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(_) => unreachable!(),
    };
    let shift = 32 - range.prefix_len.unwrap().value;
    ip.is_some_and(|ip| bits(ip) >> shift == bits(range.address_prefix.parse().unwrap()) >> shift)
}

fn path(matcher: &PathMatcher, request: &Request) -> bool {
    let Some(path_matcher::Rule::Path(wanted)) = &matcher.rule else { unreachable!() };
    !request.tcp && text(wanted, request.path.as_bytes())
}

/// By trying every way in which wildcards could be read.
fn template(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|taken| template(rest, &path[taken..])),
        [b'*', rest @ ..] => {
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (1..=end).any(|taken| template(rest, &path[taken..]))
        }
        [byte, rest @ ..] => path.first() == Some(byte) && template(rest, &path[1..]),
    }
}

fn found(matcher: &MetadataMatcher, request: &Request) -> bool {
    let key = |i: usize| match matcher.path[i].segment.as_ref().unwrap() {
        path_segment::Segment::Key(key) => key.as_str(),
    };
    let known = request.metadata.iter().filter(|_| !request.tcp);
    let mut roots = known.filter(|found| *found.filter == *matcher.filter && *found.key == *key(0));
    let mut value = roots.next().map(|found| &found.value);
    for i in 1..matcher.path.len() {
        value = value.and_then(|value| value.get(key(i)));
    }
    data(matcher.value.as_ref().unwrap(), value) ^ matcher.invert
}

fn data(matcher: &ValueMatcher, value: Option<&Value>) -> bool {
    match (matcher.match_pattern.as_ref().unwrap(), value) {
        (MatchPattern::PresentMatch(wanted), value) => value.is_some() == *wanted,
        (MatchPattern::OrMatch(any), value) => any.value_matchers.iter().any(|one| data(one, value)),
        (_, None) => false,
        (MatchPattern::NullMatch(_), Some(value)) => value.is_null(),
        (MatchPattern::BoolMatch(wanted), Some(value)) => value.as_bool() == Some(*wanted),
        (MatchPattern::StringMatch(wanted), Some(value)) => {
            value.as_str().is_some_and(|value| text(wanted, value.as_bytes()))
        }
        (MatchPattern::ListMatch(list), Some(value)) => {
            let Some(list_matcher::MatchPattern::OneOf(one)) = &list.match_pattern else { unreachable!() };
            value.as_array().is_some_and(|items| items.iter().any(|item| data(one, Some(item))))
        }
        (other, _) => unreachable!("{other:?}"),
    }
}
