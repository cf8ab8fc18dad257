//! What xDS asked for, checked: plain typed values that the runtime trusts. Pure; no protobuf type leaves `xds/decode`.
//!
//! Every value here is immutable once decoded and shared by `Arc`, so an update that leaves a cluster or route table
//! alone leaves the very same allocation in place (`Arc::ptr_eq` tells "untouched").

mod access_log;
mod chain;
mod cluster;
mod filter;
mod hash;
mod health;
mod names;
mod rate_limit;
mod rbac;
mod retry;
mod tls;
mod token;
mod tracing;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

pub use access_log::*;
pub use chain::*;
pub use cluster::*;
pub use filter::*;
pub use hash::*;
pub use health::*;
pub use names::*;
pub use rate_limit::*;
pub use rbac::*;
pub use retry::*;
pub use tls::*;
pub use token::*;
pub use tracing::*;

use http::{HeaderName, HeaderValue, StatusCode, uri::Scheme};
use regex::bytes::Regex;

use crate::{listener::chains::Chains, tls::contexts::Contexts};

/// Everything that the proxy runs at one moment.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Listeners by resource name.
    pub listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    /// Route tables by resource name.
    pub routes: BTreeMap<Arc<str>, Arc<RouteConfig>>,
    /// Clusters by resource name.
    pub clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// Endpoint sets by resource name (EDS service name, or the cluster's name).
    pub endpoints: BTreeMap<Arc<str>, Arc<EndpointSet>>,
    /// Secrets by resource name.
    pub secrets: BTreeMap<Arc<str>, Arc<Secret>>,
    /// Whether the listeners were told, be there none, and all had what they name.
    pub complete: bool,
    /// The TLS contexts of listeners and clusters.
    pub tls: Arc<Contexts>,
    /// Virtual hosts that were asked for on demand and do not exist: `TABLE/HOST`.
    pub absent: Arc<BTreeSet<String>>,
    /// Hosts of the mesh by resource name, where DNS is answered.
    pub hosts: MeshHosts,
}

/// One listening socket.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Resource name.
    pub name: Arc<str>,
    /// Where to listen.
    pub address: ListenAddress,
    /// Direction as the workload sees it, for metrics' `reporter`.
    pub direction: Direction,
    /// What is read of a connection before its chain is chosen.
    pub inspection: Inspection,
    /// A connection that a packet filter brought here counts as one to where its client wanted to connect
    /// (`original_dst`).
    pub original_destination: bool,
    /// Such a connection goes to the listener without a socket at that address, or at its port of every address, where
    /// there is one (`use_original_dst`).
    pub hands_over: bool,
    /// Whether it has a socket; else its connections come from a listener that hands over (`bind_to_port`).
    pub has_socket: bool,
    /// What to do with a connection, by what it is.
    pub chains: Chains,
}

/// Where a listener or endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    /// IP and port.
    Tcp(SocketAddr),
    /// Path of a unix socket.
    Unix(PathBuf),
}

/// Direction of traffic as the workload sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the workload: `reporter="destination"`.
    Inbound,
    /// From the workload, or through a gateway: `reporter="source"`.
    Outbound,
}

/// What to do with a connection.
#[derive(Clone, Debug)]
pub enum ListenerProtocol {
    /// Requests: HTTP/1.1 and HTTP/2, told apart by the connection preface.
    Http(HttpListener),
    /// Bytes.
    Tcp(TcpListener),
}

/// From an `HttpConnectionManager`.
#[derive(Clone, Debug)]
pub struct HttpListener {
    /// `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// Name of the route table (RDS), looked up in the snapshot; or inline.
    pub routes: RouteSource,
    /// How requests are traced; none is not at all.
    pub tracing: Option<Arc<Tracing>>,
    /// Filters before the router, in order.
    pub filters: Vec<HttpFilter>,
    /// Largest header block, bytes.
    pub headers_bytes_max: usize,
    /// Most header fields in one block.
    pub headers_count_max: usize,
    /// Time for a whole request head to arrive.
    pub request_headers_timeout: Duration,
    /// Time without any byte on a stream (`stream_idle_timeout`); zero is none.
    pub stream_idle_timeout: Duration,
    /// HTTP/2 concurrent streams of a downstream connection.
    pub h2_concurrent_streams_max: u32,
    /// Whether what clients say of the way they came is replaced (`use_remote_address`).
    pub edge: bool,
    /// What becomes of `x-forwarded-client-cert`.
    pub client_cert: ClientCert,
    /// Whether `//` in a path becomes `/` before the request is routed and sent on (`merge_slashes`).
    pub merge_slashes: bool,
    /// Protocol upgrades allowed on every route, lower case: `websocket`. A route may allow more.
    pub upgrades: Vec<String>,
}

