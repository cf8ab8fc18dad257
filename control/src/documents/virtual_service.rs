//! `VirtualService`: how requests to some hosts are routed. Istio's fields; `tls` and `tcp` routes are refused.

use std::{sync::Arc, time::Duration};

use super::{
    problem::Report,
    reader::{At, Located, Object},
    tree::Place,
    values::{self, HeaderOperations, StringMatch},
};

/// The gateway name that means every sidecar.
pub const MESH_GATEWAY: &str = "mesh";

/// Routing of requests to some hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    /// Hosts: service names, host names or `*.suffix`.
    pub hosts: Vec<Located>,
    /// Gateways that it belongs to; empty is `mesh`.
    pub gateways: Vec<Located>,
    /// HTTP routes in order.
    pub http: Vec<HttpRoute>,
}

/// One rule: when any of its matches holds, or when it has none.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRoute {
    /// Name, for logs; may be empty.
    pub name: Arc<str>,
    /// Alternatives; none matches every request.
    pub matches: Vec<HttpMatch>,
    /// What to do.
    pub action: HttpAction,
    /// Changes of path and host before the request goes upstream.
    pub rewrite: Option<Rewrite>,
    /// Time for the whole request; zero or none is no limit.
    pub timeout: Option<Duration>,
    /// Retries; none is the mesh's default.
    pub retries: Option<Retries>,
    /// Changes of headers.
    pub headers: HeaderOperations,
    /// Where it stands.
    pub place: Place,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpAction {
    /// Sends to destinations by weight; at least one.
    Route(Vec<Destination>),
    /// Answers with another location.
    Redirect(Redirect),
    /// Answers by itself.
    Direct(DirectResponse),
}

/// One alternative; all its parts must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpMatch {
    /// Name, appended to the route's.
    pub name: Arc<str>,
    /// Path.
    pub uri: Option<StringMatch>,
    /// Whether the path's case does not matter (not with a regex).
    pub ignore_uri_case: bool,
    /// Scheme.
    pub scheme: Option<StringMatch>,
    /// Method.
    pub method: Option<StringMatch>,
    /// Host of the request.
    pub authority: Option<StringMatch>,
    /// Headers that must match; `None` is "is present".
    pub headers: Vec<(Arc<str>, Option<StringMatch>)>,
    /// Headers that must not match; `None` is "is absent".
    pub without_headers: Vec<(Arc<str>, Option<StringMatch>)>,
    /// Query parameters; `None` is "is present".
    pub query_params: Vec<(Arc<str>, Option<StringMatch>)>,
    /// Port that the client used.
    pub port: Option<u16>,
    /// Gateways that it is limited to; empty is those of the document.
    pub gateways: Vec<Located>,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Service name or host.
    pub host: Located,
    /// Subset of a DestinationRule.
    pub subset: Option<Located>,
    /// Service port; none is the only port, or the port that the client used.
    pub port: Option<u16>,
    /// Share of requests.
    pub weight: u32,
    /// Changes of headers for this destination alone.
    pub headers: HeaderOperations,
}

/// Changes before the request goes upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewrite {
    /// New path, or new prefix where a prefix matched.
    pub uri: Option<Arc<str>>,
    /// New host.
    pub authority: Option<Arc<str>>,
    /// Regular expression on the path, and what its match becomes.
    pub uri_regex: Option<(Arc<str>, Arc<str>)>,
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// New path.
    pub uri: Option<Arc<str>>,
    /// New host.
    pub authority: Option<Arc<str>>,
    /// New scheme.
    pub scheme: Option<Arc<str>>,
    /// New port.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub code: u16,
}

/// An answer of the proxy's own.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectResponse {
    /// Status.
    pub status: u16,
    /// Body; may be empty.
    pub body: Arc<str>,
}

