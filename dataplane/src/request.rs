//! The way of one request. Read this first: route, filter, pick an endpoint, try, try again, respond; the record counts it.

pub mod deadline;
pub mod hash;
pub mod head;
pub mod mirror;
pub mod on_demand;
mod outgoing;
pub mod record;
mod reply;
mod tunnel;

use std::{convert::Infallible, pin::pin, rc::Rc, sync::Arc, time::SystemTime};

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
    router::{Router, View, weighted},
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

/// Answers one request.
pub async fn serve(
    serving: Rc<Serving>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let mut record = Record::new(&serving, &request);
    let bodiless = request.method() == Method::HEAD;
    let (mut effects, mut found) = (Effects::default(), Found::default());
    let answer = answer(&serving, request, &mut record, &mut effects, &mut found).await;
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
        Ok(Answer::Local(mut response, details)) => {
            if record.grpc {
                record.grpc_status = Some(reply::speak_grpc(&mut response));
            }
            record.status = Some(response.status());
            record.details = Some(Details::Fixed(details));
            response
        }
        Err(fault) => reply::fault(fault, &mut record),
    };
    dress(response.headers_mut(), &mut record);
    if bodiless {
        record.complete(); // Nobody will ask for the body.
    }
    Ok(response.map(|body| ResponseBody::whole(body, record)))
}

/// What answers of routes are called.
const DIRECT: &str = "direct_response";

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
    Local(Response<Bytes>, &'static str),
}

/// A request that has come in.
struct Arrived {
    parts: Parts,
    body: Incoming,
    /// Normalised.
    host: HeaderValue,
    tunnel: Option<Tunnel>,
    /// Most bytes of body.
    bytes_max: Option<u32>,
}

async fn answer(
    serving: &Serving,
    mut request: Request<Incoming>,
    record: &mut Record,
    effects: &mut Effects,
    found: &mut Found,
) -> Result<Answer, Fault> {
    let tunnel = Tunnel::asked(&mut request);
    let (mut parts, body) = request.into_parts();
    let host = head::normalise(&mut parts, serving.merge_slashes())?;
    let mut snapshot = serving.worker.snapshot(); // One view for the whole request.
    found.route = route(serving, &snapshot, &parts, &host);
    record.routed(&parts, &host, found.route.as_ref());
    if found.route.is_none()
        && let Some(router) = router(serving, &snapshot)
        && let Some(told) = on_demand::told(&serving.worker, router, &host).await?
    {
        snapshot = told;
        found.route = route(serving, &snapshot, &parts, &host);
        record.routed(&parts, &host, found.route.as_ref());
    }
    if let Some(RouteAction::Forward(to)) = found.route.as_ref().map(|route| &route.action) {
        found.cluster = weighted(&to.clusters, &mut *serving.worker.spread());
        let cluster = found.cluster.and_then(|chosen| snapshot.cluster(&to.clusters[chosen].name));
        record.target = cluster.map_or(Target::None, |cluster| Target::Cluster(cluster.clone()));
    }
    let filters = serving.filters(found.route.as_deref());
    if !filters.is_empty() {
        let mut exchange = Exchange {
            serving,
            scheme: serving.scheme(),
            parts: &mut parts,
            host: &host,
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
            let response = reply::redirect(to, &serving.scheme(), &route.matches.path, (&host, &parts.uri));
            Ok(Answer::Local(response, DIRECT))
        }
        RouteAction::Forward(to) => {
            let chosen = cluster.ok_or(Cause::NoEndpoint)?;
            let arrived = Arrived { parts, body, host, tunnel, bytes_max: effects.body_bytes_max };
            forward(serving, &snapshot, route, to, &to.clusters[chosen], arrived, record).await
        }
    }
}

