//! Traces: each sampled request is one span of ours, of the kind of its listener's direction, and what goes on names it as
//! the parent. Requests that are not sampled cost the ids that go on with them; nothing is noted of them.

pub mod context;
pub mod export;
pub mod otlp;

use std::{rc::Rc, sync::Arc, time::UNIX_EPOCH};

use bytes::BytesMut;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Version,
    header::{HOST, USER_AGENT},
    uri::PathAndQuery,
};
use rand::Rng;

use crate::{
    access_log::Facts,
    request::{head::REQUEST_ID, record::Target},
    spec::{Direction, EndpointAddress, Tracing},
    stream::Ends,
    worker::Worker,
};
use context::Context;
use export::Batch;

/// All of a share.
const PPM: u32 = 1_000_000;

/// Begins and ends the spans of one filter chain on one worker.
pub struct Tracer {
    spec: Arc<Tracing>,
    kind: otlp::Kind,
    batch: Rc<Batch>,
}

/// What is known of a request that is traced.
pub struct Trace {
    tracer: Rc<Tracer>,
    context: Context,
    /// None where it is not sampled.
    notes: Option<Box<Notes>>,
}

/// What a span says of its request, kept by reference counts.
struct Notes {
    method: Method,
    path: Option<PathAndQuery>,
    authority: Option<HeaderValue>,
    version: Version,
    request_id: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    /// In the order of [`Tracing::header_tags`].
    tags: Vec<Option<HeaderValue>>,
}

impl Tracer {
    /// For a chain of a listener.
    pub fn new(worker: &Worker, spec: &Arc<Tracing>, direction: Direction) -> Rc<Self> {
        let kind = match direction {
            Direction::Inbound => otlp::Kind::Server,
            Direction::Outbound => otlp::Kind::Client,
        };
        Rc::new(Self { spec: spec.clone(), kind, batch: worker.spans.batch(&spec.collector) })
    }

    /// Begins the span of a request, in the trace that it comes with or in a new one.
    pub fn begin<B>(self: &Rc<Self>, request: &Request<B>, rng: &mut impl Rng) -> Trace {
        let headers = request.headers();
        let parent = context::read(headers);
        let decided = if parent.is_none() { context::decided(headers) } else { None };
        let ppm = self.spec.sampling_ppm;
        let drawn = decided.unwrap_or_else(|| ppm >= PPM || rng.random_range(0..PPM) < ppm);
        let context = Context::begin(parent, context::form(headers), || drawn, || rng.random());
        let notes = context.sampled.then(|| Box::new(self.note(request)));
        Trace { tracer: self.clone(), context, notes }
    }

    fn note<B>(&self, request: &Request<B>) -> Notes {
        let headers = request.headers();
        let header = |name: &HeaderName| headers.get(name).cloned();
        Notes {
            method: request.method().clone(),
            path: request.uri().path_and_query().cloned(),
            authority: match request.uri().authority() {
                Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
                None => header(&HOST),
            },
            version: request.version(),
            request_id: header(&REQUEST_ID),
            user_agent: header(&USER_AGENT),
            tags: self.spec.header_tags.iter().map(|tag| header(&tag.header)).collect(),
        }
    }
}

impl Trace {
    /// Says it in the headers of what goes on.
    pub fn send(&mut self, headers: &mut HeaderMap) {
        self.context.write(headers);
        if let Some(notes) = &mut self.notes {
            notes.request_id = headers.get(REQUEST_ID).cloned();
        }
    }

    /// Whether its span is told when it ends.
    pub fn is_sampled(&self) -> bool {
        self.notes.is_some()
    }

    /// Ends the span of a request.
    pub fn end(self, worker: &Rc<Worker>, facts: &Facts<'_>, ends: &Ends) {
        let Self { tracer, context, notes: Some(notes) } = self else { return };
        let began = facts.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let status = facts.status.unwrap_or(0);
        let span = otlp::Span {
            trace: context.trace,
            span: context.span,
            parent: context.parent,
            state: text(context.state.as_ref()).unwrap_or_default(),
            name: [notes.method.as_str(), text(notes.authority.as_ref()).unwrap_or_default()],
            kind: tracer.kind,
            began: nanos(began),
            ended: nanos(began.saturating_add(facts.duration)),
            failed: status >= 500 || status == 0 || facts.grpc_status.is_some_and(is_server_error),
        };
        tracer.batch.add(worker, |scratch, out| {
            otlp::span(&span, |buf| tracer.attributes(buf, facts, &notes, ends), scratch, out);
        });
    }
}

impl Tracer {
    /// Envoy's tags, by its names, so that what reads those reads ours.
    fn attributes(&self, out: &mut BytesMut, facts: &Facts<'_>, notes: &Notes, ends: &Ends) {
        out.extend_from_slice(&self.spec.fixed_tags);
        otlp::text("http.method", notes.method.as_str(), out);
        if let Some(path) = &notes.path {
            let path = path.as_str();
            otlp::text("http.url", &path[..path.floor_char_boundary(self.spec.path_bytes_max)], out);
        }
        let mut optional = |key: &str, value: Option<&HeaderValue>| {
            if let Some(value) = text(value) {
                otlp::text(key, value, out);
            }
        };
        optional("http.host", notes.authority.as_ref());
        optional("guid:x-request-id", notes.request_id.as_ref());
        optional("user_agent", notes.user_agent.as_ref());
        otlp::text("http.protocol", protocol(notes.version), out);
        otlp::number("http.status_code", facts.status.unwrap_or(0).into(), out);
        otlp::text("response_flags", &facts.flags.to_string(), out);
        otlp::number("request_size", facts.bytes_received, out);
        otlp::number("response_size", facts.bytes_sent, out);
        if facts.attempts > 1 {
            otlp::number("retry.count", u64::from(facts.attempts) - 1, out);
        }
        if let Some(status) = facts.grpc_status {
            otlp::number("grpc.status_code", status.into(), out);
        }
        if let Some(details) = facts.details {
            otlp::text("response_code_details", details, out);
        }
        if let Some(peer) = ends.remote {
            otlp::text("peer.address", &peer.ip().to_string(), out);
        }
        match facts.target {
            Target::None => {}
            Target::Cluster(cluster) => otlp::text("upstream_cluster", &cluster.spec.name, out),
            Target::Host(host) => {
                otlp::text("upstream_cluster", &host.cluster.name, out);
                if let EndpointAddress::Tcp(address) = &host.spec.address {
                    otlp::text("upstream_address", &address.to_string(), out);
                }
            }
        }
        for (tag, value) in self.spec.header_tags.iter().zip(&notes.tags) {
            if let Some(value) = text(value.as_ref()).or(tag.otherwise.as_deref()) {
                otlp::text(&tag.name, value, out);
            }
        }
    }
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// What of gRPC counts as an error of its server (OpenTelemetry's semantic conventions).
fn is_server_error(status: u16) -> bool {
    matches!(status, 2 | 4 | 12 | 13 | 14 | 15)
}
