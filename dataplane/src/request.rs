//! The way of one request. Read this first: route, pick an endpoint, try, try again, respond; the record counts it.

pub mod deadline;
pub mod hash;
pub mod head;
pub mod on_demand;
pub mod record;
mod reply;
mod tunnel;

use std::{convert::Infallible, rc::Rc};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri, Version,
    header::{CONTENT_LENGTH, HOST, SET_COOKIE, TRANSFER_ENCODING},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use tokio::time::{Instant, timeout};

use crate::{
    body::{Incoming, RequestBody, ResponseBody, Source},
    cluster::{Cluster, Counted, Failed, Host, Lease},
    fault::{Cause, Fault},
    listener::Serving,
    retry::{self, Outcome},
    router::{Router, View, weighted},
    snapshot::Snapshot,
    spec::{HttpListener, ListenerProtocol, RetryPolicy, Route, RouteAction, RouteSource, UpstreamProtocol},
    worker::Worker,
};
use deadline::Deadline;
use hash::Hashed;
use record::{Record, Target, grpc_status};
use tunnel::Tunnel;

/// Answers one request.
pub async fn serve(
    serving: Rc<Serving>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let mut record = Record::new(&serving, &request);
    Ok(match answer(&serving, request, &mut record).await {
        Ok(Answer::Upstream(response, lease, deadline)) => {
            response.map(|body| ResponseBody::relay(body, record, lease, deadline))
        }
        Ok(Answer::Local(response)) => {
            record.status = Some(response.status());
            record.details = Some("direct_response");
            record.respond(response.headers());
            response.map(|body| ResponseBody::whole(body, record))
        }
        Err(fault) => reply::fault(fault, record),
    })
}

/// A response's head and where its body comes from.
enum Answer {
    Upstream(Response<Incoming>, Lease, Deadline),
    Local(Response<bytes::Bytes>),
}

async fn answer(
    serving: &Serving,
    mut request: Request<Incoming>,
    record: &mut Record,
) -> Result<Answer, Fault> {
    let tunnel = Tunnel::asked(&mut request);
    let (mut parts, body) = request.into_parts();
    let host = head::normalise(&mut parts, serving.merge_slashes())?;
    let mut snapshot = serving.worker.snapshot(); // One view for the whole request.
    let mut found = route(serving, &snapshot, &parts, &host);
    record.routed(&parts, &host, found.as_ref());
    if found.is_none()
        && let Some(router) = router(serving, &snapshot)
        && let Some(told) = on_demand::told(&serving.worker, router, &host).await?
    {
        snapshot = told;
        found = route(serving, &snapshot, &parts, &host);
        record.routed(&parts, &host, found.as_ref());
    }
    let route = found.ok_or(Cause::NoRoute)?;
    let forward = match &route.action {
        RouteAction::Direct(direct) => {
            return Ok(Answer::Local(reply::direct(direct, &route.response_headers)));
        }
        RouteAction::Redirect(redirect) => {
            return Ok(Answer::Local(reply::redirect(redirect, &route, &parts, &host)));
        }
        RouteAction::Forward(forward) => forward,
    };
    let worker = &serving.worker;
    let chosen = weighted(&forward.clusters, &mut *worker.spread()).ok_or(Cause::NoEndpoint)?;
    let cluster = snapshot.cluster(&chosen.name).ok_or(Cause::NoCluster(forward.cluster_not_found))?;
    record.target = Target::Cluster(cluster.clone());
    let active = Counted::new(&cluster.counters, |c| &c.requests, cluster.spec.limits.requests_max);
    record.active = Some(active.ok_or(Cause::Overflow)?);

    let hashed = if cluster.spec.balancing.by_hash() {
        worker.with_rng(|rng| hash::hash(&forward.hash, &parts, &host, &serving.ends, rng))
    } else {
        Hashed::default()
    };
    let http2 = match cluster.spec.protocol {
        UpstreamProtocol::Http1 => Some(false),
        UpstreamProtocol::Http2 => Some(true),
        UpstreamProtocol::Downstream => Some(parts.version == Version::HTTP_2),
        UpstreamProtocol::Agreed => None,
    };
    let host = [&chosen.request_headers, &route.request_headers]
        .iter()
        .find_map(|mutation| mutation.host.clone())
        .or_else(|| forward.host_rewrite.clone())
        .unwrap_or(host);
    let path = reply::rewritten_path(forward, &route.matches.path, &parts.uri)?;
    let mut headers = std::mem::take(&mut parts.headers);
    head::strip_hop_by_hop(&mut headers);
    let tunnel = tunnel.filter(|tunnel| {
        http2 != Some(true) && (tunnel.is_among(&forward.upgrades) || tunnel.is_among(serving.upgrades()))
    });
    let mut http2 = http2;
    if let Some(tunnel) = &tunnel {
        tunnel.announce(&mut headers);
        http2 = Some(false);
    }
    let scheme = serving.scheme();
    worker.with_rng(|rng| head::announce(&mut headers, &scheme, serving.is_edge(), rng));
    head::mutate(&mut headers, &route.request_headers);
    head::mutate(&mut headers, &chosen.request_headers);
    record.sent(&path, &host, &headers);
    let source = (!body.is_end_stream()).then(|| Source::new(body, forward.retry.is_some()));
    record.source.clone_from(&source);
    let scheme = if cluster.spec.tls.is_some() { Scheme::HTTPS } else { scheme };
    let outgoing = Outgoing::new(parts.method, (scheme, host, path), headers, source, http2)?;

    let started = record.started();
    let deadline = Deadline::new(started, forward, serving.stream_idle_timeout());
    let source = outgoing.source.clone();
    let tries = settle(worker, cluster, forward.retry.as_ref(), hashed.hash, outgoing, record);
    let held = deadline.hold(started, source.as_deref(), tries).await;
    let (mut response, lease) =
        held.inspect_err(|fault| gave_up(cluster, &record.target, *fault, started))?;
    record.status = Some(response.status());
    record.details = Some("via_upstream");
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
    head::mutate(response.headers_mut(), &route.response_headers);
    head::mutate(response.headers_mut(), &chosen.response_headers);
    record.respond(response.headers());
    Ok(Answer::Upstream(response, lease, deadline))
}

