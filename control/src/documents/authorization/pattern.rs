//! Values in policies of access: texts with a star at one end, path templates, addresses, ports, accounts.

use std::sync::Arc;

use ipnet::IpNet;

use crate::documents::{problem::Report, reader::At};

/// A text, perhaps with a star at one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TextPattern {
    /// `*`: there is one.
    Any,
    /// The whole text.
    Exact(Arc<str>),
    /// `abc*`.
    Prefix(Arc<str>),
    /// `*abc`.
    Suffix(Arc<str>),
}

/// A path, perhaps with wildcards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// A text.
    Text(TextPattern),
    /// Segments, of which `{*}` stands for one and `{**}` for any number.
    Template(Arc<str>),
}

/// A text with a star at one end at most.
pub(super) fn text(at: &At<'_>, report: &mut Report) -> Option<TextPattern> {
    let text = at.text(report)?;
    let found = match text.as_bytes() {
        [] => {
            at.fail(report, "is empty", "write * for any value");
            return None;
        }
        [b'*'] => return Some(TextPattern::Any),
        [b'*', ..] => TextPattern::Suffix(text[1..].into()),
        [.., b'*'] => TextPattern::Prefix(text[..text.len() - 1].into()),
        _ => TextPattern::Exact(text.clone()),
    };
    let (TextPattern::Exact(rest) | TextPattern::Prefix(rest) | TextPattern::Suffix(rest)) = &found else {
        return Some(found);
    };
    if rest.contains('*') {
        at.fail(report, format!("{text:?} has a * that means nothing"), "it stands at one end, or alone");
        return None;
    }
    Some(found)
}

/// A path or a template of one.
pub(super) fn path(at: &At<'_>, report: &mut Report) -> Option<PathPattern> {
    let written = at.text(report)?;
    if !written.contains(['{', '}']) {
        return text(at, report).map(PathPattern::Text);
    }
    let mut bad = |problem: &str| {
        at.fail(report, format!("{written:?}: {problem}"), "segments are literal, {*} or a last {**}");
        None
    };
    let Some(segments) = written.strip_prefix('/') else { return bad("a template begins with a slash") };
    let mut ended = false;
    for segment in segments.split('/') {
        match segment {
            "{*}" | "{**}" if ended => return bad("no wildcard may follow {**}"),
            "{**}" => ended = true,
            "{*}" => {}
            literal if literal.contains(['{', '}', '*']) => return bad("a wildcard is a whole segment"),
            _ => {}
        }
    }
    Some(PathPattern::Template(written))
}

/// An IP address or a CIDR block.
pub(super) fn net(at: &At<'_>, report: &mut Report) -> Option<IpNet> {
    let text = at.text(report)?;
    let found =
        text.parse::<IpNet>().ok().or_else(|| text.parse().ok().map(|ip: std::net::IpAddr| IpNet::from(ip)));
    if found.is_none() {
        at.fail(report, format!("{text:?} is no address"), "write it like 10.0.0.1 or 10.0.0.0/8");
    }
    found.map(|net| net.trunc())
}

/// A port, as text.
pub(super) fn port(at: &At<'_>, report: &mut Report) -> Option<u16> {
    let text = at.text(report)?;
    let found = text.parse::<u16>().ok().filter(|port| *port > 0);
    if found.is_none() {
        at.fail(report, format!("{text:?} is no port"), "write it like \"80\"");
    }
    found
}

/// `namespace/account`; an account alone is one of the policy's own namespace, which is then empty.
pub(super) fn account(at: &At<'_>, report: &mut Report) -> Option<(Arc<str>, Arc<str>)> {
    let text = at.text(report)?;
    let (namespace, account) = text.split_once('/').unwrap_or(("", &text));
    let name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if !name(account) || (text.contains('/') && !name(namespace)) {
        at.fail(report, format!("{text:?} is no service account"), "write it like namespace/account");
        return None;
    }
    Some((namespace.into(), account.into()))
}
