//! Documents: what operators want, as they wrote it. YAML comes in, typed documents and problems with their places go
//! out. Pure. What documents mean for proxies is `compile`'s.
//!
//! A field that has no effect here is an error that names it: nothing is ignored silently. A document without a namespace belongs to
//! `default`.
//!
//! Where documents claim the same, the oldest has it; of documents of one age the first by namespace, then by name
//! (the order of Istio and of the Gateway API). A document's age is that of its first version, so an update does not lose
//! its place. Winner and loser are told by [`judge`], as conditions and as warnings, and `weft get` shows it.
//!
//! | claimed twice | what becomes of it |
//! | --- | --- |
//! | host of VirtualServices, on one gateway or on `mesh` | the oldest routes it whole; the others do nothing there |
//! | host of DestinationRules, in one namespace | they are merged: subsets by name, each part of the policy, the oldest first |
//! | host of DestinationRules, of which some select the client | the same; those that select it come first |
//! | host of DestinationRules, in several | the client's namespace decides, else the service's, else the root namespace |
//! | workloads of AuthorizationPolicies | all count: what any denies is denied, else what any allows is allowed |
//! | workloads of RateLimitPolicies | all count: a request is taken where every rule that is for it takes it |
//! | workloads of Sidecars | one that selects them, else that of their namespace, else that of the root namespace; the oldest |
//! | host of routes of the Gateway API, at one listener or service | they share it: of all rules the most specific match has a request (`compile::shared`) |
//! | host of a VirtualService and of routes | the oldest of all decides: it has the host alone if it is a VirtualService, else the routes share it and the VirtualService does nothing there; a pattern of a VirtualService never beats a route that names the host |
//! | service of routes of its own namespace and of the clients' | the clients' routes, for these clients |
//! | service of GRPCRoutes and HTTPRoutes | the GRPCRoutes |
//! | host of GRPCRoutes and HTTPRoutes at one listener | the older route; the other is not accepted there |
//! | connections to a service of a VirtualService and of routes | the oldest of all decides, as for requests |
//! | name of TLSRoutes, or connections of TCPRoutes, at one listener or service | the oldest route; one that has nothing left is not accepted there |
//! | port and host of listeners of one gateway | none of them is served; of several gateways plain HTTP counts as one, else the oldest has the name |
//! | rules of a VirtualService without hosts | every VirtualService that delegates to it has them (`delegate`) |
//! | host of HealthCheckPolicies | the oldest |
//! | port of Gateways by servers of different classes (plain HTTP, plain TCP, TLS) or addresses | the oldest server's holds |
//! | name on a TLS port of Gateways | the oldest |
//! | access logs, or traces, in Telemetries of one namespace or one workload | the oldest that speaks of them |
//! | host of ServiceEntries, or of one and a registered service | the registered one, else the oldest |

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

pub mod attach;
mod authorization;
pub mod by_host;
mod check;
pub mod claims;
mod config_map;
pub mod delegate;
mod destination_rule;
mod duration;
pub mod edit;
mod endpoint_policy;
mod export;
mod gateway;
pub mod gateway_api;
mod health_check;
pub mod hosts;
pub mod jwks;
mod kind;
mod load_balancer;
pub mod locality;
mod outlier;
mod peer_authentication;
mod problem;
mod rate_limit;
mod reader;
mod request_authentication;
pub mod secret;
mod service_entry;
mod set;
mod sidecar;
pub mod status;
mod target;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod traffic_policy;
mod tree;
mod values;
mod verdict;
mod virtual_service;
mod workload_group;

pub(crate) use check::gateway_name;

