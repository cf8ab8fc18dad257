//! `VirtualService`: how requests and connections to some hosts are routed. Istio's fields.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Document, export,
    problem::Report,
    reader::{At, Located},
    tree::Place,
    values::{self, HeaderOperations, PathMatch, StringMatch},
};
use crate::model::ExportTo;

mod action;
pub(super) mod cors;
mod fault;
mod l4;
pub(super) mod mirror;
mod route;

pub use cors::Cors;
pub use fault::{Abort, AbortStatus, Delay, Fault};
pub use l4::{ConnectionMatch, TcpRoute, TlsMatch, TlsRoute};
pub use mirror::Mirror;

/// What is safe to repeat whatever the request: none of these can have reached the service.
pub const SAFE_RETRY_ON: &str = "connect-failure,refused-stream,reset-before-request";

/// The gateway name that means every sidecar.
pub const MESH_GATEWAY: &str = "mesh";

/// Routing of requests to some hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    /// Hosts: service names, host names or `*.suffix`. None: its rules are for others to take over.
    pub hosts: Vec<Located>,
    /// Gateways that it belongs to; empty is `mesh`.
    pub gateways: Vec<Located>,
    /// HTTP routes in order.
    pub http: Vec<HttpRoute>,
    /// Where it counts.
    pub export_to: ExportTo,
    /// Routes of TLS that goes through, in order.
    pub tls: Vec<TlsRoute>,
    /// Routes of bytes, in order.
    pub tcp: Vec<TcpRoute>,
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
    /// Faults that are injected.
    pub fault: Option<Fault>,
    /// Destinations that get copies of requests.
    pub mirrors: Vec<Mirror>,
    /// What pages of other origins may do.
    pub cors: Option<Cors>,
    /// Where it stands.
    pub place: Place,
    /// The document that wrote it, where another has taken it over: its names are read as there.
    pub written_in: Option<Arc<Document>>,
}

impl HttpRoute {
    /// A rule that matches every request and says no more than what to do.
    pub(super) fn new(name: Arc<str>, action: HttpAction, place: Place) -> Self {
        Self {
            name,
            matches: Vec::new(),
            action,
            rewrite: None,
            timeout: None,
            retries: None,
            headers: HeaderOperations::default(),
            fault: None,
            mirrors: Vec::new(),
            cors: None,
            place,
            written_in: None,
        }
    }

    /// Whether it replaces the prefix that its matches name, which each must then do.
    pub(super) fn replaces_prefix(&self) -> bool {
        let by_prefix = |redirect: &Redirect| matches!(redirect.path, Some(RedirectPath::Prefix(_)));
        let redirects = matches!(&self.action, HttpAction::Redirect(redirect) if by_prefix(redirect));
        redirects || self.rewrite.as_ref().is_some_and(|rewrite| rewrite.uri.is_some())
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpAction {
    /// Sends to destinations by weight. One has a weight, or the rule is a route's of the Gateway API and answers 500.
    Route(Vec<Destination>),
    /// Answers with another location.
    Redirect(Redirect),
    /// Answers by itself.
    Direct(DirectResponse),
    /// Takes over the rules of another document.
    Delegate(Delegate),
}

/// The document whose rules a rule takes over.
#[derive(Clone, Debug, PartialEq)]
pub struct Delegate {
    /// Name.
    pub name: Located,
    /// Namespace; none is that of the document.
    pub namespace: Option<Arc<str>>,
}

/// Which clients a rule is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// Their namespace; none is any.
    pub namespace: Option<Arc<str>>,
    /// Labels that they have.
    pub labels: Labels,
}

/// Labels by name.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// One alternative; all its parts must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpMatch {
    /// Name, appended to the route's.
    pub name: Arc<str>,
    /// Path.
    pub uri: Option<PathMatch>,
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
    /// Name for statistics of what takes it.
    pub stat_prefix: Option<Arc<str>>,
    /// Clients.
    pub source: Source,
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
    /// What the Gateway API names as backend: it must be there, and a grant must lead to it where it is in another
    /// namespace. None: `host` alone says it.
    pub backend: Option<Backend>,
}

