//! The Gateway API on every platform: gateways and their classes, routes that attach to gateways or to services, and
//! grants across namespaces. Strict types of our own with the fields of the standard channel; a field that is not
//! implemented is an error. Rules of HTTP routes become the same values as those of a `VirtualService`.

use std::{collections::BTreeMap, sync::Arc};

use super::{Destination, HttpRoute, Located, ServerClass, ServerMode, TlsVersion, tree::Place};

mod cors;
pub(super) mod filters;
mod frontend;
pub(super) mod gateway;
pub(super) mod grant;
pub(super) mod grpc_route;
pub(super) mod http_route;
mod listener_tls;
pub(super) mod refs;
pub(super) mod stream_route;

/// Group of the kinds.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// Kind of its gateways in keys (`weft_proto::document::kind_in_keys`).
pub const GATEWAY_KEY: &str = "Gateway.gateway.networking.k8s.io";

/// Label of a proxy that serves one gateway alone, by name, in its own namespace.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// What a `GatewayClass` names whose gateways are ours.
pub const CONTROLLER: &str = "weft.dev/gateway-controller";

/// Classes that are ours where no `GatewayClass` of the name says otherwise. Istio's name is taken, too: its samples use
/// it.
pub const CLASSES: [&str; 2] = ["weft", "istio"];

/// `GatewayClass`: which controller serves the gateways that name it.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayClass {
    /// `controllerName`.
    pub controller: Located,
}

/// `Gateway` of the Gateway API: listeners that edge proxies serve.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeGateway {
    /// `gatewayClassName`.
    pub class: Located,
    /// Listeners; their names differ.
    pub listeners: Vec<GatewayListener>,
    /// Labels of the proxies that serve it (`infrastructure.labels`); empty is every gateway.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// One port of a gateway, and what may attach to it.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayListener {
    /// Its name.
    pub name: Located,
    /// Hosts that it takes: exact or `*.suffix`; none is every host.
    pub hostname: Option<Arc<str>>,
    /// Port.
    pub port: u16,
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// TLS, where it is spoken.
    pub tls: Option<ListenerTls>,
    /// Namespaces whose routes may attach.
    pub namespaces: RouteNamespaces,
    /// Kinds of routes that may attach, as group and kind; empty is all that the protocol carries.
    pub kinds: Vec<(Arc<str>, Arc<str>)>,
}

impl GatewayListener {
    /// What it may share its port with; none for a protocol that is refused.
    pub fn class(&self) -> Option<ServerClass> {
        match self.protocol {
            ListenerProtocol::Http => Some(ServerClass::Http),
            ListenerProtocol::Https | ListenerProtocol::Tls => Some(ServerClass::Tls),
            ListenerProtocol::Tcp => Some(ServerClass::Tcp),
            ListenerProtocol::Other(_) => None,
        }
    }

    /// The host or pattern that it takes; `*` is every host.
    pub fn host(&self) -> Arc<str> {
        self.hostname.clone().unwrap_or_else(|| "*".into())
    }
}

impl ListenerTls {
    /// Whether TLS ends at the gateway.
    pub fn terminates(&self) -> bool {
        self.mode != ServerMode::Passthrough
    }

    /// Whether clients are asked for certificates.
    pub fn verifies_clients(&self) -> bool {
        matches!(self.mode, ServerMode::Mutual | ServerMode::OptionalMutual)
    }
}

/// What is spoken on a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// HTTP, in clear text.
    Http,
    /// HTTP over TLS.
    Https,
    /// TLS, routed by server name.
    Tls,
    /// Bytes.
    Tcp,
    /// One that is refused, such as `UDP`: its listener has the status `UnsupportedProtocol`, the others serve.
    Other(Arc<str>),
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// Whether it ends here, and clients show certificates.
    pub mode: ServerMode,
    /// Certificates to show, where it ends here; at least one then.
    pub certificates: Vec<ObjectRef>,
    /// Whose certificates clients show, where they do (`spec.tls.frontend` of the gateway); none: the authorities that are
    /// beside the first certificate say it.
    pub authorities: Option<ObjectRef>,
    /// Least version.
    pub min: Option<TlsVersion>,
    /// Greatest version.
    pub max: Option<TlsVersion>,
    /// Suites of TLS 1.2, in OpenSSL's words; empty is the proxy's choice.
    pub suites: Vec<Arc<str>>,
    /// Where it stands.
    pub place: Place,
}

