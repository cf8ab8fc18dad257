//! What is known of one request when it ends. Counts it once, on drop, however it ended.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::SystemTime,
};

use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, HOST},
    request::Parts,
    uri::PathAndQuery,
};
use tokio::time::Instant;

use crate::{
    access_log::{Facts, Log},
    body::Source,
    cluster::{Cluster, Counted, Host, Lease, tally::status_of_grpc},
    fault::{Cause, Details, Fault, Flags},
    listener::Serving,
    spec::{Destination, Direction, Route, Workload},
    stream::Ends,
    telemetry::{
        load::{Attempt, Dropped, Ending},
        metrics::{Series, WorkerTraffic, label},
    },
    tls::peer::Secured,
    trace::Trace,
    worker::Worker,
};

/// Cached series of one worker; past this the cache starts anew.
const CACHE_MAX: usize = 8192;

/// Flag and details of a request that its caller gave up.
const CALLER_GONE: (&str, &str) = ("DC", "downstream_remote_disconnect");

/// Where a request went.
#[derive(Clone, Debug, Default)]
pub enum Target {
    /// Nowhere: no route, or a local answer.
    #[default]
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
    flags: Flags,
    /// Stands for who is at the ends of the connection; zero where nobody proved anything.
    secured: u64,
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
    /// Who is at the ends of the connection.
    secured: Option<Rc<Secured>>,
    started: Instant,
    direction: Direction,
    /// Whether it is a gRPC call.
    pub grpc: bool,
    /// Where it went last.
    pub target: Target,
    /// The try under way, as the control plane is told of it.
    under_way: Option<Attempt>,
    /// Status sent downstream; none before that.
    pub status: Option<StatusCode>,
    /// Response flags.
    pub flags: Flags,
    /// Envoy's `RESPONSE_CODE_DETAILS`.
    pub details: Option<Details>,
    /// Tries made so far.
    pub attempts: u32,
    /// `grpc-status` of the response.
    pub grpc_status: Option<u16>,
    /// The request's body, when it has one.
    pub source: Option<Rc<Source>>,
    /// Bytes of body sent downstream.
    pub response_bytes: u64,
    /// Holds the request's place within its cluster's limit.
    pub active: Option<Counted>,
    /// The trace that it belongs to, where requests are traced.
    pub trace: Option<Trace>,
    /// The ends of its connection, for its span.
    ends: Ends,
    /// What the access logs will need, where there are any.
    log: Option<Log>,
    settled: bool,
}