/// A backend as the Gateway API names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// API group; empty is Kubernetes' core.
    pub group: Arc<str>,
    /// Kind: only `Service` can be sent to.
    pub kind: Arc<str>,
    /// Namespace; none is that of the document.
    pub namespace: Option<Arc<str>>,
    /// Name.
    pub name: Arc<str>,
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
    pub path: Option<RedirectPath>,
    /// New host.
    pub authority: Option<Arc<str>>,
    /// New scheme.
    pub scheme: Option<Arc<str>>,
    /// New port.
    pub port: Option<RedirectPort>,
    /// 301, 302, 303, 307 or 308.
    pub code: u16,
}

/// The path that a client is sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RedirectPath {
    /// In place of the whole path.
    Full(Arc<str>),
    /// In place of the prefix that matched.
    Prefix(Arc<str>),
}

/// The port that a client is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RedirectPort {
    /// This one.
    Number(u16),
    /// That of the scheme.
    OfScheme,
    /// The one that the request came to.
    OfRequest,
}

/// An answer of the proxy's own.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectResponse {
    /// Status.
    pub status: u16,
    /// Body; may be empty.
    pub body: Arc<[u8]>,
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
    /// Whether a retry goes to an endpoint that was not tried yet, while there is one.
    pub avoid_tried: bool,
    /// Whether retries leave the localities that were tried.
    pub leave_tried_localities: bool,
}

impl VirtualService {
    /// What its rules say of their clients.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let http = self.http.iter().flat_map(|rule| &rule.matches).map(|found| &found.source);
        let tls = self.tls.iter().flat_map(|rule| &rule.matches).map(|found| &found.connection.source);
        let tcp = self.tcp.iter().flat_map(|rule| &rule.matches).map(|found| &found.source);
        http.chain(tls).chain(tcp).filter(|source| **source != Source::default())
    }

    /// The documents of which it took over rules.
    pub fn delegates(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.http.iter().filter_map(|rule| rule.written_in.as_ref())
    }
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<VirtualService> {
    let mut object = spec.object(report)?;
    let items = object.list("hosts", report);
    let hosts: Vec<Located> = items.iter().filter_map(|host| values::host(host, report)).collect();
    values::no_duplicates(&hosts, "host", report);
    let gateways_at = object.field("gateways", report);
    let gateways = gateways_at.as_ref().map(|at| at.list(report)).unwrap_or_default();
    let gateways = gateways.iter().filter_map(|at| at.located(report)).collect();
    let export_to = export::read(&mut object, report);
    let tls_items = object.list("tls", report);
    let tls: Vec<TlsRoute> = tls_items.iter().filter_map(|at| l4::tls(at, &hosts, report)).collect();
    let tcp_items = object.list("tcp", report);
    let tcp: Vec<TcpRoute> = tcp_items.iter().filter_map(|at| l4::tcp(at, report)).collect();
    let http_items = object.list("http", report);
    let http: Vec<HttpRoute> = http_items.iter().filter_map(|at| route::read(at, report)).collect();
    if items.is_empty() {
        let hint = "requests and their gateways are the affair of the document that delegates; or add hosts";
        for at in gateways_at.iter().chain(&tls_items).chain(&tcp_items) {
            at.fail(report, "a document without hosts has http alone", hint);
        }
        for rule in &http {
            if let HttpAction::Delegate(to) = &rule.action {
                let hint = "only a document with hosts delegates";
                report.error(to.name.place, &to.name.field, "delegates are not nested", hint);
            }
        }
    }
    if http_items.is_empty() && tls_items.is_empty() && tcp_items.is_empty() && report.is_clean() {
        report.error(object.place, &object.path, "has no routes", "add spec.http, spec.tls or spec.tcp");
    }
    let named = |route: &&HttpRoute| !route.name.is_empty();
    for (i, rule) in http.iter().enumerate().filter(|(_, rule)| named(rule)) {
        if http[..i].iter().any(|earlier| earlier.name == rule.name) {
            let field = format!("spec.http[{i}].name");
            report.error(rule.place, &field, format!("{:?} is used twice", rule.name), "rename one");
        }
    }
    object.finish(report);
    Some(VirtualService { hosts, gateways, http, tls, tcp, export_to })
}