/// Retries of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// Retries after the first try; zero is none.
    pub attempts: u32,
    /// Time for each try; none is the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// Conditions, in Envoy's words and status codes; none is the mesh's default.
    pub retry_on: Option<Arc<str>>,
    /// First pause between tries.
    pub backoff: Option<Duration>,
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<VirtualService> {
    let mut object = spec.object(report)?;
    let mut hosts = Vec::new();
    if let Some(at) = object.required("hosts", report) {
        let items = at.list(report);
        if items.is_empty() {
            at.fail(report, "no host is named", "name at least one");
        }
        hosts.extend(items.iter().filter_map(|host| values::host(host, report)));
    }
    values::no_duplicates(&hosts, "host", report);
    let gateways = object.list("gateways", report).iter().filter_map(|at| at.located(report)).collect();
    values::accept_export_to(&mut object, report);
    object.unsupported(&["tls", "tcp"], report);
    let items = object.list("http", report);
    let http: Vec<HttpRoute> = items.iter().filter_map(|at| route(at, report)).collect();
    if items.is_empty() && report.is_clean() {
        report.error(object.place, &object.path, "has no http routes", "add spec.http");
    }
    let named = |route: &&HttpRoute| !route.name.is_empty();
    for (i, rule) in http.iter().enumerate().filter(|(_, rule)| named(rule)) {
        if http[..i].iter().any(|earlier| earlier.name == rule.name) {
            let field = format!("spec.http[{i}].name");
            report.error(rule.place, &field, format!("{:?} is used twice", rule.name), "rename one");
        }
    }
    object.finish(report);
    Some(VirtualService { hosts, gateways, http })
}

fn route(at: &At<'_>, report: &mut Report) -> Option<HttpRoute> {
    let mut object = at.object(report)?;
    let name = object.field("name", report).and_then(|at| at.text(report)).unwrap_or_default();
    let matches = object.list("match", report).iter().filter_map(|at| http_match(at, report)).collect();
    let destinations = object.field("route", report).map(|at| (destinations(&at, report), at));
    let redirect = object.field("redirect", report).map(|at| (redirect(&at, report), at));
    let direct = object.field("directResponse", report).map(|at| (direct_response(&at, report), at));
    let rewrite = object.field("rewrite", report).and_then(|at| Some((rewrite(&at, report)?, at.place)));
    let timeout = object.field("timeout", report).and_then(|at| at.duration(report));
    let retries = object.field("retries", report).and_then(|at| retries(&at, report));
    let headers = values::headers(&mut object, report);
    let later =
        ["fault", "mirror", "mirrors", "mirrorPercentage", "mirror_percent", "corsPolicy", "delegate"];
    object.unsupported(&later, report);
    let place = object.place;
    let path = object.path.clone();
    object.finish(report);
    if let (Some((_, place)), true) = (&rewrite, redirect.is_some() || direct.is_some()) {
        let field = format!("{path}.rewrite");
        report.error(*place, &field, "only a rule with route can rewrite", "remove it");
    }
    let action = match (destinations, redirect, direct) {
        (Some((found, _)), None, None) => HttpAction::Route(found?),
        (None, Some((found, _)), None) => HttpAction::Redirect(found?),
        (None, None, Some((found, _))) => HttpAction::Direct(found?),
        (None, None, None) => {
            report.error(place, &path, "does nothing", "add route, redirect or directResponse");
            return None;
        }
        (_, Some((_, at)), _) | (_, _, Some((_, at))) => {
            at.fail(report, "a rule does one thing", "keep one of route, redirect and directResponse");
            return None;
        }
    };
    let rewrite = rewrite.map(|(rewrite, _)| rewrite);
    Some(HttpRoute { name, matches, action, rewrite, timeout, retries, headers, place })
}

