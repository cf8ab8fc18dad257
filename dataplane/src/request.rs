//! The way of one request. Read this first: route, filter, pick an endpoint, try, try again, respond; the record counts it.

mod client_cert;
pub mod deadline;
mod grpc_timeout;
pub mod hash;
pub mod head;
pub mod mirror;
pub mod on_demand;
mod outgoing;
pub mod record;
mod reply;
mod tunnel;

use std::{convert::Infallible, future::Future, pin::pin, rc::Rc, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header::SET_COOKIE, request::Parts};
use http_body::Body;
use tokio::time::{Instant, timeout};

use crate::{
    body::{Incoming, ResponseBody, Source},
    cluster::{Cluster, Counted, Failed, Host, Lease, Tried},
    fault::{Cause, Details, Fault},
    filter::{self, Effects, Exchange},
    listener::Serving,
    retry::{self, Outcome},
    router::{Router, View},
    snapshot::Snapshot,
    spec::{
        Forward, HttpListener, ListenerProtocol, RetryPolicy, Route, RouteAction, RouteSource,
        UpstreamProtocol, WeightedCluster,
    },
};
use deadline::Deadline;
use hash::Hashed;
use outgoing::{Outgoing, Ready};
use record::{Record, Target, grpc_status};
use tunnel::Tunnel;

/// Answers one request. It is taken apart before there is a future, and lent to whoever works on it: what an `async fn` takes by
/// value stands twice in its future and in all those around it, and they are moved and allocated with every request.
pub fn serve(
    serving: Rc<Serving>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    let mut record = Record::new(&serving, &request);
    let mut arrived = Arrived::new(request);
    let (mut effects, mut found) = (Effects::default(), Found::default());
    async move {
        let answer = answer(&serving, &mut arrived, &mut record, &mut effects, &mut found).await;
        let dress = |headers: &mut HeaderMap, record: &mut Record| {
            found.dress(headers);
            effects.apply(headers);
            record.respond(headers);
        };
        let mut response = match answer {
            Ok(Answer::Upstream(mut response, lease, deadline)) => {
                dress(response.headers_mut(), &mut record);
                return Ok(response.map(|body| ResponseBody::relay(body, record, lease, deadline)));
            }
            Ok(Answer::Local(response, details)) => local(response, details, &mut record),
            Err(fault) => reply::fault(fault, &mut record),
        };
        dress(response.headers_mut(), &mut record);
        if arrived.parts.method == Method::HEAD {
            record.complete(); // Nobody will ask for the body.
        }
        Ok(response.map(|body| ResponseBody::whole(body, record)))
    }
}

/// An answer of ours, noted.
fn local(mut response: Response<Bytes>, details: Details, record: &mut Record) -> Response<Bytes> {
    if record.grpc {
        record.grpc_status = Some(reply::speak_grpc(&mut response));
    }
    record.status = Some(response.status());
    record.details = Some(details);
    response
}

/// What answers of routes are called.
const DIRECT: Details = Details::Fixed("direct_response");

/// What was found for a request, whose answer it shapes, be it an endpoint's or ours.
#[derive(Default)]
struct Found {
    route: Option<Arc<Route>>,
    /// Place of the cluster among the route's.
    cluster: Option<usize>,
}

impl Found {
    fn dress(&self, headers: &mut HeaderMap) {
        let Some(route) = &self.route else { return };
        // The outer level has the last word, as in Envoy.
        if let (RouteAction::Forward(forward), Some(cluster)) = (&route.action, self.cluster) {
            head::mutate(headers, &forward.clusters[cluster].response_headers);
        }
        head::mutate(headers, &route.response_headers);
    }
}

/// A response's head and where its body comes from.
enum Answer {
    Upstream(Response<Incoming>, Lease, Deadline),
    /// Ours, and what it is called.
    Local(Response<Bytes>, Details),
}

/// A request that has come in. What goes upstream is taken out of it.
struct Arrived {
    parts: Parts,
    body: Option<Incoming>,
    /// Normalised; empty before.
    host: HeaderValue,
    tunnel: Option<Tunnel>,
}

impl Arrived {
    fn new(mut request: Request<Incoming>) -> Self {
        let tunnel = Tunnel::asked(&mut request);
        let (parts, body) = request.into_parts();
        Self { parts, body: Some(body), host: HeaderValue::from_static(""), tunnel }
    }
}