/// What workloads are told of their clients' certificates (`forward_client_cert_details`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCert {
    /// Nothing.
    #[default]
    Sanitize,
    /// What a client says itself that showed a certificate.
    Forward,
    /// The same, and after it what its certificate says.
    Append(CertParts),
    /// What its certificate says.
    Set(CertParts),
    /// What anybody says.
    Always,
}

/// What is told of a certificate besides whose it is for and its hash (`set_current_client_cert_details`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertParts {
    /// Its subject.
    pub subject: bool,
    /// Its URIs.
    pub uri: bool,
    /// Its DNS names.
    pub dns: bool,
}

/// Where an HTTP listener's routes come from.
#[derive(Clone, Debug)]
pub enum RouteSource {
    /// By name, over RDS.
    Named(Arc<str>),
    /// Within the listener.
    Inline(Arc<RouteConfig>),
}

/// From a `TcpProxy`.
#[derive(Clone, Debug)]
pub struct TcpListener {
    /// `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// Clusters with their weights; at least one, total above zero.
    pub clusters: Vec<WeightedCluster>,
    /// Connections are told apart by their callers' addresses, where the cluster picks by hash (`hash_policy.source_ip`).
    pub hash_source_ip: bool,
}

/// A route table.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Resource name.
    pub name: Arc<str>,
    /// Hosts, each with its routes.
    pub virtual_hosts: Vec<VirtualHost>,
    /// A port in the request's host is left out of account when its virtual host is found.
    pub ignore_port: bool,
    /// Hosts that it lacks are asked for by name, `TABLE/HOST` (`vhds`).
    pub on_demand: bool,
}

/// The routes of some host names.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// Name, unique in the table.
    pub name: Arc<str>,
    /// Lower case: exact `a.b`, `a.b:80`; suffix `*.b`; prefix `a.*`; or `*`.
    pub domains: Vec<String>,
    /// Routes in order; the first that matches wins.
    pub routes: Vec<Arc<Route>>,
    /// Where a host that came on demand notes that it is used; none for hosts that came with their table.
    pub used: Option<Arc<Used>>,
}

/// Whether something was used since the last look. All workers note it, and one task looks.
#[derive(Debug, Default)]
pub struct Used(AtomicBool);

impl Used {
    /// It is.
    pub fn note(&self) {
        // Written once between two looks, so that workers do not pass the line around.
        if !self.0.load(Relaxed) {
            self.0.store(true, Relaxed);
        }
    }

    /// Whether it was, since the last time.
    pub fn take(&self) -> bool {
        self.0.swap(false, Relaxed)
    }
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Name, for logs; may be empty.
    pub name: Arc<str>,
    /// When it applies.
    pub matches: RouteMatch,
    /// What to do.
    pub action: RouteAction,
    /// Changes to the request before it goes upstream.
    pub request_headers: HeaderMutation,
    /// Changes to the response before it goes downstream.
    pub response_headers: HeaderMutation,
    /// What is different for filters, each named once.
    pub filters: Vec<FilterOverride>,
}

/// When a route applies: every part must match.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The path without its query.
    pub path: PathMatch,
    /// Whether the path is compared without regard to case.
    pub ignore_case: bool,
    /// Header conditions.
    pub headers: Vec<HeaderMatch>,
    /// Query parameter conditions.
    pub query: Vec<QueryMatch>,
    /// Only this share of requests, in millionths (`runtime_fraction`); one million is all.
    pub fraction_ppm: u32,
}

/// How a path matches.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// `prefix`.
    Prefix(String),
    /// `path_separated_prefix`: the prefix, or the prefix and a slash.
    SegmentPrefix(String),
    /// `path`.
    Exact(String),
    /// `safe_regex`, on the whole path.
    Regex(Regex),
}

/// A condition on a header; pseudo headers `:method`, `:authority`, `:path`, `:scheme` included.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// Lower case name.
    pub name: String,
    /// What its value must be. Several values are joined with "," as Envoy does.
    pub value: ValueMatch,
    /// The condition holds when the value does not match.
    pub invert: bool,
    /// An absent header counts as an empty one.
    pub missing_as_empty: bool,
}

/// A condition on a query parameter.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    /// Name.
    pub name: String,
    /// What its first value must be.
    pub value: ValueMatch,
}