/// Sends a request on its way upstream, and gives the response's head.
async fn forward(
    serving: &Serving,
    snapshot: &Snapshot,
    route: &Route,
    forward: &Forward,
    chosen: &WeightedCluster,
    mut arrived: Arrived,
    record: &mut Record,
) -> Result<Answer, Fault> {
    let worker = &serving.worker;
    let cluster = snapshot.cluster(&chosen.name).ok_or(Cause::NoCluster(forward.cluster_not_found))?;
    let active = Counted::new(&cluster.counters, |c| &c.requests, cluster.spec.limits.requests_max);
    record.active = Some(active.ok_or(Cause::Overflow)?);

    let hashed = if cluster.spec.balancing.by_hash() {
        let Arrived { parts, host, .. } = &arrived;
        worker.with_rng(|rng| hash::hash(&forward.hash, parts, host, &serving.ends, rng))
    } else {
        Hashed::default()
    };
    // Time that the request was held up on purpose is not its endpoint's.
    let started = if record.flags.has("DI") { Instant::now() } else { record.started() };
    let deadline = Deadline::new(started, forward, serving.stream_idle_timeout());
    let mut http2 = speaks_http2(cluster, arrived.parts.version);
    let tunnel = arrived.tunnel.take();
    let allowed = |tunnel: &Tunnel| tunnel.is_among(&forward.upgrades) || tunnel.is_among(serving.upgrades());
    if tunnel.as_ref().is_some_and(|tunnel| http2 == Some(true) || !allowed(tunnel)) {
        return Err(Cause::UpgradeRefused.into());
    }
    if tunnel.is_some() {
        http2 = Some(false);
    }
    let bytes_max = arrived.bytes_max;
    let outgoing = outgoing(serving, route, forward, chosen, arrived, tunnel.as_ref(), record)?;
    record.source.clone_from(&outgoing.source);
    let source = outgoing.source.clone();
    if let (Some(source), Some(max)) = (&source, bytes_max)
        && source.size().is_none()
    {
        deadline.hold(started, Some(source), pin!(source.gather(max))).await?;
    }
    for mirror in &forward.mirrors {
        mirror::copy(worker, snapshot, mirror, &outgoing, forward.timeout);
    }
    let mut ready = outgoing.ready(cluster, http2)?;
    let held = {
        let tries = pin!(settle(serving, cluster, forward.retry.as_ref(), hashed.hash, &mut ready, record));
        deadline.hold(started, source.as_deref(), tries).await
    };
    let (mut response, lease) =
        held.inspect_err(|fault| gave_up(cluster, &record.target, *fault, started))?;
    record.status = Some(response.status());
    record.details = Some(Details::Fixed("via_upstream"));
    record.answered(&lease);
    record.grpc_status = grpc_status(response.headers());
    *response.version_mut() = Version::HTTP_11; // The downstream connection writes its own.
    head::strip_hop_by_hop(response.headers_mut());
    if let Some(tunnel) = tunnel {
        tunnel.open(worker, &mut response);
    }
    for cookie in hashed.cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(Answer::Upstream(response, lease, deadline))
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

/// The request as its route changes it.
fn outgoing(
    serving: &Serving,
    route: &Route,
    forward: &Forward,
    chosen: &WeightedCluster,
    arrived: Arrived,
    tunnel: Option<&Tunnel>,
    record: &mut Record,
) -> Result<Outgoing, Fault> {
    let Arrived { mut parts, body, host, .. } = arrived;
    let host = [&route.request_headers, &chosen.request_headers]
        .iter()
        .find_map(|mutation| mutation.host.clone())
        .or_else(|| forward.host_rewrite.clone())
        .unwrap_or(host);
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
    // The outer level has the last word, as in Envoy.
    head::mutate(&mut headers, &chosen.request_headers);
    head::mutate(&mut headers, &route.request_headers);
    record.sent(&path, &host, &headers);
    let keep = if forward.retry.is_some() { forward.replay_bytes_max } else { 0 };
    let source = (!body.is_end_stream()).then(|| Source::new(body, keep));
    Ok(Outgoing { method: parts.method, scheme, path, host, headers, version: parts.version, source })
}

fn route(
    serving: &Serving,
    snapshot: &Snapshot,
    parts: &http::request::Parts,
    host: &HeaderValue,
) -> Option<Arc<Route>> {
    let router = router(serving, snapshot)?;
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