pub use authorization::{
    AccessAction, AccessRule, AuthorizationPolicy, Clause, PathPattern, TextPattern, Values,
};
pub use config_map::ConfigMap;
pub use destination_rule::{DestinationRule, Subset};
pub use endpoint_policy::{EndpointPolicy, PeakEwma};
pub use gateway::{Gateway, HostNamespace, Server, ServerClass, ServerHost, ServerProtocol};
pub use health_check::{HealthCheck, HealthCheckPolicy, Probe};
pub use load_balancer::{ConsistentHash, HashKey, HashTable, LoadBalancer, Warmup};
pub use locality::LocalityLb;
pub use outlier::{FailurePercentage, OutlierDetection, Statistics, SuccessRate};
pub use peer_authentication::{MtlsMode, PeerAuthentication};
pub use problem::{Problem, Severity};
pub use rate_limit::{
    LimitKey, LimitMatch, LimitPath, LimitSubject, Rate, RateLimitPolicy, RateLimitRule, TimeUnit,
};
pub use reader::Located;
pub use request_authentication::{JwtRule, KeySource, RequestAuthentication};
pub use secret::{Secret, Sensitive};
pub use service_entry::{EntryEndpoint, EntryPort, EntryResolution, ServiceEntry};
pub use set::DocumentSet;
pub use sidecar::{Egress, EgressHost, FromNamespace, Ingress, Sidecar};
pub use target::{Scope, Target, TargetKind};
pub use telemetry::{AccessLogging, Mode, Tag, Telemetry, Tracing};
pub use tls::{ClientMode, ClientTls, Credentials, NameForm, ServerMode, ServerTls, TlsVersion};
pub use traffic_policy::{HttpPool, Keepalive, RetryBudget, TcpPool, TrafficPolicy};
pub use tree::Place;
pub use values::{HeaderChanges, HeaderOperations, PathMatch, StringMatch};
pub use verdict::{Verdict, check, judge};
pub use virtual_service::{
    Abort, AbortStatus, Backend, ConnectionMatch, Cors, Delay, Delegate, Destination, DirectResponse, Fault,
    HttpAction, HttpMatch, HttpRoute, Labels, MESH_GATEWAY, Mirror, Redirect, RedirectPath, RedirectPort,
    Retries, Rewrite, SAFE_RETRY_ON, Source, TcpRoute, TlsMatch, TlsRoute, VirtualService,
};
pub use workload_group::WorkloadGroup;

use crate::model::ExportTo;
use gateway_api::{EdgeGateway, GatewayClass, Namespace, ReferenceGrant, Route};
use kind::{Kind, Read};
use problem::Report;
use reader::At;

/// The namespace whose documents are the mesh's defaults: Istio's.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// Longest text that is parsed at once.
const TEXT_BYTES_MAX: usize = 8 << 20;

/// One policy object as the operator wrote it.
#[derive(Clone, PartialEq)]
pub struct Document {
    /// Kind: `VirtualService`.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Its text.
    pub yaml: Arc<str>,
    /// File, key or source that holds it.
    pub origin: Arc<str>,
    /// Line of the origin on which its text starts, from 1.
    pub line: u32,
    /// When its first version was made, seconds since 1970: as its store or source knows it, else what
    /// `metadata.creationTimestamp` says, else 0.
    pub created_at_seconds: i64,
    /// Its meaning.
    pub spec: DocumentSpec,
}

