//! The filter `CORS` becomes the policy that a `VirtualService` has for the same.

use std::{sync::Arc, time::Duration};

use crate::documents::{
    Cors, StringMatch,
    problem::Report,
    reader::{At, Object},
    virtual_service::cors::tokens,
};

/// How long an answer to a preflight may be remembered where nothing is said.
const MAX_AGE: Duration = Duration::from_secs(5);

const ANY: &str = "*";

/// Reads the filter. A preflight of an origin that is not allowed is answered, and allows nothing.
pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<Cors> {
    let mut object = at.object(report)?;
    let origins = object.list("allowOrigins", report);
    let origins: Vec<StringMatch> = origins.iter().filter_map(|at| origin(at, report)).collect();
    let any = |origin: &StringMatch| matches!(origin, StringMatch::Exact(text) if &**text == ANY);
    if origins.len() > 1 && origins.iter().any(any) {
        at.fail(report, "allows every origin, and names others", "keep one of the two");
    }
    let credentials = object.field("allowCredentials", report).and_then(|at| at.boolean(report));
    let credentials = credentials.filter(|allowed| *allowed);
    let methods = names(&mut object, "allowMethods", report);
    let headers = names(&mut object, "allowHeaders", report);
    let expose = names(&mut object, "exposeHeaders", report);
    if credentials.is_some() && expose.iter().any(|name| &**name == ANY) {
        let path = format!("{}.exposeHeaders", object.path);
        report.error(object.place, &path, "no browser takes * where credentials are allowed", "name each");
    }
    let max_age = object.field("maxAge", report).and_then(|at| at.integer(report, 1, u32::MAX));
    let max_age = max_age.map_or(MAX_AGE, |seconds| Duration::from_secs(seconds.into()));
    object.finish(report);
    let max_age = Some(max_age);
    Some(Cors { origins, methods, headers, expose, max_age, credentials, forward_unmatched: false })
}

/// Names of a list; a star stands alone.
fn names(object: &mut Object<'_>, field: &'static str, report: &mut Report) -> Vec<Arc<str>> {
    let found = tokens(object, field, report);
    if found.len() > 1 && found.iter().any(|name| &**name == ANY) {
        let path = format!("{}.{field}", object.path);
        report.error(object.place, &path, "allows every name, and names others", "keep one of the two");
    }
    found
}

/// `*`, or `scheme://host[:port]`, in whose host a star stands for any text. Browsers leave out a scheme's own port.
fn origin(at: &At<'_>, report: &mut Report) -> Option<StringMatch> {
    let text = at.text(report)?;
    if &*text == ANY {
        return Some(StringMatch::Exact(text));
    }
    let parts = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
    let Some((scheme, rest)) = parts.filter(|(_, rest)| is_authority(rest)) else {
        at.fail(report, format!("{text:?} is no origin"), "write https://host, https://*.host or *");
        return None;
    };
    let own_port = if scheme == "http" { ":80" } else { ":443" };
    let host = rest.strip_suffix(own_port).unwrap_or(rest);
    if !host.contains('*') {
        return Some(StringMatch::Exact(format!("{scheme}://{host}").into()));
    }
    let pattern = host.split('*').map(regex::escape).collect::<Vec<_>>().join("[^/]*");
    Some(StringMatch::Regex(format!("{scheme}://{pattern}").into()))
}

/// A host, in which stars may stand, and perhaps a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._*".contains(&b);
    !host.is_empty()
        && host.bytes().all(fits)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}