impl Record {
    /// Starts with the request's head.
    pub fn new<B>(serving: &Serving, request: &Request<B>) -> Box<Self> {
        let content = request.headers().get(CONTENT_TYPE);
        let grpc = content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"));
        let log = serving.logging.as_ref().map(|logging| {
            let mut log = logging.begin();
            let (logs, notes) = log.parts();
            notes.method = Some(request.method().clone());
            notes.path = request.uri().path_and_query().cloned();
            notes.scheme = Some(serving.scheme());
            notes.authority = match request.uri().authority() {
                Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
                None => request.headers().get(HOST).cloned(),
            };
            notes.protocol = Some(request.version());
            notes.ends = serving.ends;
            notes.request_headers(logs, request.headers());
            log
        });
        let trace = serving.tracer.as_ref();
        let trace = trace.map(|tracer| serving.worker.with_rng(|rng| tracer.begin(request, rng)));
        Box::new(Self {
            worker: serving.worker.clone(),
            secured: serving.secured.clone(),
            started: Instant::now(),
            direction: serving.direction,
            grpc,
            trace,
            ends: serving.ends,
            log,
            target: Target::None,
            under_way: None,
            status: None,
            flags: Flags::default(),
            details: None,
            attempts: 0,
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

    /// A try at an endpoint begins; the one before it, if there was one, failed.
    pub fn try_at(&mut self, host: &Rc<Host>) {
        let started = match self.under_way.take() {
            None => self.started,
            Some(given_up) => {
                let now = Instant::now();
                given_up.end(Ending::Failed, Some(now));
                now
            }
        };
        self.under_way = Some(Attempt::start(host.load(&self.worker.loads), started));
        self.target = Target::Host(host.clone());
        self.attempts += 1;
    }

    /// The response went out whole.
    pub fn complete(&mut self) {
        self.settled = true;
    }

    /// There is no response, or it broke off.
    pub fn fail(&mut self, fault: Fault) {
        self.settled = true;
        let face = fault.cause.face();
        self.flags.add(face.flag);
        // What a filter refuses it has named; what comes after an answer has another name.
        if self.details.is_none() || self.status.is_some() {
            self.details = Some(Details::Fixed(face.details));
        }
        self.end_try(Ending::Failed, Instant::now());
        if let Target::Cluster(cluster) = &self.target {
            let why = match fault.cause {
                Cause::Overflow => Dropped::Overflow,
                Cause::NoEndpoint => Dropped::NoEndpoint,
                _ => return,
            };
            cluster.count_dropped(&self.worker.loads, why);
        }
    }

    /// Notes the head in the form that it is routed by.
    pub fn routed(&mut self, parts: &Parts, host: &HeaderValue, route: Option<&Arc<Route>>) {
        let Some(log) = &mut self.log else { return };
        let notes = log.notes();
        notes.path = parts.uri.path_and_query().cloned();
        notes.authority = Some(host.clone());
        notes.route = route.cloned();
    }

    /// Notes that the request counts as having come by this path: what was taken out of it is not to be logged.
    pub fn came_by(&mut self, path: Option<&PathAndQuery>) {
        if let Some(log) = &mut self.log {
            log.notes().path = path.cloned();
        }
    }

    /// Notes the head as it goes upstream.
    pub fn sent(&mut self, path: &PathAndQuery, host: &HeaderValue, headers: &HeaderMap) {
        let Some(log) = &mut self.log else { return };
        let (logs, notes) = log.parts();
        if notes.path.as_ref() != Some(path) {
            notes.original_path = notes.path.replace(path.clone());
        }
        notes.authority = Some(host.clone());
        notes.request_headers(logs, headers);
    }

    /// Notes that the upstream's response head has come.
    pub fn answered<B>(&mut self, response: &Response<B>, lease: &Lease) {
        self.status = Some(response.status());
        self.details = Some(Details::Fixed("via_upstream"));
        self.grpc_status = grpc_status(response.headers());
        let Some(log) = &mut self.log else { return };
        let notes = log.notes();
        notes.answered = Some(Instant::now());
        notes.upstream_local = lease.local();
    }

    /// Notes the response's head as it goes downstream.
    pub fn respond(&mut self, headers: &HeaderMap) {
        let Some(log) = &mut self.log else { return };
        let (logs, notes) = log.parts();
        notes.response_headers(logs, headers);
    }

    /// Notes the outcome that gRPC tells in trailers.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc_status = grpc_status(trailers).or(self.grpc_status);
        let Some(log) = &mut self.log else { return };
        let (logs, notes) = log.parts();
        notes.response_trailers(logs, trailers);
    }

    fn end_try(&mut self, ending: Ending, now: Instant) {
        if let Some(attempt) = self.under_way.take() {
            attempt.end(ending, Some(now));
        }
    }

    /// What the answer says of the endpoint: a server error is one in gRPC's words, too.
    fn ending(&self) -> Ending {
        let http = self.status.map_or(0, |status| status.as_u16());
        let status = self.grpc_status.filter(|_| self.grpc).map_or(http, status_of_grpc);
        if status >= 500 { Ending::Failed } else { Ending::Good }
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
            flags: self.flags,
            secured: self.secured.as_ref().map_or(0, |secured| secured.mark()),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        if self.settled {
            self.end_try(self.ending(), now);
        } else {
            self.flags.add(CALLER_GONE.0);
            self.details = Some(Details::Fixed(CALLER_GONE.1));
        }
        let key = self.key();
        let cache = &self.worker.series;
        let mut known = cache.known.borrow_mut();
        if known.len() >= CACHE_MAX {
            known.clear();
        }
        let series = known.entry(key).or_insert_with(|| {
            cache.traffic.series(labels(
                &self.worker.shared.workload,
                &self.target,
                key,
                self.secured.as_deref(),
            ))
        });
        let duration = now.saturating_duration_since(self.started);
        series.requests.fetch_add(1, Relaxed);
        series.duration_ms.observe(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        series.request_bytes.observe(self.source.as_ref().map_or(0, |source| source.bytes()));
        series.response_bytes.observe(self.response_bytes);
        let (log, trace) = (self.log.take(), self.trace.take().filter(Trace::is_sampled));
        if log.is_none() && trace.is_none() {
            return;
        }
        let facts = Facts {
            began: self.started,
            time: SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
            duration,
            status: Some(key.status),
            details: self.details.as_ref().map(Details::as_str),
            flags: self.flags,
            grpc_status: self.grpc_status.filter(|_| self.grpc),
            bytes_received: self.source.as_ref().map_or(0, |source| source.bytes()),
            bytes_sent: self.response_bytes,
            request_ended: match &self.source {
                Some(source) => source.ended(),
                None => Some(self.started),
            },
            target: &self.target,
            attempts: self.attempts,
        };
        if let Some(trace) = trace {
            trace.end(&self.worker, &facts, &self.ends);
        }
        if let Some(log) = log {
            self.worker.with_rng(|rng| log.write(&facts, rng));
        }
    }
}

/// `grpc-status` as a number.
pub fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Istio's labels of a TCP connection.
pub fn labels_tcp(serving: &Serving, target: &Target, flags: Flags) -> String {
    let inbound = serving.direction == Direction::Inbound;
    let secured = serving.secured.as_deref();
    let mut out = parties(&serving.worker.shared.workload, inbound, target, secured);
    label(&mut out, "request_protocol", "tcp");
    label(&mut out, "response_flags", &flags.to_string());
    label(&mut out, "connection_security_policy", security(inbound, secured));
    out
}

fn labels(own: &Workload, target: &Target, key: Key, secured: Option<&Secured>) -> String {
    let mut out = parties(own, key.inbound, target, secured);
    label(&mut out, "request_protocol", if key.grpc { "grpc" } else { "http" });
    label(&mut out, "response_code", &key.status.to_string());
    label(&mut out, "grpc_response_status", &key.grpc_status.map_or(String::new(), |code| code.to_string()));
    label(&mut out, "response_flags", &key.flags.to_string());
    label(&mut out, "connection_security_policy", security(key.inbound, secured));
    out
}

/// As Istio says it: only the receiving side knows.
fn security(inbound: bool, secured: Option<&Secured>) -> &'static str {
    match (inbound, secured.is_some_and(Secured::is_mutual)) {
        (true, true) => "mutual_tls",
        (true, false) => "none",
        (false, _) => "unknown",
    }
}

/// Labels of who called whom. A side that is not known is `unknown`.
fn parties(own: &Workload, inbound: bool, target: &Target, secured: Option<&Secured>) -> String {
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
    // Of several workloads behind one proxy the endpoint says which.
    let local = if *endpoint == nobody { own } else { endpoint };
    let (source, destination) = if inbound { (&nobody, local) } else { (own, endpoint) };
    let caller = secured.and_then(|secured| secured.peer.as_ref()?.principal());
    let principals = [caller, secured.and_then(|secured| secured.own.as_deref())];
    let mut out = String::with_capacity(768);
    label(&mut out, "reporter", if inbound { "destination" } else { "source" });
    let sides = [("source", source), ("destination", destination)];
    for ((side, workload), principal) in sides.into_iter().zip(principals) {
        let mut put = |name: &str, value: &str| label(&mut out, &format!("{side}_{name}"), value);
        put("workload", &workload.name);
        put("workload_namespace", &workload.namespace);
        put("principal", principal.filter(|_| inbound).unwrap_or("unknown"));
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
