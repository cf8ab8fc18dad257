//! `DestinationRule`: subsets of a service, and how proxies connect to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    problem::Report,
    reader::{At, Located},
    values,
};

/// Subsets and connection policy of a host.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationRule {
    /// Service name or host.
    pub host: Located,
    /// Policy of the whole host.
    pub policy: TrafficPolicy,
    /// Subsets, in the order given.
    pub subsets: Vec<Subset>,
}

/// A named part of a service's endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    /// Name.
    pub name: Located,
    /// Labels that an endpoint must have.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What differs from the host's policy.
    pub policy: TrafficPolicy,
}

/// How a proxy picks and connects. Absent parts are inherited, then the mesh's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TrafficPolicy {
    /// How an endpoint is picked.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits of connections.
    pub tcp: TcpPool,
    /// Limits of requests.
    pub http: HttpPool,
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadBalancer {
    /// One after another.
    RoundRobin,
    /// The less busy of two picked at random.
    LeastRequest,
    /// At random.
    Random,
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
    /// `h2UpgradePolicy: UPGRADE`: speak HTTP/2 even where the port says HTTP.
    pub upgrade: Option<bool>,
}

impl TrafficPolicy {
    /// This policy where it says something, else `base`.
    pub fn over(&self, base: &Self) -> Self {
        Self {
            load_balancer: self.load_balancer.or(base.load_balancer),
            tcp: if self.tcp == TcpPool::default() { base.tcp.clone() } else { self.tcp.clone() },
            http: if self.http == HttpPool::default() { base.http.clone() } else { self.http.clone() },
        }
    }
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<DestinationRule> {
    let mut object = spec.object(report)?;
    let host = object.required("host", report).and_then(|at| values::host(&at, report));
    let policy = object.field("trafficPolicy", report).and_then(|at| traffic_policy(&at, report));
    let items = object.list("subsets", report);
    let subsets: Vec<Subset> = items.iter().filter_map(|at| subset(at, report)).collect();
    let names: Vec<Located> = subsets.iter().map(|subset| subset.name.clone()).collect();
    values::no_duplicates(&names, "subset", report);
    values::accept_export_to(&mut object, report);
    object.unsupported(&["workloadSelector"], report);
    object.finish(report);
    Some(DestinationRule { host: host?, policy: policy.unwrap_or_default(), subsets })
}

fn subset(at: &At<'_>, report: &mut Report) -> Option<Subset> {
    let mut object = at.object(report)?;
    let name_at = object.required("name", report);
    let name = name_at.as_ref().and_then(|at| at.located(report));
    if let (Some(at), Some(name)) = (&name_at, &name)
        && (name.text.is_empty()
            || !name.text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
    {
        at.fail(
            report,
            format!("{:?} is no subset name", name.text),
            "letters, digits, - _ and . are allowed",
        );
    }
    let labels = object.field("labels", report).map(|at| at.labels(report)).unwrap_or_default();
    let policy = object.field("trafficPolicy", report).and_then(|at| traffic_policy(&at, report));
    object.finish(report);
    Some(Subset { name: name?, labels, policy: policy.unwrap_or_default() })
}

fn traffic_policy(at: &At<'_>, report: &mut Report) -> Option<TrafficPolicy> {
    let mut object = at.object(report)?;
    let load_balancer = object.field("loadBalancer", report).and_then(|at| load_balancer(&at, report));
    let (mut tcp, mut http) = (TcpPool::default(), HttpPool::default());
    if let Some(mut pool) = object.field("connectionPool", report).and_then(|at| at.object(report)) {
        tcp = pool.field("tcp", report).and_then(|at| tcp_pool(&at, report)).unwrap_or_default();
        http = pool.field("http", report).and_then(|at| http_pool(&at, report)).unwrap_or_default();
        pool.finish(report);
    }
    let later = ["outlierDetection", "tls", "portLevelSettings", "tunnel", "proxyProtocol", "retryBudget"];
    object.unsupported(&later, report);
    object.finish(report);
    Some(TrafficPolicy { load_balancer, tcp, http })
}

fn load_balancer(at: &At<'_>, report: &mut Report) -> Option<LoadBalancer> {
    let mut object = at.object(report)?;
    let simple = object.field("simple", report);
    let later = ["consistentHash", "localityLbSetting", "warmupDurationSecs", "warmup"];
    object.unsupported(&later, report);
    object.finish(report);
    let at = simple?;
    match &*at.text(report)? {
        "ROUND_ROBIN" => Some(LoadBalancer::RoundRobin),
        "LEAST_REQUEST" | "LEAST_CONN" => Some(LoadBalancer::LeastRequest),
        "RANDOM" => Some(LoadBalancer::Random),
        "UNSPECIFIED" => None,
        "PASSTHROUGH" => {
            at.fail(report, "PASSTHROUGH is not supported", "use ROUND_ROBIN, LEAST_REQUEST or RANDOM");
            None
        }
        other => {
            let known = ["ROUND_ROBIN", "LEAST_REQUEST", "LEAST_CONN", "RANDOM"];
            at.fail(report, format!("{other:?} is no load balancer"), super::reader::nearest(other, &known));
            None
        }
    }
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
    let connect_timeout = connect.as_ref().and_then(|at| at.duration(report));
    if let (Some(at), Some(Duration::ZERO)) = (&connect, connect_timeout) {
        at.fail(report, "must be more than zero", "");
    }
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
        upgrade,
    };
    object.unsupported(&["useClientProtocol"], report);
    object.finish(report);
    Some(found)
}

/// A count; Istio's 0 is "the default".
fn count(object: &mut super::reader::Object<'_>, name: &'static str, report: &mut Report) -> Option<u32> {
    let at = object.field(name, report)?;
    at.integer(report, 0, i32::MAX as u32).filter(|count| *count > 0)
}