fn http_match(at: &At<'_>, report: &mut Report) -> Option<HttpMatch> {
    let mut object = at.object(report)?;
    let mut one = |name, report: &mut Report| {
        let at = object.field(name, report)?;
        values::string_match(&at, report)
    };
    let uri = one("uri", report);
    let scheme = one("scheme", report);
    let method = one("method", report);
    let authority = one("authority", report);
    let headers = header_matches(&mut object, "headers", report);
    let without_headers = header_matches(&mut object, "withoutHeaders", report);
    let query_params = matches_by_name(&mut object, "queryParams", report);
    let ignore_case = object.field("ignoreUriCase", report);
    let ignore_uri_case = ignore_case.as_ref().and_then(|at| at.boolean(report)).unwrap_or_default();
    let found = HttpMatch {
        name: object.field("name", report).and_then(|at| at.text(report)).unwrap_or_default(),
        uri,
        ignore_uri_case,
        scheme,
        method,
        authority,
        headers,
        without_headers,
        query_params,
        port: object.field("port", report).and_then(|at| at.port(report)),
        gateways: object.list("gateways", report).iter().filter_map(|at| at.located(report)).collect(),
    };
    object.unsupported(&["sourceLabels", "sourceNamespace", "statPrefix"], report);
    object.finish(report);
    Some(found)
}

type NamedMatch = (Arc<str>, Option<StringMatch>);

