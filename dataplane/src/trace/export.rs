//! Spans on their way to collectors: each worker has a batch for each collector, filled at the end of requests and sent
//! by the worker's own connections, so that nothing is shared, and a collector is reached as any service of the mesh is,
//! by its balancer and mutual TLS. Nobody waits for a collector: what it does not take in time is dropped and counted.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderValue, Method, Request, Uri, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TE},
    uri::{Authority, Scheme},
};
use http_body_util::BodyExt;
use metrics::Counter;
use tokio::{sync::Notify, time::timeout};

use super::otlp;
use crate::{
    body::RequestBody,
    cluster::{Cluster, Failed, Tried},
    request::record::grpc_status,
    retry::Outcome,
    spec::{Collector, UpstreamProtocol},
    worker::Worker,
};

/// Spans that are sent at once, whatever time has passed.
const BATCH_SPANS: usize = 512;
/// How long a span waits for others.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// Most spans of a worker that wait for a collector, and their bytes.
pub const WAITING_SPANS_MAX: usize = 2048;
/// See [`WAITING_SPANS_MAX`].
pub const WAITING_BYTES_MAX: usize = 2 << 20;
/// Most bytes of a collector's answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The batches of a worker.
#[derive(Default)]
pub struct Batches(RefCell<HashMap<Arc<Collector>, Weak<Batch>>>);

/// Spans for a collector.
pub struct Batch {
    collector: Arc<Collector>,
    /// `Resource`, encoded.
    resource: Bytes,
    waiting: RefCell<Waiting>,
    /// Whether somebody sees to it that it is sent.
    attended: Cell<bool>,
    full: Notify,
    exported: Counter,
    overflowed: Counter,
    failed: Counter,
}

#[derive(Default)]
struct Waiting {
    spans: usize,
    bytes: BytesMut,
    scratch: BytesMut,
}

impl Batches {
    /// The batch for a collector, which all listeners that have it share.
    pub fn batch(&self, collector: &Arc<Collector>) -> Rc<Batch> {
        let mut batches = self.0.borrow_mut();
        if let Some(batch) = batches.get(collector).and_then(Weak::upgrade) {
            return batch;
        }
        batches.retain(|_, batch| batch.strong_count() > 0);
        let batch = Rc::new(Batch::new(collector.clone()));
        batches.insert(collector.clone(), Rc::downgrade(&batch));
        batch
    }
}

impl Batch {
    fn new(collector: Arc<Collector>) -> Self {
        let dropped =
            |reason: &'static str| metrics::counter!("weft_trace_spans_dropped_total", "reason" => reason);
        Self {
            resource: otlp::resource(&[("service.name", &collector.service)]),
            collector,
            waiting: RefCell::default(),
            attended: Cell::new(false),
            full: Notify::new(),
            exported: metrics::counter!("weft_trace_spans_exported_total"),
            overflowed: dropped("queue_full"),
            failed: dropped("export_failed"),
        }
    }

    /// Adds a span by encoding it; over the limits it is dropped and counted.
    pub fn add(self: &Rc<Self>, worker: &Rc<Worker>, encode: impl FnOnce(&mut BytesMut, &mut BytesMut)) {
        let mut waiting = self.waiting.borrow_mut();
        let Waiting { spans, bytes, scratch } = &mut *waiting;
        if *spans >= WAITING_SPANS_MAX || bytes.len() >= WAITING_BYTES_MAX {
            self.overflowed.increment(1);
            return;
        }
        encode(scratch, bytes);
        *spans += 1;
        if *spans >= BATCH_SPANS {
            self.full.notify_one();
        }
        if !self.attended.replace(true) {
            worker.tasks.spawn_local(attend(self.clone(), worker.clone()));
        }
    }

    fn take(&self) -> (usize, BytesMut) {
        let mut waiting = self.waiting.borrow_mut();
        (std::mem::take(&mut waiting.spans), waiting.bytes.split())
    }
}

/// Sends what comes, until nothing does.
async fn attend(batch: Rc<Batch>, worker: Rc<Worker>) {
    loop {
        tokio::select! {
            () = batch.full.notified() => {}
            () = tokio::time::sleep(BATCH_TIME) => {}
            () = worker.shared.drain.cancelled() => {}
        }
        let (spans, bytes) = batch.take();
        if spans == 0 {
            return batch.attended.set(false);
        }
        let message = otlp::request(&batch.resource, &bytes);
        let sent = timeout(batch.collector.timeout, send(&worker, &batch.collector, message)).await;
        match sent {
            Ok(true) => batch.exported.increment(spans as u64),
            Ok(false) | Err(_) => batch.failed.increment(spans as u64),
        }
    }
}

/// Sends a batch; whether it was taken.
async fn send(worker: &Worker, collector: &Collector, message: Bytes) -> bool {
    let Some(cluster) = worker.snapshot().cluster(&collector.cluster).cloned() else { return false };
    let Ok(host) = worker.with_rng(|rng| cluster.pick(rng, None, Tried::default())) else { return false };
    let http2 = match (collector.grpc, cluster.spec.protocol) {
        (true, _) | (false, UpstreamProtocol::Http2) => true,
        (false, UpstreamProtocol::Http1 | UpstreamProtocol::Downstream) => false,
        (false, UpstreamProtocol::Agreed) => match host.agree(&cluster.counters).await {
            Ok(http2) => http2,
            Err(fault) => {
                cluster.note(&host, Outcome::Fault { fault, unsent: true });
                return false;
            }
        },
    };
    let Some(request) = request(collector, &cluster, http2, message) else { return false };
    match host.send(&cluster.counters, http2, request).await {
        Ok((response, lease)) => {
            let (status, grpc) = (response.status(), grpc_status(response.headers()));
            cluster.note(&host, Outcome::Response { status, grpc });
            let (mut body, mut outcome, mut read) = (response.into_body(), grpc, 0);
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > ANSWER_BYTES_MAX {
                    return false;
                }
                outcome = frame.trailers_ref().and_then(grpc_status).or(outcome);
            }
            lease.give_back();
            status.is_success() && (!collector.grpc || outcome == Some(0))
        }
        Err(Failed { fault, unsent }) => {
            cluster.note(&host, Outcome::Fault { fault, unsent: unsent.is_some() });
            false
        }
    }
}

/// A request with a batch, in HTTP/2's form or not.
fn request(
    collector: &Collector,
    cluster: &Cluster,
    http2: bool,
    message: Bytes,
) -> Option<Request<RequestBody>> {
    let body = if collector.grpc { framed(&message) } else { message };
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(collector.path.clone());
    if http2 {
        uri.scheme = Some(if cluster.spec.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = Some(Authority::try_from(collector.authority.as_bytes()).ok()?);
    }
    let length = HeaderValue::from(body.len());
    let mut request = Request::new(RequestBody::Whole(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let headers = request.headers_mut();
    headers.extend(collector.headers.iter().cloned());
    let (content, te) = match collector.grpc {
        true => ("application/grpc", Some("trailers")),
        false => ("application/x-protobuf", None),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    te.map(|te| headers.insert(TE, HeaderValue::from_static(te)));
    if !http2 {
        headers.insert(HOST, collector.authority.clone());
        headers.insert(CONTENT_LENGTH, length);
    }
    Some(request)
}

/// A message as gRPC frames it: not compressed, and its length.
fn framed(message: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}