async fn answer(
    serving: &Serving,
    arrived: &mut Arrived,
    record: &mut Record,
    effects: &mut Effects,
    found: &mut Found,
) -> Result<Answer, Fault> {
    arrived.host = head::normalise(&mut arrived.parts, serving.merge_slashes())?;
    client_cert::settle(serving.client_cert(), serving.secured.as_deref(), &mut arrived.parts.headers);
    let mut snapshot = serving.worker.snapshot(); // One view for the whole request.
    found.route = route(serving, &snapshot, arrived);
    record.routed(&arrived.parts, &arrived.host, found.route.as_ref());
    if found.route.is_none()
        && let Some(router) = router(serving, &snapshot)
        && let Some(told) = on_demand::told(&serving.worker, router, &arrived.host).await?
    {
        snapshot = told;
        found.route = route(serving, &snapshot, arrived);
        record.routed(&arrived.parts, &arrived.host, found.route.as_ref());
    }
    if let Some(RouteAction::Forward(to)) = found.route.as_ref().map(|route| &route.action) {
        found.cluster = serving.worker.draw(&to.clusters);
        let cluster = found.cluster.and_then(|chosen| snapshot.cluster(&to.clusters[chosen].name));
        record.target = cluster.map_or(Target::None, |cluster| Target::Cluster(cluster.clone()));
    }
    let filters = serving.filters(found.route.as_deref());
    if !filters.is_empty() {
        let mut exchange = Exchange {
            serving,
            scheme: serving.scheme(),
            parts: &mut arrived.parts,
            host: &arrived.host,
            route: found.route.as_deref(),
            record,
            effects,
        };
        if let Some((response, details)) = filter::run(filters, &mut exchange).await? {
            found.route = None; // What a filter answers is not the route's answer.
            return Ok(Answer::Local(response, details));
        }
    }
    let Found { route: Some(route), cluster } = &*found else { return Err(Cause::NoRoute.into()) };
    match &route.action {
        RouteAction::Direct(direct) => Ok(Answer::Local(reply::direct(direct), DIRECT)),
        RouteAction::Redirect(to) => {
            let response = reply::redirect(
                to,
                &serving.scheme(),
                &route.matches.path,
                (&arrived.host, &arrived.parts.uri),
            );
            Ok(Answer::Local(response, DIRECT))
        }
        RouteAction::Forward(to) => {
            let chosen = cluster.ok_or(Cause::NoEndpoint)?;
            let way = Way { snapshot: &snapshot, route, forward: to, chosen: &to.clusters[chosen] };
            forward(serving, &way, arrived, effects.body_bytes_max, record).await
        }
    }
}

/// Where a request goes.
struct Way<'a> {
    snapshot: &'a Snapshot,
    route: &'a Route,
    forward: &'a Forward,
    chosen: &'a WeightedCluster,
}

/// Sends a request on its way upstream, and gives the response's head.
async fn forward(
    serving: &Serving,
    way: &Way<'_>,
    arrived: &mut Arrived,
    bytes_max: Option<u32>,
    record: &mut Record,
) -> Result<Answer, Fault> {
    let &Way { snapshot, forward, chosen, .. } = way;
    let cluster = snapshot.cluster(&chosen.name).ok_or(Cause::NoCluster(forward.cluster_not_found))?;
    let active = Counted::new(&cluster.counters, |c| &c.requests, cluster.spec.limits.requests_max);
    record.active = Some(active.ok_or(Cause::Overflow)?);

    let hashed = hashed(serving, cluster, forward, arrived);
    // Time that the request was held up on purpose is not its endpoint's.
    let started = if record.flags.has("DI") { Instant::now() } else { record.started() };
    let limit = grpc_timeout::limit(forward, record.grpc, &arrived.parts.headers);
    let deadline = Deadline::new(started, (limit, forward.idle_timeout), serving.stream_idle_timeout());
    let http2 = protocol(serving, cluster, forward, arrived)?;
    let keep = if forward.retry.is_some() { forward.replay_bytes_max } else { 0 };
    let body = arrived.body.take().filter(|body| !body.is_end_stream());
    let source = body.map(|body| Source::new(body, keep));
    record.source.clone_from(&source);
    if let (Some(source), Some(max)) = (&source, bytes_max)
        && source.size().is_none()
    {
        deadline.hold(started, Some(source), pin!(source.gather(max))).await?;
    }
    let mut ready = ready(serving, way, cluster, arrived, http2, &source, record)?;
    let held = {
        // Who is asked learns how long it has, where the route looks at that.
        let end = limit.filter(|_| record.grpc && forward.grpc_timeout_max.is_some());
        ready.ends_at = end.map(|limit| started + limit);
        let tries = pin!(settle(serving, cluster, forward.retry.as_ref(), hashed.hash, &mut ready, record));
        deadline.hold(started, source.as_deref(), tries).await
    };
    let (mut response, lease) =
        held.inspect_err(|fault| gave_up(cluster, &record.target, *fault, started))?;
    record.answered(&response, &lease);
    *response.version_mut() = Version::HTTP_11; // The downstream connection writes its own.
    head::strip_hop_by_hop(response.headers_mut());
    if let Some(tunnel) = arrived.tunnel.take() {
        tunnel.open(&serving.worker, &mut response);
    }
    for cookie in hashed.cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(Answer::Upstream(response, lease, deadline))
}