fn matches_by_name(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Vec<NamedMatch> {
    let Some(at) = object.field(name, report) else { return Vec::new() };
    let mut found: Vec<NamedMatch> = Vec::new();
    for (key, value) in at.entries(report) {
        found.push((key.text, values::optional_match(&value, report)));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn header_matches(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Vec<NamedMatch> {
    let Some(at) = object.field(name, report) else { return Vec::new() };
    let mut found: Vec<NamedMatch> = Vec::new();
    for (key, value) in at.entries(report) {
        if let Some(header) = values::header_name(&key, report) {
            found.push((header, values::optional_match(&value, report)));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// The largest sum of weights that Envoy holds is 2^32 - 1; one weight is kept far below it.
const WEIGHT_MAX: u32 = 1_000_000;

fn destinations(at: &At<'_>, report: &mut Report) -> Option<Vec<Destination>> {
    let items = at.list(report);
    if items.is_empty() {
        at.fail(report, "has no destination", "name at least one");
        return None;
    }
    let several = items.len() > 1;
    let mut found = Vec::new();
    let mut sum = 0u64;
    for item in &items {
        let mut object = item.object(report)?;
        let weight = object.field("weight", report).and_then(|at| at.integer(report, 0, WEIGHT_MAX));
        let weight = weight.unwrap_or(if several { 0 } else { 100 });
        sum += u64::from(weight);
        let headers = values::headers(&mut object, report);
        let destination = object.required("destination", report);
        let read = destination.and_then(|at| self::destination(&at, weight, headers, report));
        object.finish(report);
        found.extend(read);
    }
    if several && sum != 100 && report.is_clean() {
        at.fail(report, format!("the weights sum to {sum}, not to 100"), "make them sum to 100");
    }
    if !several && sum == 0 && report.is_clean() {
        at.fail(report, "the only destination has weight 0", "remove the weight");
    }
    (found.len() == items.len()).then_some(found)
}

fn destination(
    at: &At<'_>,
    weight: u32,
    headers: HeaderOperations,
    report: &mut Report,
) -> Option<Destination> {
    let mut object = at.object(report)?;
    let host = object.required("host", report).and_then(|at| values::exact_host(&at, report));
    let subset = object.field("subset", report).and_then(|at| at.located(report));
    let port = object.field("port", report).and_then(|at| {
        let mut object = at.object(report)?;
        let number = object.required("number", report).and_then(|at| at.port(report));
        object.finish(report);
        number
    });
    object.finish(report);
    let subset = subset.filter(|subset| !subset.text.is_empty());
    Some(Destination { host: host?, subset, port, weight, headers })
}

fn rewrite(at: &At<'_>, report: &mut Report) -> Option<Rewrite> {
    let mut object = at.object(report)?;
    let uri = object.field("uri", report).and_then(|at| at.text(report));
    let authority = object.field("authority", report).and_then(|at| at.text(report));
    let regex_at = object.field("uriRegexRewrite", report);
    let uri_regex = regex_at.as_ref().and_then(|at| {
        let mut object = at.object(report)?;
        let pattern = object.required("match", report).and_then(|at| values::regex(&at, report));
        let becomes = object.required("rewrite", report).and_then(|at| at.text(report));
        object.finish(report);
        Some((pattern?, becomes?))
    });
    if let (Some(at), true) = (&regex_at, uri.is_some()) {
        at.fail(report, "uri is given too", "keep one of uri and uriRegexRewrite");
    }
    object.finish(report);
    Some(Rewrite { uri, authority, uri_regex })
}

fn redirect(at: &At<'_>, report: &mut Report) -> Option<Redirect> {
    let mut object = at.object(report)?;
    let code = object.field("redirectCode", report);
    let number = code.as_ref().and_then(|at| at.integer(report, 0, u32::MAX)).unwrap_or(301);
    if let (Some(at), false) = (&code, matches!(number, 301 | 302 | 303 | 307 | 308)) {
        at.fail(report, format!("{number} is no redirect"), "301, 302, 303, 307 and 308 are");
    }
    let found = Redirect {
        uri: object.field("uri", report).and_then(|at| at.text(report)),
        authority: object.field("authority", report).and_then(|at| at.text(report)),
        scheme: object.field("scheme", report).and_then(|at| values::scheme(&at, report)),
        port: object.field("port", report).and_then(|at| at.port(report)),
        code: u16::try_from(number).unwrap_or(301),
    };
    object.unsupported(&["derivePort"], report);
    object.finish(report);
    Some(found)
}

/// Envoy refuses larger direct responses by default.
const DIRECT_BODY_BYTES_MAX: usize = 4096;

fn direct_response(at: &At<'_>, report: &mut Report) -> Option<DirectResponse> {
    let mut object = at.object(report)?;
    let status = object.required("status", report).and_then(|at| at.integer(report, 200, 599));
    let body = object.field("body", report).and_then(|at| {
        let mut object = at.object(report)?;
        let text = object.required("string", report);
        let body = text.as_ref().and_then(|at| at.text(report));
        if let (Some(at), Some(body)) = (&text, &body)
            && body.len() > DIRECT_BODY_BYTES_MAX
        {
            at.fail(report, "the body is too long", format!("{DIRECT_BODY_BYTES_MAX} bytes are allowed"));
        }
        object.unsupported(&["bytes"], report);
        object.finish(report);
        body
    });
    object.finish(report);
    Some(DirectResponse { status: u16::try_from(status?).ok()?, body: body.unwrap_or_default() })
}

/// Conditions that Envoy knows, and that both dataplanes understand.
const RETRY_CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

fn retries(at: &At<'_>, report: &mut Report) -> Option<Retries> {
    let mut object = at.object(report)?;
    let retry_on_at = object.field("retryOn", report);
    let retry_on = retry_on_at.as_ref().and_then(|at| at.text(report));
    if let (Some(at), Some(text)) = (&retry_on_at, &retry_on) {
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let status = word.parse().is_ok_and(|code: u16| (100..600).contains(&code));
            if !status && !RETRY_CONDITIONS.contains(&word) {
                let hint = super::reader::nearest(word, &RETRY_CONDITIONS);
                at.fail(report, format!("{word:?} is no retry condition"), hint);
            }
        }
    }
    let found = Retries {
        attempts: object.field("attempts", report).and_then(|at| at.integer(report, 0, 100)).unwrap_or(2),
        per_try_timeout: object.field("perTryTimeout", report).and_then(|at| at.duration(report)),
        retry_on: retry_on.filter(|text| !text.trim().is_empty()),
        backoff: object.field("backoff", report).and_then(|at| at.duration(report)),
    };
    object.unsupported(&["retryRemoteLocalities", "retryIgnorePreviousHosts"], report);
    object.finish(report);
    Some(found)
}
