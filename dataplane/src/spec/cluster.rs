//! Clusters: upstream services, how their endpoints are found, picked and watched.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{Check, EndpointCheck, Outlier, UpstreamTls};

/// An upstream service.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Resource name.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How an endpoint is picked.
    pub balancing: Balancing,
    /// How endpoints that just came get their share; none is all of it at once. Only for `RoundRobin` and `LeastRequest`.
    pub slow_start: Option<SlowStart>,
    /// Whether localities share their priority's traffic by `LocalityEndpoints::weight`; else endpoints of one priority
    /// are one flat set.
    pub locality_weighted: bool,
    /// Below this share of healthy endpoints, in percent, health is disregarded (`healthy_panic_threshold`); 0 is never.
    pub panic_percent: u32,
    /// How endpoints that fail are found and left out for a while; none is not at all.
    pub outlier: Option<Outlier>,
    /// TLS that connections begin with, to endpoints for which none of `tls_matches` is; none is plain text.
    pub tls: Option<Arc<UpstreamTls>>,
    /// What connections begin with to some endpoints (`transport_socket_matches`); the first that holds is taken.
    pub tls_matches: Vec<TlsMatch>,
    /// How endpoints are checked; none is not at all.
    pub check: Option<Check>,
    /// Whether an endpoint counts before its first check has passed (`ignore_new_hosts_until_first_hc` is false).
    pub unchecked_count: bool,
    /// What is spoken to the endpoints.
    pub protocol: UpstreamProtocol,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Probes of connections on which nothing moves; none is not at all.
    pub keepalive: Option<Keepalive>,
    /// Address that connections come from (`upstream_bind_config.source_address`); none lets the system choose.
    pub source: Option<IpAddr>,
    /// Limits.
    pub limits: ClusterLimits,
    /// Close a pooled connection that idles this long.
    pub idle_timeout: Duration,
    /// Drain a connection that is this old (`max_connection_duration`); none is never.
    pub connection_age_max: Option<Duration>,
    /// Labels for metrics.
    pub destination: Destination,
}

impl Cluster {
    /// Whether an endpoint is checked.
    pub fn checks(&self, endpoint: &Endpoint) -> bool {
        self.check.is_some() && !endpoint.check.disabled
    }
}

/// `TcpKeepalive`; what is none is the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Probes without an answer until the connection is dead.
    pub probes: Option<u32>,
    /// Time without traffic until the first probe.
    pub idle: Option<Duration>,
    /// Time between two probes.
    pub interval: Option<Duration>,
}

/// What a cluster leads to, for metrics; `unknown` where the control plane did not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `destination_service`: full host name.
    pub host: Arc<str>,
    /// `destination_service_name`.
    pub name: Arc<str>,
    /// `destination_service_namespace`.
    pub namespace: Arc<str>,
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug)]
pub enum Discovery {
    /// EDS, under this resource name.
    Eds(Arc<str>),
    /// Within the cluster.
    Static(Arc<EndpointSet>),
    /// Addresses are host names, resolved again and again.
    Dns {
        /// Endpoints whose addresses are names.
        endpoints: Arc<EndpointSet>,
        /// When to resolve again.
        refresh: Refresh,
        /// Whether only the first address of a name is used (`LOGICAL_DNS`).
        first: bool,
    },
    /// Its one endpoint is where the client wanted to connect (`ORIGINAL_DST`).
    OriginalDestination,
}

/// When the host names of a cluster are resolved again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Time between two lookups (`dns_refresh_rate`).
    pub every: Duration,
    /// Whether an answer lives as long as its records say instead (`respect_dns_ttl`).
    pub by_ttl: bool,
    /// Most that chance adds to a wait (`dns_jitter`); a part of the wait if none.
    pub jitter: Option<Duration>,
    /// First and longest wait after failures (`dns_failure_refresh_rate`); `every` if none.
    pub failure: Option<(Duration, Duration)>,
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Balancing {
    /// Smooth weighted round robin.
    RoundRobin,
    /// By active requests.
    LeastRequest(LeastRequest),
    /// Uniform by weight.
    Random,
    /// Of two choices the one with the lower expected latency (`weft.extension.v1.PeakEwma`).
    PeakEwma(PeakEwma),
    /// Consistently by the request's hash, on a ring.
    RingHash(RingHash),
    /// Consistently by the request's hash, from a table.
    Maglev(Maglev),
}

impl Balancing {
    /// Whether the request's hash decides.
    pub fn by_hash(&self) -> bool {
        matches!(self, Self::RingHash(_) | Self::Maglev(_))
    }
}

/// `LeastRequest`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastRequest {
    /// Random choices of which the least loaded is taken where weights are equal (`choice_count`); none is all endpoints
    /// (`FULL_SCAN`).
    pub choices: Option<u32>,
    /// Where weights differ, a weight is divided by (active requests + 1) to this power (`active_request_bias`).
    pub bias: f64,
}

/// `weft.extension.v1.PeakEwma`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    /// Time in which the weight of an observation halves (`decay_ms`).
    pub half_life: Duration,
    /// Latency assumed for an endpoint that was never used (`initial_ms`).
    pub initial: Duration,
}

/// `RingHash`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RingHash {
    /// Least number of points (`minimum_ring_size`).
    pub size_min: u64,
    /// Greatest number of points (`maximum_ring_size`).
    pub size_max: u64,
    /// What places endpoints on the ring.
    pub function: RingFunction,
    /// Endpoints are told apart by host name rather than by address (`use_hostname_for_hashing`).
    pub by_hostname: bool,
}

/// What places endpoints on the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFunction {
    /// `XX_HASH`.
    Xx,
    /// `MURMUR_HASH_2`, libstdc++'s `std::hash`.
    Murmur2,
}

