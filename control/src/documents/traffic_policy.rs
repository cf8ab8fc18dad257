//! `trafficPolicy`: how proxies pick an endpoint, connect to it, and judge it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    load_balancer::{self, Balancing, LoadBalancer, Warmup},
    locality::LocalityLb,
    outlier::{self, OutlierDetection},
    problem::Report,
    reader::{At, Object},
    tls::{self, ClientTls, Credentials},
};

/// Istio's defaults of a retry budget that is given without numbers.
const BUDGET_PERCENT_MILLI: u32 = 20_000;
const BUDGET_CONCURRENCY_MIN: u32 = 3;

/// How a proxy picks and connects. Absent parts are inherited, then the mesh's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrafficPolicy {
    /// How an endpoint is picked.
    pub load_balancer: Option<LoadBalancer>,
    /// How new endpoints come into their full share.
    pub warmup: Option<Warmup>,
    /// How load goes by locality.
    pub locality: Option<LocalityLb>,
    /// Limits of connections.
    pub tcp: TcpPool,
    /// Limits of requests.
    pub http: HttpPool,
    /// TLS that connections begin with; none is plain text.
    pub tls: Option<ClientTls>,
    /// Ejection of endpoints that fail.
    pub outlier: Option<OutlierDetection>,
    /// Retries as a share of the requests in flight.
    pub retry_budget: Option<RetryBudget>,
    /// Policies of single ports; each takes the place of this one as a whole, as in Istio.
    pub ports: BTreeMap<u16, TrafficPolicy>,
}

/// `connectionPool.tcp`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpPool {
    /// Most connections.
    pub connections_max: Option<u32>,
    /// Time to connect.
    pub connect_timeout: Option<Duration>,
    /// Close a TCP connection on which nothing moves for this long.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a connection.
    pub connection_duration_max: Option<Duration>,
    /// Keepalive probes.
    pub keepalive: Option<Keepalive>,
}

/// TCP keepalive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// Probes without an answer before the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// `connectionPool.http`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HttpPool {
    /// Most requests that wait for a connection.
    pub pending_max: Option<u32>,
    /// Most requests in flight.
    pub requests_max: Option<u32>,
    /// Most requests of one connection; 0 is no limit.
    pub requests_per_connection_max: Option<u32>,
    /// Most retries in flight; none is a budget of 20 percent.
    pub retries_max: Option<u32>,
    /// Close an upstream connection without requests after this long.
    pub idle_timeout: Option<Duration>,
    /// Most streams of one HTTP/2 connection.
    pub streams_max: Option<u32>,
    /// `useClientProtocol`: as the client speaks, where the port says HTTP; over TLS as the endpoint chooses.
    pub as_client: Option<bool>,
    /// `h2UpgradePolicy: UPGRADE`: speak HTTP/2 even where the port says HTTP.
    pub upgrade: Option<bool>,
}

impl TrafficPolicy {
    /// Whether it picks by hash, on any port.
    pub fn hashes(&self) -> bool {
        matches!(self.load_balancer, Some(LoadBalancer::ConsistentHash(_)))
            || self.ports.values().any(Self::hashes)
    }

    /// Names of the secrets that its TLS needs, on any port.
    pub fn secrets(&self) -> Vec<Arc<str>> {
        let own = match self.tls.as_ref().map(|tls| &tls.credentials) {
            Some(Credentials::Secrets(names)) => names.clone(),
            Some(Credentials::None | Credentials::Files { .. }) | None => Vec::new(),
        };
        own.into_iter().chain(self.ports.values().flat_map(Self::secrets)).collect()
    }

    /// The policy of one port.
    pub fn of_port(&self, port: u16) -> &Self {
        self.ports.get(&port).unwrap_or(self)
    }

    /// This policy where it says something, else `base`.
    pub fn over(&self, base: &Self) -> Self {
        Self {
            load_balancer: self.load_balancer.clone().or_else(|| base.load_balancer.clone()),
            warmup: self.warmup.clone().or_else(|| base.warmup.clone()),
            locality: self.locality.clone().or_else(|| base.locality.clone()),
            tls: self.tls.clone().or_else(|| base.tls.clone()),
            outlier: self.outlier.clone().or_else(|| base.outlier.clone()),
            retry_budget: self.retry_budget.clone().or_else(|| base.retry_budget.clone()),
            ports: if self.ports.is_empty() { base.ports.clone() } else { self.ports.clone() },
            tcp: if self.tcp == TcpPool::default() { base.tcp.clone() } else { self.tcp.clone() },
            http: if self.http == HttpPool::default() { base.http.clone() } else { self.http.clone() },
        }
    }
}

/// `retryBudget`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RetryBudget {
    /// Retries allowed for a hundred requests in flight, in thousandths of a percent.
    pub percent_milli: u32,
    /// Retries always allowed.
    pub concurrency_min: u32,
}

