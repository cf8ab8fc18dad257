//! The admin server: `/ready`, `/healthz`, `/metrics`, `/config_dump`, `/clusters`, `POST /drain`.

mod dump;

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    listener::bind::Bound,
    spec::{Cluster, Discovery},
    worker::Shared,
};

/// Most connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Longest life of a connection: scrapes and people are quick.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after an accept failed, for lack of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server shows.
#[derive(Debug)]
pub struct Admin {
    /// The proxy's state.
    pub shared: Arc<Shared>,
    /// Metrics that are not traffic.
    pub recorder: PrometheusHandle,
    /// Cancelled when the proxy is about to drain: from then on it is not ready.
    pub leave: CancellationToken,
}

/// Serves until stopped.
pub async fn serve(listener: std::net::TcpListener, admin: Arc<Admin>, stop: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "no admin server"),
    };
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // One too many is closed at once rather than left waiting.
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = admin.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(slot);
        });
    }
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let wanted = if path == "/drain" { Method::POST } else { Method::GET };
        let known = ["/ready", "/healthz", "/metrics", "/config_dump", "/clusters", "/drain"];
        if !known.contains(&path) {
            return text(StatusCode::NOT_FOUND, format!("not here; there are {}\n", known.join(" ")));
        }
        if request.method() != wanted {
            return text(StatusCode::METHOD_NOT_ALLOWED, format!("use {wanted} {path}\n"));
        }
        match path {
            "/ready" => match self.not_ready() {
                None => text(StatusCode::OK, "ready\n"),
                Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            },
            "/metrics" => text(StatusCode::OK, self.metrics()),
            "/config_dump" => json(&dump::config(&self.shared.spec.borrow().clone())),
            "/clusters" => json(&dump::clusters(&self.shared)),
            "/drain" => {
                self.leave.cancel();
                text(StatusCode::OK, "draining\n")
            }
            _ => text(StatusCode::OK, "alive\n"),
        }
    }

    /// Why the proxy should get no traffic; none when it should.
    fn not_ready(&self) -> Option<String> {
        if self.leave.is_cancelled() {
            return Some("draining".to_owned());
        }
        let spec = self.shared.spec.borrow().clone();
        if !spec.complete {
            return Some("no whole configuration yet: is the control plane reachable?".to_owned());
        }
        if let Some(name) = spec.clusters.values().find_map(|cluster| self.failing_workload(cluster)) {
            return Some(format!("the workload fails its health checks: {name}"));
        }
        let bound = self.shared.bound.borrow();
        let mut listening = spec.listeners.iter().filter(|(_, listener)| listener.has_socket);
        listening.find_map(|(name, _)| match bound.get(name) {
            Some(Bound::At(_) | Bound::Unix(..)) => None,
            Some(Bound::Failed(error)) => Some(format!("listener {name}: {error}")),
            None => Some(format!("listener {name} is opening")),
        })
    }

    /// The name of a cluster, if it is the workload that the proxy stands before and fails its checks: who asks a platform
    /// whether it should get traffic hears so.
    fn failing_workload<'a>(&self, cluster: &'a Cluster) -> Option<&'a Arc<str>> {
        let Discovery::Static(set) = &cluster.discovery else { return None };
        let inbound = cluster.check.is_some() && cluster.name.starts_with("inbound|");
        let vitals = &inbound.then(|| self.shared.counters(&cluster.name))?.vitals;
        let failing = |address| vitals.find(address).is_some_and(|vital| vital.failing());
        set.endpoints().all(|endpoint| failing(&endpoint.address)).then_some(&cluster.name)
    }

    fn metrics(&self) -> String {
        let mut out = self.recorder.render();
        self.shared.traffic.render(&mut out);
        let own = [
            ("weft_downstream_connections", "gauge", self.shared.connections.load(Relaxed) as u64),
            ("weft_requests_untold", "gauge", self.shared.on_demand.waiting() as u64),
            ("weft_requests_untold_refused_total", "counter", self.shared.on_demand.refused()),
        ];
        for (name, kind, value) in own {
            out.push_str(&format!("# TYPE {name} {kind}\n{name} {value}\n"));
        }
        let name = "weft_downstream_connections_refused_total";
        out.push_str(&format!("# TYPE {name} counter\n"));
        for (reason, count) in self.shared.refused.all() {
            out.push_str(&format!("{name}{{reason=\"{reason}\"}} {count}\n"));
        }
        self.shared.shaping.render(&mut out);
        out
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body.into())
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, "application/json", format!("{value:#}\n").into())
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