/// `Maglev`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Maglev {
    /// Slots; a prime number.
    pub table_size: u64,
    /// Endpoints are told apart by host name rather than by address (`use_hostname_for_hashing`).
    pub by_hostname: bool,
}

/// `SlowStartConfig`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// Time until an endpoint gets its whole share; above zero.
    pub window: Duration,
    /// Shape of the way there: 1 is a straight line, more rises sooner; above zero.
    pub aggression: f64,
    /// Least share of its weight that an endpoint gets, 0..=1 (`min_weight_percent`).
    pub weight_min: f64,
}

/// What is spoken to the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// As the downstream speaks (`use_downstream_protocol_config`).
    Downstream,
    /// HTTP/2 with endpoints that agree to it by ALPN, HTTP/1.1 with others (`auto_config`). Only over TLS.
    Agreed,
}

/// `circuit_breakers` and retry budget of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterLimits {
    /// Most open connections of the process.
    pub connections_max: u32,
    /// Most requests waiting for a connection.
    pub pending_max: u32,
    /// Most active requests.
    pub requests_max: u32,
    /// Most retries active at once, where no budget is given.
    pub retries_max: u32,
    /// Retries as a share of active requests, in percent (`retry_budget.budget_percent`). This and
    /// `retry_concurrency_min` are both 0 when no budget is given; `retries_max` holds then.
    pub retry_budget_percent: u32,
    /// Retries always allowed (`retry_budget.min_retry_concurrency`).
    pub retry_concurrency_min: u32,
    /// Requests after which a connection is closed; 0 is no limit.
    pub requests_per_connection_max: u32,
}

/// The endpoints of a cluster.
#[derive(Clone, Debug)]
pub struct EndpointSet {
    /// By locality, highest priority (lowest number) first.
    pub localities: Vec<LocalityEndpoints>,
    /// A priority or locality counts as healthy while its share of healthy endpoints times this, in percent, is at least 100
    /// (`overprovisioning_factor`).
    pub overprovisioning_percent: u32,
    /// Endpoints count by their weights in a priority's health (`weighted_priority_health`).
    pub health_by_weight: bool,
}

impl EndpointSet {
    /// Envoy's overprovisioning factor where none is given, in percent.
    pub const OVERPROVISIONING_PERCENT: u32 = 140;

    /// All endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.localities.iter().flat_map(|locality| &locality.endpoints)
    }
}

impl Default for EndpointSet {
    fn default() -> Self {
        Self {
            localities: Vec::new(),
            overprovisioning_percent: Self::OVERPROVISIONING_PERCENT,
            health_by_weight: false,
        }
    }
}

/// The endpoints of one locality.
#[derive(Clone, Debug)]
pub struct LocalityEndpoints {
    /// 0 is used first.
    pub priority: u32,
    /// Share of this locality within its priority; 0 where localities are not weighted.
    pub weight: u32,
    /// `region/zone/subzone`.
    pub locality: Arc<str>,
    /// Endpoints.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its share.
    pub weight: u32,
    /// Whether it may get new requests.
    pub health: EndpointHealth,
    /// Its host name, for hashing and health checks; may be empty (`hostname`).
    pub hostname: Arc<str>,
    /// What tells it apart when it is hashed (`metadata["envoy.lb"].hash_key`); none is its address or host name.
    pub hash_key: Option<Arc<str>>,
    /// What it says of its checks.
    pub check: EndpointCheck,
    /// Who it is, for metrics.
    pub workload: Workload,
    /// What decides how connections to it begin (`metadata["envoy.transport_socket_match"]`).
    pub tls_labels: BTreeMap<String, String>,
}

/// Address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// IP and port.
    Tcp(SocketAddr),
    /// Path of a unix socket.
    Unix(PathBuf),
    /// Host name and port, to be resolved.
    Name(Arc<str>, u16),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Whether an endpoint may get new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointHealth {
    /// `HEALTHY` or `UNKNOWN`.
    Admitting,
    /// `DEGRADED`: gets what the healthy ones of its and lower priorities cannot take.
    Degraded,
    /// `DRAINING`: existing streams finish.
    Draining,
    /// `UNHEALTHY` or `TIMEOUT`.
    Unhealthy,
}

/// Istio's workload labels; `unknown` where not told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// `*_workload`.
    pub name: Arc<str>,
    /// `*_workload_namespace`.
    pub namespace: Arc<str>,
    /// `*_canonical_service`.
    pub service: Arc<str>,
    /// `*_canonical_revision`.
    pub revision: Arc<str>,
    /// `*_cluster`.
    pub cluster: Arc<str>,
}

/// TLS for endpoints with some labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsMatch {
    /// All of these; none is every endpoint.
    pub labels: BTreeMap<String, String>,
    /// None is plain text.
    pub tls: Option<Arc<UpstreamTls>>,
}

impl TlsMatch {
    /// Whether it is for an endpoint.
    pub fn is_for(&self, endpoint: &Endpoint) -> bool {
        self.labels.iter().all(|(name, value)| endpoint.tls_labels.get(name) == Some(value))
    }
}

impl Cluster {
    /// What connections to an endpoint begin with.
    pub fn tls_of(&self, endpoint: &Endpoint) -> Option<&Arc<UpstreamTls>> {
        match self.tls_matches.iter().find(|matches| matches.is_for(endpoint)) {
            Some(found) => found.tls.as_ref(),
            None => self.tls.as_ref(),
        }
    }

    /// Every TLS that connections may begin with.
    pub fn all_tls(&self) -> impl Iterator<Item = &Arc<UpstreamTls>> {
        self.tls.iter().chain(self.tls_matches.iter().filter_map(|matches| matches.tls.as_ref()))
    }
}