/// What the cluster is told of whom a request belongs to, where its balancer asks.
fn hashed(serving: &Serving, cluster: &Cluster, forward: &Forward, arrived: &Arrived) -> Hashed {
    if !cluster.spec.balancing.by_hash() {
        return Hashed::default();
    }
    let Arrived { parts, host, .. } = arrived;
    serving.worker.with_rng(|rng| hash::hash(&forward.hash, parts, host, &serving.ends, rng))
}

/// Whether HTTP/2 is spoken for this request; none is what the endpoint agrees to. An upgrade needs to be allowed, and HTTP/1.1.
fn protocol(
    serving: &Serving,
    cluster: &Cluster,
    forward: &Forward,
    arrived: &Arrived,
) -> Result<Option<bool>, Fault> {
    let http2 = speaks_http2(cluster, arrived.parts.version);
    let Some(tunnel) = &arrived.tunnel else { return Ok(http2) };
    let allowed = tunnel.is_among(&forward.upgrades) || tunnel.is_among(serving.upgrades());
    if http2 == Some(true) || !allowed {
        return Err(Cause::UpgradeRefused.into());
    }
    Ok(Some(false))
}

/// Whether a cluster is spoken to in HTTP/2; none is what the endpoint agrees to.
fn speaks_http2(cluster: &Cluster, downstream: Version) -> Option<bool> {
    match cluster.spec.protocol {
        UpstreamProtocol::Http1 => Some(false),
        UpstreamProtocol::Http2 => Some(true),
        UpstreamProtocol::Downstream => Some(downstream == Version::HTTP_2),
        UpstreamProtocol::Agreed => None,
    }
}

/// The request as its route changes it, from which tries are made; copies of it are under way to mirrors.
fn ready(
    serving: &Serving,
    way: &Way<'_>,
    cluster: &Cluster,
    arrived: &mut Arrived,
    http2: Option<bool>,
    source: &Option<Rc<Source>>,
    record: &mut Record,
) -> Result<Ready, Fault> {
    let &Way { snapshot, route, forward, chosen } = way;
    let Arrived { parts, host, tunnel, .. } = arrived;
    let host = [&route.request_headers, &chosen.request_headers]
        .iter()
        .find_map(|mutation| mutation.host.clone())
        .or_else(|| forward.host_rewrite.clone())
        .unwrap_or_else(|| host.clone());
    let path = reply::rewritten_path(forward, &route.matches.path, &parts.uri)?;
    let mut headers = std::mem::take(&mut parts.headers);
    head::strip_hop_by_hop(&mut headers);
    if let Some(tunnel) = tunnel {
        tunnel.announce(&mut headers);
    }
    let scheme = serving.scheme();
    let edge = serving.is_edge();
    serving.worker.with_rng(|rng| head::announce(&mut headers, &scheme, edge, rng));
    if edge && let Some(client) = serving.ends.remote {
        head::forwarded_for(&mut headers, client.ip());
    }
    if let Some(trace) = &mut record.trace {
        trace.send(&mut headers);
    }
    // The outer level has the last word, as in Envoy.
    head::mutate(&mut headers, &chosen.request_headers);
    head::mutate(&mut headers, &route.request_headers);
    record.sent(&path, &host, &headers);
    let (method, version, source) = (parts.method.clone(), parts.version, source.clone());
    let outgoing = Outgoing { method, scheme, path, host, headers, version, source };
    for mirror in &forward.mirrors {
        mirror::copy(&serving.worker, snapshot, mirror, &outgoing, forward.timeout);
    }
    outgoing.ready(cluster, http2)
}

fn route(serving: &Serving, snapshot: &Snapshot, arrived: &Arrived) -> Option<Arc<Route>> {
    let router = router(serving, snapshot)?;
    let Arrived { parts, host, .. } = arrived;
    let scheme = serving.scheme();
    let view = View {
        method: &parts.method,
        scheme: scheme.as_str(),
        host: host.to_str().ok()?,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    };
    serving.worker.with_rng(|rng| router.route(&view, rng)).cloned()
}

