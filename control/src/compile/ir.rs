//! What compile decides, as plain ordered values: what is equal here is equal on the wire, and hashes alike. `encode`
//! turns it into protobuf, whose maps have no order.

mod access;
mod limits;
mod listener;
mod tls;
mod tokens;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

pub(crate) use access::*;
pub(crate) use limits::*;
pub(crate) use listener::*;
pub(crate) use tls::*;
pub(crate) use tokens::*;

use crate::{
    documents::{
        Cors, Fault, HashKey, HeaderOperations, HealthCheck, HttpPool, LoadBalancer, OutlierDetection,
        PathMatch, PeakEwma, RedirectPath, RetryBudget, StringMatch, TcpPool, Warmup,
    },
    model::{Health, Locality},
};

/// The version of a value: its hash under fixed keys.
pub(crate) fn version<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cluster {
    pub(crate) name: Arc<str>,
    /// The service it belongs to, for metrics; none for the workload's own ports.
    pub(crate) service: Option<ServiceName>,
    pub(crate) discovery: Discovery,
    /// Address that connections come from; none lets the system choose.
    pub(crate) source: Option<IpAddr>,
    pub(crate) balancer: LoadBalancer,
    /// Whether localities share load by their weights.
    pub(crate) locality_weighted: bool,
    pub(crate) warmup: Option<Warmup>,
    /// Balances by latency in place of `balancer`, where the proxy can.
    pub(crate) peak_ewma: Option<PeakEwma>,
    pub(crate) outlier: Option<OutlierDetection>,
    pub(crate) check: Option<HealthCheck>,
    /// Below this share of healthy endpoints all are used, percent; none is the proxies' default.
    pub(crate) health_percent_min: Option<u32>,
    /// None is the mesh's default, or a fixed number where `pool` gives one.
    pub(crate) retry_budget: Option<RetryBudget>,
    pub(crate) tls: Option<ClientTls>,
    /// Endpoints that do not say that they take it get plain text.
    pub(crate) tls_where_taken: bool,
    /// None is bytes.
    pub(crate) http: Option<HttpVersion>,
    pub(crate) tcp: TcpPool,
    pub(crate) pool: HttpPool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServiceName {
    pub(crate) host: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Discovery {
    /// Endpoints come over the stream under the cluster's name.
    Eds,
    /// Names, resolved by the proxy.
    Dns(Endpoints),
    /// One name, resolved by the proxy, whose first address is used.
    DnsFirst(Endpoints),
    /// Fixed addresses.
    Static(Endpoints),
    /// Where the client wanted to connect.
    OriginalDestination,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HttpVersion {
    Http1,
    Http2,
    /// As the endpoint chooses by ALPN; only over TLS.
    Agreed,
    /// As the client speaks.
    Downstream,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoints {
    pub(crate) cluster: Arc<str>,
    /// Sorted by priority, then by locality.
    pub(crate) localities: Vec<LocalityEndpoints>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LocalityEndpoints {
    /// 0 is used first; none is left out.
    pub(crate) priority: u32,
    pub(crate) locality: Locality,
    /// Share of its priority's load; above zero.
    pub(crate) weight: u32,
    pub(crate) endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub(crate) address: Arc<str>,
    pub(crate) port: u16,
    pub(crate) weight: u32,
    pub(crate) health: Health,
    /// Where it is checked, if not where requests go.
    pub(crate) check_port: Option<u16>,
    /// Whether connections to it begin with the cluster's TLS, where that is only for some.
    pub(crate) takes_tls: bool,
    /// Istio's form: `name;namespace;canonical-service;canonical-revision;cluster`.
    pub(crate) workload: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RouteConfig {
    pub(crate) name: Arc<str>,
    pub(crate) hosts: Vec<VirtualHost>,
    /// Hosts that it lacks are asked for by name.
    pub(crate) on_demand: bool,
    /// Hosts are compared without the port that a client may add.
    pub(crate) ignore_port: bool,
    /// What is checked of every request that it routes.
    pub(crate) access: Access,
    /// How many of them are taken.
    pub(crate) limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VirtualHost {
    pub(crate) name: Arc<str>,
    pub(crate) domains: Vec<Arc<str>>,
    pub(crate) routes: Arc<[Route]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    pub(crate) matches: Match,
    pub(crate) action: Action,
    pub(crate) headers: HeaderOperations,
    pub(crate) filters: Filters,
    /// Name for statistics.
    pub(crate) stat_prefix: Option<Arc<str>>,
}

/// What a route says to the HTTP filters of its listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Filters {
    pub(crate) cors: Option<Cors>,
    /// Only with parts that some request meets.
    pub(crate) fault: Option<Fault>,
    /// Most bytes of a request's body; more is answered 413.
    pub(crate) request_bytes_max: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Match {
    /// None is every path.
    pub(crate) path: Option<PathMatch>,
    pub(crate) ignore_case: bool,
    pub(crate) headers: Vec<HeaderMatch>,
    pub(crate) query: Vec<(Arc<str>, Option<StringMatch>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HeaderMatch {
    pub(crate) name: Arc<str>,
    /// None is presence.
    pub(crate) value: Option<StringMatch>,
    pub(crate) invert: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Forward(Forward),
    Redirect(Redirect),
    Direct { status: u16, body: Arc<[u8]> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Forward {
    /// At least one; the weights sum above zero.
    pub(crate) clusters: Vec<Weighted>,
    /// Zero is no limit.
    pub(crate) timeout: Duration,
    pub(crate) retry: Option<Retry>,
    pub(crate) prefix_rewrite: Option<Arc<str>>,
    pub(crate) regex_rewrite: Option<(Arc<str>, Arc<str>)>,
    pub(crate) host_rewrite: Option<Arc<str>>,
    /// What is hashed for the clusters that pick by hash.
    pub(crate) hash: Option<HashKey>,
    pub(crate) mirrors: Vec<Mirror>,
    /// A cluster that does not exist is answered 500, not 503.
    pub(crate) missing_is_error: bool,
}

/// A cluster that gets copies of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mirror {
    pub(crate) cluster: Arc<str>,
    /// Share of requests, in millionths; above zero.
    pub(crate) ppm: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Weighted {
    pub(crate) cluster: Arc<str>,
    pub(crate) weight: u32,
    pub(crate) headers: HeaderOperations,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Retry {
    pub(crate) on: Arc<str>,
    pub(crate) statuses: Vec<u32>,
    pub(crate) retries: u32,
    pub(crate) per_try_timeout: Option<Duration>,
    pub(crate) backoff: Option<Duration>,
    /// Endpoints that were tried are avoided while there are others.
    pub(crate) avoid_tried: bool,
    /// Priorities that were tried are left.
    pub(crate) leave_tried_priorities: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Redirect {
    pub(crate) path: Option<RedirectPath>,
    pub(crate) host: Option<Arc<str>>,
    pub(crate) scheme: Option<Arc<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) code: u16,
}

impl Cluster {
    /// One of the proxy's own, without anything that documents say.
    pub(crate) fn own(name: Arc<str>, discovery: Discovery, http: Option<HttpVersion>) -> Self {
        Self {
            name,
            service: None,
            discovery,
            source: None,
            balancer: LoadBalancer::RoundRobin,
            locality_weighted: false,
            warmup: None,
            peak_ewma: None,
            outlier: None,
            check: None,
            health_percent_min: None,
            retry_budget: None,
            tls: None,
            tls_where_taken: false,
            http,
            tcp: Default::default(),
            pool: Default::default(),
        }
    }
}

impl RouteConfig {
    /// Every cluster that it can send to.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.hosts.iter().flat_map(VirtualHost::clusters)
    }
}

impl VirtualHost {
    /// Every cluster that it can send to.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        clusters(&self.routes)
    }
}

/// Every cluster that some routes can send to.
pub(crate) fn clusters(routes: &[Route]) -> impl Iterator<Item = &Arc<str>> {
    let forwards = routes.iter().filter_map(|route| match &route.action {
        Action::Forward(forward) => Some(forward),
        Action::Redirect(_) | Action::Direct { .. } => None,
    });
    forwards.flat_map(|forward| {
        let mirrors = forward.mirrors.iter().map(|mirror| &mirror.cluster);
        forward.clusters.iter().map(|weighted| &weighted.cluster).chain(mirrors)
    })
}

impl Forward {
    /// To one cluster, unchanged.
    pub(crate) fn plain(cluster: Arc<str>, retry: Option<Retry>) -> Self {
        Self {
            clusters: vec![Weighted { cluster, weight: 1, headers: HeaderOperations::default() }],
            timeout: Duration::ZERO,
            retry,
            prefix_rewrite: None,
            regex_rewrite: None,
            host_rewrite: None,
            hash: None,
            mirrors: Vec::new(),
            missing_is_error: false,
        }
    }
}