/// How a value matches.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// There is one (`true`) or there is none (`false`).
    Present(bool),
    /// String conditions.
    Exact {
        /// The text, already lower case when case is ignored.
        text: String,
        /// Whether case is ignored.
        ignore_case: bool,
    },
    /// Starts with.
    Prefix {
        /// The text.
        text: String,
        /// Whether case is ignored.
        ignore_case: bool,
    },
    /// Ends with.
    Suffix {
        /// The text.
        text: String,
        /// Whether case is ignored.
        ignore_case: bool,
    },
    /// Contains.
    Contains {
        /// The text.
        text: String,
        /// Whether case is ignored.
        ignore_case: bool,
    },
    /// Matches as a whole.
    Regex(Regex),
    /// An integer within the half-open range.
    Range {
        /// First value inside.
        start: i64,
        /// First value outside.
        end: i64,
    },
}

/// What a route does.
#[derive(Clone, Debug)]
pub enum RouteAction {
    /// Send to a cluster.
    Forward(Box<Forward>),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer with a fixed response.
    Direct(DirectResponse),
}

/// Send to a cluster.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Clusters with their weights; at least one, total above zero.
    pub clusters: Vec<WeightedCluster>,
    /// Answer when the cluster is not known.
    pub cluster_not_found: StatusCode,
    /// Time for the whole request with its retries, until the response ends; none is unlimited.
    pub timeout: Option<Duration>,
    /// Calls take the time that `grpc-timeout` says, up to this; zero is as long as they say; none is as `timeout` says
    /// (`max_grpc_timeout`).
    pub grpc_timeout_max: Option<Duration>,
    /// Time without a byte in either direction; overrides the listener's.
    pub idle_timeout: Option<Duration>,
    /// Retry policy; none is no retry.
    pub retry: Option<RetryPolicy>,
    /// Replaces the matched prefix of the path.
    pub prefix_rewrite: Option<String>,
    /// Replaces what the regex matches in the path.
    pub regex_rewrite: Option<(Regex, String)>,
    /// Replaces the host.
    pub host_rewrite: Option<HeaderValue>,
    /// Protocol upgrades allowed, lower case: `websocket`.
    pub upgrades: Vec<String>,
    /// What the request's hash is made of, where the cluster picks by it.
    pub hash: Vec<HashPolicy>,
    /// Clusters that get copies of requests.
    pub mirrors: Vec<Mirror>,
    /// Most bytes of a request's body that are kept for another try.
    pub replay_bytes_max: usize,
}

/// Copies of requests for another cluster, whose answers nobody waits for (`RequestMirrorPolicy`).
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Name of the cluster.
    pub cluster: Arc<str>,
    /// Share of requests, in millionths.
    pub ppm: u32,
    /// The host that a copy is for.
    pub host: MirrorHost,
}

/// The host that the copy of a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorHost {
    /// The request's.
    Same,
    /// The request's with `-shadow` after its name.
    Shadow,
    /// This one.
    Literal(HeaderValue),
}

/// A cluster and its share.
#[derive(Clone, Debug)]
pub struct WeightedCluster {
    /// Name of the cluster.
    pub name: Arc<str>,
    /// Its share of the total.
    pub weight: u32,
    /// Changes to the request for this cluster.
    pub request_headers: HeaderMutation,
    /// Changes to the response from this cluster.
    pub response_headers: HeaderMutation,
}

/// Answer with a redirect; what is absent stays as requested.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// New scheme.
    pub scheme: Option<Scheme>,
    /// New host.
    pub host: Option<String>,
    /// New port.
    pub port: Option<u16>,
    /// New path.
    pub path: PathRedirect,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Drops the query.
    pub strip_query: bool,
}

/// What a redirect does with the path.
#[derive(Clone, Debug)]
pub enum PathRedirect {
    /// Nothing.
    Keep,
    /// Replaces all of it.
    Full(String),
    /// Replaces the matched prefix.
    Prefix(String),
}

/// Answer with a fixed response.
#[derive(Clone, Debug)]
pub struct DirectResponse {
    /// Status.
    pub status: StatusCode,
    /// Body.
    pub body: bytes::Bytes,
}

/// Changes to headers: removals first, then sets, then adds.
#[derive(Clone, Debug, Default)]
pub struct HeaderMutation {
    /// Names to remove.
    pub remove: Vec<HeaderName>,
    /// Values that replace what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Values that come beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// New host, from setting `:authority` or `host`.
    pub host: Option<HeaderValue>,
}

impl HeaderMutation {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty() && self.host.is_none()
    }
}