/// The meaning of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum DocumentSpec {
    /// Routing.
    VirtualService(VirtualService),
    /// Subsets and connection policy.
    DestinationRule(Box<DestinationRule>),
    /// Services that no platform registers.
    ServiceEntry(ServiceEntry),
    /// Ports and hosts of edge proxies.
    Gateway(Gateway),
    /// Checks of endpoints by proxies.
    HealthCheckPolicy(HealthCheckPolicy),
    /// How proxies choose among endpoints and judge them.
    EndpointPolicy(EndpointPolicy),
    /// A workload that no platform registers.
    WorkloadEntry(EntryEndpoint),
    /// Whether workloads take plain text, mutual TLS, or both.
    PeerAuthentication(PeerAuthentication),
    /// Which tokens of end users workloads take.
    RequestAuthentication(RequestAuthentication),
    /// What workloads have alike.
    WorkloadGroup(WorkloadGroup),
    /// What the proxies of some workloads know of.
    Sidecar(Sidecar),
    /// Who serves gateways of a class.
    GatewayClass(GatewayClass),
    /// Listeners of edge proxies.
    EdgeGateway(EdgeGateway),
    /// Routes of the Gateway API.
    Route(Box<Route>),
    /// Who may refer to objects of a namespace.
    ReferenceGrant(ReferenceGrant),
    /// Labels of a namespace.
    Namespace(Namespace),
    /// Certificates for gateways.
    Secret(Secret),
    /// Who may do what.
    AuthorizationPolicy(AuthorizationPolicy),
    /// How many requests workloads take.
    RateLimitPolicy(RateLimitPolicy),
    /// Authorities, for those who refer to them.
    ConfigMap(ConfigMap),
    /// What proxies tell of their traffic.
    Telemetry(Telemetry),
}

/// Without its text, which may be a secret.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("key", &self.key()).field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Document {
    /// `VirtualService/default/reviews`.
    pub fn key(&self) -> Arc<str> {
        key(self.kind, &self.namespace, &self.name)
    }

    /// The keys of all documents that say what it says: its own, and those of which it took over rules.
    pub fn keys(&self) -> impl Iterator<Item = Arc<str>> {
        let delegates = match &self.spec {
            DocumentSpec::VirtualService(spec) => Some(spec.delegates()),
            _ => None,
        };
        let delegates: BTreeSet<Arc<str>> =
            delegates.into_iter().flatten().map(|delegate| delegate.key()).collect();
        std::iter::once(self.key()).chain(delegates)
    }

    /// Where it counts; none for kinds that do not say.
    pub fn export_to(&self) -> Option<&ExportTo> {
        match &self.spec {
            DocumentSpec::VirtualService(spec) => Some(&spec.export_to),
            DocumentSpec::DestinationRule(spec) => Some(&spec.export_to),
            DocumentSpec::ServiceEntry(spec) => Some(&spec.export_to),
            DocumentSpec::Gateway(_)
            | DocumentSpec::Sidecar(_)
            | DocumentSpec::Secret(_)
            | DocumentSpec::Telemetry(_)
            | DocumentSpec::ConfigMap(_)
            | DocumentSpec::HealthCheckPolicy(_)
            | DocumentSpec::EndpointPolicy(_)
            | DocumentSpec::WorkloadEntry(_)
            | DocumentSpec::WorkloadGroup(_)
            | DocumentSpec::PeerAuthentication(_)
            | DocumentSpec::RequestAuthentication(_)
            | DocumentSpec::GatewayClass(_)
            | DocumentSpec::EdgeGateway(_)
            | DocumentSpec::Route(_)
            | DocumentSpec::ReferenceGrant(_)
            | DocumentSpec::AuthorizationPolicy(_)
            | DocumentSpec::RateLimitPolicy(_)
            | DocumentSpec::Namespace(_) => None,
        }
    }

    /// Whether it counts for clients of a namespace.
    pub fn is_visible_in(&self, namespace: &str) -> bool {
        self.export_to().is_none_or(|export| export.reaches(namespace, &self.namespace))
    }

    /// Whether it has what both claim: it is older, or as old and before the other by namespace, name and kind.
    pub fn is_older_than(&self, other: &Self) -> bool {
        set::Age::of(self) < set::Age::of(other)
    }

    /// What it says, where it is a route of the Gateway API.
    pub fn route(&self) -> Option<&Route> {
        match &self.spec {
            DocumentSpec::Route(route) => Some(route),
            _ => None,
        }
    }
}

/// The key of a document by its parts.
pub fn key(kind: &str, namespace: &str, name: &str) -> Arc<str> {
    format!("{kind}/{namespace}/{name}").into()
}