/// Reads a `trafficPolicy`.
pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<TrafficPolicy> {
    let mut object = at.object(report)?;
    let mut policy = common(&mut object, report);
    for at in object.list("portLevelSettings", report) {
        let Some(mut settings) = at.object(report) else { continue };
        let port = settings.required("port", report).and_then(|at| {
            let mut object = at.object(report)?;
            let number = object.required("number", report).and_then(|at| at.port(report));
            object.finish(report);
            number
        });
        let of_port = common(&mut settings, report);
        settings.finish(report);
        let Some(port) = port else { continue };
        if policy.ports.insert(port, of_port).is_some() {
            at.fail(report, format!("port {port} is set twice"), "keep one");
        }
    }
    object.unsupported(&["tunnel", "proxyProtocol"], report);
    policy.retry_budget = object.field("retryBudget", report).and_then(|at| retry_budget(&at, report));
    object.finish(report);
    Some(policy)
}

/// What a whole policy and the policy of a port have alike.
fn common(object: &mut Object<'_>, report: &mut Report) -> TrafficPolicy {
    let mut policy = TrafficPolicy::default();
    if let Some(Balancing { balancer, warmup, locality }) =
        object.field("loadBalancer", report).and_then(|at| load_balancer::read(&at, report))
    {
        (policy.load_balancer, policy.warmup, policy.locality) = (balancer, warmup, locality);
    }
    if let Some(mut pool) = object.field("connectionPool", report).and_then(|at| at.object(report)) {
        policy.tcp = pool.field("tcp", report).and_then(|at| tcp_pool(&at, report)).unwrap_or_default();
        policy.http = pool.field("http", report).and_then(|at| http_pool(&at, report)).unwrap_or_default();
        pool.finish(report);
    }
    policy.outlier = object.field("outlierDetection", report).and_then(|at| outlier::read(&at, report));
    policy.tls = object.field("tls", report).and_then(|at| tls::client(&at, report));
    policy
}

fn retry_budget(at: &At<'_>, report: &mut Report) -> Option<RetryBudget> {
    let mut object = at.object(report)?;
    let percent = object.field("percent", report).and_then(|at| at.percent_milli(report));
    let concurrency = object.field("minRetryConcurrency", report);
    let concurrency = concurrency.and_then(|at| at.integer(report, 0, i32::MAX as u32));
    object.finish(report);
    Some(RetryBudget {
        percent_milli: percent.unwrap_or(BUDGET_PERCENT_MILLI),
        concurrency_min: concurrency.unwrap_or(BUDGET_CONCURRENCY_MIN),
    })
}

fn tcp_pool(at: &At<'_>, report: &mut Report) -> Option<TcpPool> {
    let mut object = at.object(report)?;
    let keepalive = object.field("tcpKeepalive", report).and_then(|at| {
        let mut object = at.object(report)?;
        let found = Keepalive {
            probes: object.field("probes", report).and_then(|at| at.integer(report, 1, 127)),
            time: object.field("time", report).and_then(|at| at.duration(report)),
            interval: object.field("interval", report).and_then(|at| at.duration(report)),
        };
        object.finish(report);
        Some(found)
    });
    let connect = object.field("connectTimeout", report);
    let connect_timeout = connect.and_then(|at| at.duration_above_zero(report));
    let found = TcpPool {
        connections_max: count(&mut object, "maxConnections", report),
        connect_timeout,
        idle_timeout: object.field("idleTimeout", report).and_then(|at| at.duration(report)),
        connection_duration_max: object
            .field("maxConnectionDuration", report)
            .and_then(|at| at.duration(report)),
        keepalive,
    };
    object.finish(report);
    Some(found)
}

fn http_pool(at: &At<'_>, report: &mut Report) -> Option<HttpPool> {
    let mut object = at.object(report)?;
    let upgrade = object.field("h2UpgradePolicy", report).and_then(|at| match &*at.text(report)? {
        "UPGRADE" => Some(true),
        "DO_NOT_UPGRADE" => Some(false),
        "DEFAULT" => None,
        other => {
            at.fail(report, format!("{other:?} is no policy"), "DEFAULT, UPGRADE or DO_NOT_UPGRADE");
            None
        }
    });
    let found = HttpPool {
        pending_max: count(&mut object, "http1MaxPendingRequests", report),
        requests_max: count(&mut object, "http2MaxRequests", report),
        requests_per_connection_max: count(&mut object, "maxRequestsPerConnection", report),
        retries_max: count(&mut object, "maxRetries", report),
        idle_timeout: object.field("idleTimeout", report).and_then(|at| at.duration(report)),
        streams_max: count(&mut object, "maxConcurrentStreams", report),
        as_client: object.field("useClientProtocol", report).and_then(|at| at.boolean(report)),
        upgrade,
    };
    object.finish(report);
    Some(found)
}

/// A count; Istio's 0 is "the default".
fn count(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<u32> {
    let at = object.field(name, report)?;
    at.integer(report, 0, i32::MAX as u32).filter(|count| *count > 0)
}