/// Namespaces whose routes may attach to a listener.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteNamespaces {
    /// Every namespace.
    All,
    /// The gateway's own.
    Same,
    /// Those with these labels.
    Selector(LabelSelector),
}

/// Labels that something must have: all that is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector {
    /// `matchLabels`.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// `matchExpressions`: a label and what its value must be.
    pub expressions: Vec<(Arc<str>, LabelOperator)>,
}

/// What a label's value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelOperator {
    /// One of these.
    In(Vec<Arc<str>>),
    /// None of these, or absent.
    NotIn(Vec<Arc<str>>),
    /// There.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether labels are selected; an empty selector selects everything.
    pub fn selects(&self, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
        let expression = |(name, operator): &(Arc<str>, LabelOperator)| match (operator, labels.get(name)) {
            (LabelOperator::In(values), Some(value)) => values.contains(value),
            (LabelOperator::NotIn(values), Some(value)) => !values.contains(value),
            (LabelOperator::Exists, value) => value.is_some(),
            (LabelOperator::DoesNotExist, value) => value.is_none(),
            (LabelOperator::In(_), None) => false,
            (LabelOperator::NotIn(_), None) => true,
        };
        self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
            && self.expressions.iter().all(expression)
    }
}

/// A reference to an object, in the namespace of its document unless it names another.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectRef {
    /// API group; empty is Kubernetes' core.
    pub group: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Namespace.
    pub namespace: Option<Arc<str>>,
    /// Name, with the place of the reference.
    pub name: Located,
}

/// Kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    /// `GRPCRoute`. First: of several kinds at one service the most specific routes it.
    Grpc,
    /// `HTTPRoute`.
    Http,
    /// `TLSRoute`.
    Tls,
    /// `TCPRoute`.
    Tcp,
}

impl RouteKind {
    /// As documents write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "GRPCRoute",
            Self::Http => "HTTPRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
        }
    }

    /// Whether it routes requests, not connections.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Grpc | Self::Http)
    }
}

/// `HTTPRoute`, `GRPCRoute`, `TLSRoute` or `TCPRoute`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its kind.
    pub kind: RouteKind,
    /// What it attaches to.
    pub parents: Vec<ParentRef>,
    /// Hosts of requests, or server names: exact or `*.suffix`; none is every host of the listener.
    pub hostnames: Vec<Located>,
    /// What it does.
    pub rules: RouteRules,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteRules {
    /// With requests.
    Http(Vec<RouteRule>),
    /// With connections.
    Stream(Vec<Destination>),
}

/// A rule for requests. Of several that match, of whatever route, the most specific match has the request.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRule {
    /// What it does and when.
    pub rule: HttpRoute,
    /// How specific each of its matches is; one where it has no match.
    pub ranks: Vec<Rank>,
}

/// How specific a match is; the greater goes first. In the order in which the parts decide:
/// `HTTPRoute`: exact path before pattern before prefix, length of the path, whether the method is given, number of
/// headers, number of query parameters. `GRPCRoute`: length of the service, length of the method, number of headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(pub [usize; 5]);

/// What a route attaches to.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentRef {
    /// Kind of the parent.
    pub kind: ParentKind,
    /// Its namespace; none is the route's.
    pub namespace: Option<Arc<str>>,
    /// Its name, with the place of the reference.
    pub name: Located,
    /// Listener of a gateway; none is all of them.
    pub section: Option<Arc<str>>,
    /// Port of the listener or of the service; none is all of them.
    pub port: Option<u16>,
}

/// Kind of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParentKind {
    /// `Gateway` of the Gateway API.
    Gateway,
    /// `Service`: the route is for requests to it from within the mesh.
    Service,
}

impl ParentKind {
    /// As documents write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::Service => "Service",
        }
    }
}

/// `ReferenceGrant`: who may refer to objects of its namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceGrant {
    /// Those who refer.
    pub from: Vec<GrantFrom>,
    /// What they may refer to.
    pub to: Vec<GrantTo>,
}

/// Who may refer.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantFrom {
    /// API group.
    pub group: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
}

/// What may be referred to.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantTo {
    /// API group; empty is Kubernetes' core.
    pub group: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Name; none is every object of the kind.
    pub name: Option<Arc<str>>,
}

/// `Namespace`: its labels, which listeners select by.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}
