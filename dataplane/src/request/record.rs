//! What is known of one request when it ends. Counts it once, on drop, however it ended.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use crate::{
    body::Source,
    cluster::{Cluster, Counted, Host},
    fault::Fault,
    spec::{Destination, Direction, Workload},
    telemetry::metrics::{Series, WorkerTraffic, label},
    worker::Worker,
};

/// Cached series of one worker; past this the cache starts anew.
const CACHE_MAX: usize = 8192;

/// Flag of a request that its caller gave up.
const CALLER_GONE: &str = "DC";

/// Where a request went.
#[derive(Clone, Debug)]
pub enum Target {
    /// Nowhere: no route, or a local answer.
    None,
    /// To a cluster that had no endpoint for it.
    Cluster(Rc<Cluster>),
    /// To an endpoint.
    Host(Rc<Host>),
}

/// What decides a request's series; names resolve to numbers when an endpoint is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    target: u64,
    status: u16,
    grpc_status: Option<u16>,
    grpc: bool,
    inbound: bool,
    flag: &'static str,
}

/// A worker's series by what decides them, so that counting needs no label text.
pub struct SeriesCache {
    known: RefCell<HashMap<Key, Arc<Series>>>,
    traffic: Arc<WorkerTraffic>,
}

impl SeriesCache {
    /// An empty cache in front of the worker's series.
    pub fn new(traffic: Arc<WorkerTraffic>) -> Self {
        Self { known: RefCell::default(), traffic }
    }

    /// The series behind the cache.
    pub fn traffic(&self) -> &WorkerTraffic {
        &self.traffic
    }
}

/// One request.
pub struct Record {
    worker: Rc<Worker>,
    started: Instant,
    direction: Direction,
    /// Whether it is a gRPC call.
    pub grpc: bool,
    /// Where it went last.
    pub target: Target,
    /// Status sent downstream; none before that.
    pub status: Option<StatusCode>,
    /// Response flag.
    pub flag: &'static str,
    /// `grpc-status` of the response.
    pub grpc_status: Option<u16>,
    /// The request's body, when it has one.
    pub source: Option<Rc<Source>>,
    /// Bytes of body sent downstream.
    pub response_bytes: u64,
    /// Holds the request's place within its cluster's limit.
    pub active: Option<Counted>,
    settled: bool,
}

impl Record {
    /// Starts with the request's head.
    pub fn new(worker: &Rc<Worker>, direction: Direction, grpc: bool) -> Box<Self> {
        Box::new(Self {
            worker: worker.clone(),
            started: Instant::now(),
            direction,
            grpc,
            target: Target::None,
            status: None,
            flag: "-",
            grpc_status: None,
            source: None,
            response_bytes: 0,
            active: None,
            settled: false,
        })
    }

    /// When the request's head had come.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The response went out whole.
    pub fn complete(&mut self) {
        self.settled = true;
    }

    /// The response broke off.
    pub fn fail(&mut self, fault: Fault) {
        self.settled = true;
        self.flag = fault.cause.face().flag;
    }

    /// Notes the outcome that gRPC tells in trailers.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc_status = grpc_status(trailers).or(self.grpc_status);
    }

    fn key(&self) -> Key {
        Key {
            target: match &self.target {
                Target::None => 0,
                Target::Cluster(cluster) => cluster.id,
                Target::Host(host) => host.id,
            },
            status: self.status.map_or(0, |status| status.as_u16()),
            grpc_status: self.grpc_status,
            grpc: self.grpc,
            inbound: self.direction == Direction::Inbound,
            flag: self.flag,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.settled {
            self.flag = CALLER_GONE;
        }
        let key = self.key();
        let cache = &self.worker.series;
        let mut known = cache.known.borrow_mut();
        if known.len() >= CACHE_MAX {
            known.clear();
        }
        let series = known
            .entry(key)
            .or_insert_with(|| cache.traffic.series(labels(&self.worker.shared.workload, &self.target, key)));
        let duration = self.started.elapsed();
        series.requests.fetch_add(1, Relaxed);
        series.duration_ms.observe(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        series.request_bytes.observe(self.source.as_ref().map_or(0, |source| source.bytes()));
        series.response_bytes.observe(self.response_bytes);
        tracing::debug!(
            target: "weft::access",
            status = key.status,
            flag = self.flag,
            ?duration,
            bytes = self.response_bytes,
            "request"
        );
    }
}

/// `grpc-status` as a number.
pub fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Istio's labels of a TCP connection.
pub fn labels_tcp(own: &Workload, direction: Direction, target: &Target, flag: &'static str) -> String {
    let inbound = direction == Direction::Inbound;
    let mut out = parties(own, inbound, target);
    label(&mut out, "request_protocol", "tcp");
    label(&mut out, "response_flags", flag);
    label(&mut out, "connection_security_policy", security(inbound));
    out
}

fn labels(own: &Workload, target: &Target, key: Key) -> String {
    let mut out = parties(own, key.inbound, target);
    label(&mut out, "request_protocol", if key.grpc { "grpc" } else { "http" });
    label(&mut out, "response_code", &key.status.to_string());
    label(&mut out, "grpc_response_status", &key.grpc_status.map_or(String::new(), |code| code.to_string()));
    label(&mut out, "response_flags", key.flag);
    label(&mut out, "connection_security_policy", security(key.inbound));
    out
}

/// As Istio says it: only the receiving side knows.
fn security(inbound: bool) -> &'static str {
    if inbound { "none" } else { "unknown" }
}

/// Labels of who called whom. A side that is not known is `unknown`.
fn parties(own: &Workload, inbound: bool, target: &Target) -> String {
    let unknown: Arc<str> = "unknown".into();
    let nobody = Workload {
        name: unknown.clone(),
        namespace: unknown.clone(),
        service: unknown.clone(),
        revision: unknown.clone(),
        cluster: unknown.clone(),
    };
    let nowhere = Destination { host: unknown.clone(), name: unknown.clone(), namespace: unknown };
    let (service, endpoint) = match target {
        Target::None => (&nowhere, &nobody),
        Target::Cluster(cluster) => (&cluster.spec.destination, &nobody),
        Target::Host(host) => (&host.cluster.destination, &host.spec.workload),
    };
    let (source, destination) = if inbound { (&nobody, own) } else { (own, endpoint) };
    let mut out = String::with_capacity(768);
    label(&mut out, "reporter", if inbound { "destination" } else { "source" });
    for (side, workload) in [("source", source), ("destination", destination)] {
        let mut put = |name: &str, value: &str| label(&mut out, &format!("{side}_{name}"), value);
        put("workload", &workload.name);
        put("workload_namespace", &workload.namespace);
        put("principal", "unknown");
        put("app", &workload.service);
        put("version", &workload.revision);
        put("canonical_service", &workload.service);
        put("canonical_revision", &workload.revision);
        put("cluster", &workload.cluster);
    }
    label(&mut out, "destination_service", &service.host);
    label(&mut out, "destination_service_name", &service.name);
    label(&mut out, "destination_service_namespace", &service.namespace);
    out
}