/// Reads every document of a text that starts on `first_line` of `origin` (0 counts as 1). A document with an error is
/// left out; the others are returned.
pub fn parse(yaml: &str, origin: &str, first_line: u32) -> (Vec<Document>, Vec<Problem>) {
    let origin: Arc<str> = origin.into();
    let mut documents: Vec<Document> = Vec::new();
    let mut problems = Vec::new();
    if yaml.len() > TEXT_BYTES_MAX {
        let mut report = Report::new(&origin, 0);
        let place = Place { line: first_line.max(1), column: 1 };
        report.error(
            place,
            "",
            "the text is too long",
            format!("{TEXT_BYTES_MAX} bytes are allowed; split it"),
        );
        return (documents, report.into_problems());
    }
    for (lines_before, text) in split(yaml) {
        let lines_before = lines_before.saturating_add(first_line.saturating_sub(1));
        let mut report = Report::new(&origin, lines_before);
        let parsed = parse_one(text, &origin, lines_before, &mut report);
        if let Some((document, place)) = parsed
            && report.is_clean()
        {
            if documents.iter().any(|earlier| earlier.key() == document.key()) {
                let message = format!("{} is defined twice", document.key());
                report.error(place, "metadata.name", message, "rename or remove one");
            } else {
                documents.push(document);
            }
        }
        problems.extend(report.into_problems());
    }
    (documents, problems)
}

/// Reads several texts, each with its origin, as [`parse`] does; what a later text defines anew is left out, too.
pub fn parse_all<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> (Vec<Document>, Vec<Problem>) {
    let mut found: Vec<Document> = Vec::new();
    let mut problems = Vec::new();
    for (yaml, origin) in texts {
        let (parsed, wrong) = parse(yaml, origin, 1);
        problems.extend(wrong);
        for document in parsed {
            match found.iter().find(|earlier| earlier.key() == document.key()) {
                Some(earlier) => problems.push(Problem {
                    origin: document.origin.clone(),
                    line: document.line,
                    column: 1,
                    document: document.key(),
                    field: "metadata.name".to_owned(),
                    message: format!(
                        "{} is also defined in {}:{}",
                        document.key(),
                        earlier.origin,
                        earlier.line
                    ),
                    hint: "rename or remove one".to_owned(),
                    severity: Severity::Error,
                    conflict: None,
                }),
                None => found.push(document),
            }
        }
    }
    (found, problems)
}

/// The documents of a text with the number of lines before each, as `---` separates them.
fn split(yaml: &str) -> Vec<(u32, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    for (line, text) in (0u32..).zip(yaml.split_inclusive('\n')) {
        let trimmed = text.trim_end();
        if trimmed == "---" || trimmed.starts_with("--- #") {
            parts.push((start_line, &yaml[start..offset]));
            (start, start_line) = (offset + text.len(), line + 1);
        }
        offset += text.len();
    }
    parts.push((start_line, &yaml[start..]));
    parts
}

fn parse_one(
    text: &str,
    origin: &Arc<str>,
    lines_before: u32,
    report: &mut Report,
) -> Option<(Document, Place)> {
    let blank = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return None;
    }
    let root = root_of(text, lines_before, report)?;
    let at = At::new(&root, "", report);
    let mut object = at.object(report)?;
    let api_version = object.required("apiVersion", report);
    let kind = object.required("kind", report);
    let (api_version, kind) = (api_version?.located(report)?, kind?.located(report)?);
    let kind = kind::find(&api_version, &kind, report)?;
    let metadata = object.required("metadata", report);
    let metadata = metadata.and_then(|at| metadata_of(&at, kind, report));
    let spec = match kind.read {
        Read::Spec(read) => object.required("spec", report).and_then(|at| read(&at, report)),
        Read::Fields(read) => read(&mut object, report),
        Read::Annotated(read) => {
            let none = BTreeMap::new();
            let annotations = metadata.as_ref().map_or(&none, |metadata| &metadata.annotations);
            object.required("spec", report).and_then(|at| read(&at, annotations, report))
        }
        Read::Labels(read) => {
            // What Kubernetes keeps there.
            object.field("spec", report);
            metadata.as_ref().map(|metadata| read(&metadata.labels))
        }
    };
    // Kubernetes writes it, and so it comes back with every exported document.
    object.field("status", report);
    object.finish(report);
    let Metadata { name, namespace, created_at_seconds, .. } = metadata?;
    report.set_document(key(kind.key, &namespace, &name.text));
    let document = Document {
        kind: kind.key,
        namespace,
        name: name.text,
        yaml: text.into(),
        origin: origin.clone(),
        line: lines_before + 1,
        created_at_seconds,
        spec: spec?,
    };
    Some((document, name.place))
}