fn router<'a>(serving: &'a Serving, snapshot: &'a Snapshot) -> Option<&'a Rc<Router>> {
    let ListenerProtocol::Http(HttpListener { routes, .. }) = &serving.chain.protocol else { return None };
    match (routes, &serving.inline) {
        (RouteSource::Inline(_), inline) => inline.as_ref(),
        (RouteSource::Named(name), _) => snapshot.router(name),
    }
}

/// Tries until there is a response to pass on or no reason to try again.
async fn settle(
    serving: &Serving,
    cluster: &Rc<Cluster>,
    policy: Option<&RetryPolicy>,
    hash: Option<u64>,
    outgoing: &mut Ready,
    record: &mut Record,
) -> Result<(Response<Incoming>, Lease), Fault> {
    let mut tried: Vec<Rc<Host>> = Vec::new();
    let mut retries_left = policy.map_or(0, |policy| policy.retries_max);
    let worker = &serving.worker;
    let mut retrying = None; // Counts against the retry limit while the retry is under way.
    loop {
        let before = Tried {
            hosts: &tried,
            avoid: policy.is_some_and(|policy| policy.avoid_tried),
            leave_every: policy.and_then(|policy| policy.leave_priorities_every),
        };
        let host = worker.with_rng(|rng| cluster.choose(rng, hash, &serving.ends, before))?;
        record.try_at(&host);
        let result = attempt(&host, cluster, policy, outgoing, retries_left == 0).await;
        let outcome = match &result {
            Ok((response, _)) => {
                Outcome::Response { status: response.status(), grpc: grpc_status(response.headers()) }
            }
            Err(failed) => Outcome::Fault { fault: failed.fault, unsent: failed.unsent.is_some() },
        };
        cluster.note(&host, outcome);
        let headers = result.as_ref().ok().map(|(response, _)| response.headers());
        let Some(policy) = policy.filter(|policy| retry::wanted(&policy.on, outcome, headers)) else {
            return result.map_err(|failed| failed.fault);
        };
        let replayable = outgoing.source.as_ref().is_none_or(|source| source.replayable());
        drop(retrying.take()); // Over when the next one is asked for.
        let allowed = if retries_left > 0 && replayable { cluster.retry() } else { None };
        if allowed.is_none() {
            match (retries_left, replayable) {
                (0, _) => record.flags.add("URX"),
                (_, true) => record.flags.add("UO"), // The budget is empty.
                (_, false) => {}
            }
            return result.map_err(|failed| failed.fault);
        }
        retrying = allowed;
        let asked = headers.and_then(|headers| {
            worker.with_rng(|rng| retry::asked_pause(policy, headers, SystemTime::now(), rng))
        });
        drop(result); // Closes the try that is given up.
        let retry = policy.retries_max - retries_left;
        retries_left -= 1;
        if policy.avoid_tried || policy.leave_priorities_every.is_some() {
            tried.push(host);
        }
        let pause = asked.unwrap_or_else(|| worker.with_rng(|rng| retry::pause(policy, retry, rng)));
        tokio::time::sleep(pause).await;
    }
}

/// Takes in that the request's time was over, which ends an attempt without a word of its own.
fn gave_up(cluster: &Cluster, target: &Target, fault: Fault, started: Instant) {
    if let (Cause::RequestTimeout, Target::Host(host)) = (fault.cause, target) {
        cluster.note(host, Outcome::Fault { fault, unsent: false });
        host.observe(started.elapsed(), true);
    }
}

async fn attempt(
    host: &Rc<Host>,
    cluster: &Cluster,
    policy: Option<&RetryPolicy>,
    outgoing: &mut Ready,
    last: bool,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let started = host.observes().then(Instant::now);
    outgoing.tell_time(policy.and_then(|policy| policy.per_try_timeout));
    let sending = async {
        let http2 = match outgoing.http2() {
            Some(http2) => http2,
            None => match Box::pin(host.agree(&cluster.counters)).await {
                Ok(http2) => http2,
                Err(fault) => return Err(Failed { fault, unsent: Some(outgoing.request(false, last)) }),
            },
        };
        host.send(&cluster.counters, http2, outgoing.request(http2, last)).await
    };
    let result = match policy.and_then(|policy| policy.per_try_timeout) {
        None => sending.await,
        Some(limit) => match timeout(limit, sending).await {
            Ok(result) => result,
            Err(_) => Err(Failed { fault: Cause::TryTimeout.into(), unsent: None }),
        },
    };
    if let Some(started) = started {
        host.observe(started.elapsed(), result.is_err());
    }
    result
}