fn route(
    serving: &Serving,
    snapshot: &Snapshot,
    parts: &http::request::Parts,
    host: &HeaderValue,
) -> Option<std::sync::Arc<Route>> {
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

/// A request as it goes upstream, from which each try is made.
struct Outgoing {
    method: Method,
    host: HeaderValue,
    /// As HTTP/1.1 has it, and as HTTP/2 does.
    uris: [Uri; 2],
    headers: HeaderMap,
    source: Option<Rc<Source>>,
    /// None is what the endpoint agrees to.
    http2: Option<bool>,
}

impl Outgoing {
    fn new(
        method: Method,
        (scheme, host, path): (Scheme, HeaderValue, PathAndQuery),
        headers: HeaderMap,
        source: Option<Rc<Source>>,
        http2: Option<bool>,
    ) -> Result<Self, Fault> {
        let bad = || Fault::from(Cause::BadRequest);
        let mut uris = [Uri::default(), Uri::default()];
        if http2 != Some(false) {
            let mut uri = http::uri::Parts::default();
            uri.scheme = Some(scheme);
            uri.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| bad())?);
            uri.path_and_query = Some(path.clone());
            uris[1] = Uri::from_parts(uri).map_err(|_| bad())?;
        }
        if http2 != Some(true) {
            uris[0] = path.into();
        }
        Ok(Self { method, host, uris, headers, source, http2 })
    }

    /// The request of the next try; the last one may take the headers along.
    fn request(&mut self, http2: bool, last: bool) -> Request<RequestBody> {
        let mut headers = if last { std::mem::take(&mut self.headers) } else { self.headers.clone() };
        if http2 {
            headers.remove(HOST);
        } else {
            headers.insert(HOST, self.host.clone());
            head::join_cookies(&mut headers);
            if self.source.as_ref().is_some_and(|source| source.size().is_none()) {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            // There are servers that answer 411 without it, where the method is one that brings content.
            let bare = [Method::GET, Method::HEAD, Method::DELETE, Method::TRACE];
            if self.source.is_none() && !bare.contains(&self.method) {
                headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
            }
        }
        let body = self.source.as_ref().map_or(RequestBody::Empty, Source::body);
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uris[usize::from(http2)].clone();
        *request.headers_mut() = headers;
        *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        request
    }
}

/// Tries until there is a response to pass on or no reason to try again.
async fn settle(
    worker: &Worker,
    cluster: &Rc<Cluster>,
    policy: Option<&RetryPolicy>,
    hash: Option<u64>,
    mut outgoing: Outgoing,
    record: &mut Record,
) -> Result<(Response<Incoming>, Lease), Fault> {
    let mut tried: Vec<Rc<Host>> = Vec::new();
    let mut retries_left = policy.map_or(0, |policy| policy.retries_max);
    let mut retrying = None; // Counts against the retry limit while the retry is under way.
    loop {
        let host = worker.with_rng(|rng| cluster.pick(rng, hash, &tried))?;
        record.try_at(&host);
        let result = attempt(&host, cluster, policy, &mut outgoing, retries_left == 0).await;
        let outcome = match &result {
            Ok((response, _)) => {
                Outcome::Response { status: response.status(), grpc: grpc_status(response.headers()) }
            }
            Err(failed) => Outcome::Fault { fault: failed.fault, unsent: failed.unsent.is_some() },
        };
        cluster.note(&host, outcome);
        let Some(policy) = policy.filter(|policy| retry::wanted(&policy.on, outcome)) else {
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
        drop(result); // Closes the try that is given up.
        let retry = policy.retries_max - retries_left;
        retries_left -= 1;
        tried.push(host);
        tokio::time::sleep(worker.with_rng(|rng| retry::pause(policy, retry, rng))).await;
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
    outgoing: &mut Outgoing,
    last: bool,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let started = host.observes().then(Instant::now);
    let sending = async {
        let http2 = match outgoing.http2 {
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
