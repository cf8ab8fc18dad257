//! Clusters: upstream services, how their endpoints are found, picked and watched.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// An upstream service.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Resource name.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How an endpoint is picked.
    pub balancing: Balancing,
    /// Whether localities share their priority's traffic by `LocalityEndpoints::weight`; else endpoints of one priority
    /// are one flat set.
    pub locality_weighted: bool,
    /// Below this share of healthy endpoints, in percent, health is disregarded (`healthy_panic_threshold`); 0 is never.
    pub panic_percent: u32,
    /// What is spoken to the endpoints.
    pub protocol: UpstreamProtocol,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Limits.
    pub limits: ClusterLimits,
    /// Close a pooled connection that idles this long.
    pub idle_timeout: Duration,
    /// Drain a connection that is this old (`max_connection_duration`); none is never.
    pub connection_age_max: Option<Duration>,
    /// Labels for metrics.
    pub destination: Destination,
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
    /// Addresses are host names; resolved again every `refresh`. `STRICT_DNS` and `LOGICAL_DNS`.
    Dns {
        /// Endpoints whose addresses are names.
        endpoints: Arc<EndpointSet>,
        /// How often to resolve.
        refresh: Duration,
    },
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancing {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Power of two choices by active requests.
    LeastRequest,
    /// Uniform by weight.
    Random,
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
#[derive(Clone, Debug, Default)]
pub struct EndpointSet {
    /// By locality, highest priority (lowest number) first.
    pub localities: Vec<LocalityEndpoints>,
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
    /// Who it is, for metrics.
    pub workload: Workload,
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

/// Whether an endpoint may get new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointHealth {
    /// `HEALTHY` or `UNKNOWN`.
    Admitting,
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