fn root_of(text: &str, lines_before: u32, report: &mut Report) -> Option<tree::Node> {
    let mut options = serde_saphyr::Options::default();
    options.strict_booleans = true;
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(root) => Some(root),
        Err(error) => {
            let place = error.location().map(|location| report.place(location));
            let place = place.unwrap_or(Place { line: lines_before + 1, column: 1 });
            report.error(place, "", format!("bad YAML: {}", plain_message(&error)), "");
            None
        }
    }
}

/// The first line of a parser's message, without the place that we print ourselves.
fn plain_message(error: &serde_saphyr::Error) -> String {
    let options = serde_saphyr::render_options! { snippets: serde_saphyr::SnippetMode::Off };
    let text = error.render_with_options(options);
    let line = text.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("error: ");
    line.split(" at line ").next().unwrap_or(line).to_owned()
}

struct Metadata {
    name: Located,
    namespace: Arc<str>,
    created_at_seconds: i64,
    /// Only of a kind whose labels mean something to us.
    labels: BTreeMap<Arc<str>, Arc<str>>,
    /// The same.
    annotations: BTreeMap<Arc<str>, Located>,
}

fn metadata_of(at: &At<'_>, kind: &Kind, report: &mut Report) -> Option<Metadata> {
    let mut object = at.object(report)?;
    let name = object.required("name", report).and_then(|at| dns_name(&at, report));
    let namespace = match object.field("namespace", report) {
        Some(at) if !kind.namespaced => {
            at.fail(report, format!("a {} belongs to no namespace", kind.key), "remove it");
            return None;
        }
        Some(at) => dns_name(&at, report)?.text,
        None => "default".into(),
    };
    let created = object.field("creationTimestamp", report).and_then(|at| at.time(report));
    // Labels and annotations are the operator's own; the rest is Kubernetes' bookkeeping in exported documents.
    let labels = object.field("labels", report).filter(|_| matches!(kind.read, Read::Labels(_)));
    let labels = labels.map(|at| at.labels(report)).unwrap_or_default();
    let annotations = object.field("annotations", report).filter(|_| matches!(kind.read, Read::Annotated(_)));
    let annotations = annotations.map(|at| at.entries(report)).unwrap_or_default().into_iter();
    let annotations = annotations.filter_map(|(key, at)| Some((key.text, at.located(report)?))).collect();
    for name in ["generation", "resourceVersion", "uid"] {
        object.field(name, report);
    }
    for name in ["managedFields", "ownerReferences", "finalizers", "selfLink"] {
        object.field(name, report);
    }
    object.finish(report);
    let created_at_seconds = created.unwrap_or_default();
    Some(Metadata { name: name?, namespace, created_at_seconds, labels, annotations })
}

fn dns_name(at: &At<'_>, report: &mut Report) -> Option<Located> {
    let name = at.located(report)?;
    let fits = !name.text.is_empty()
        && name.text.len() <= 253
        && name.text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    if !fits {
        at.fail(
            report,
            format!("{:?} is no name", name.text),
            "lower-case letters, digits, - and . are allowed",
        );
        return None;
    }
    Some(name)
}
