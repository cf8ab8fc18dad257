//! A collector of traces: a server of OTLP, made of the types of OpenTelemetry's own project, that keeps what it is told.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, status::StatusCode as SpanStatus},
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;

/// A span as it was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Who told it (`service.name`).
    pub service: String,
    /// The trace, in hexadecimal digits.
    pub trace: String,
    /// The span.
    pub span: String,
    /// Its parent; empty begins a trace.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `SpanKind`.
    pub kind: i32,
    /// Whether it failed.
    pub failed: bool,
    /// How long it took, ns.
    pub nanos: u64,
    /// Attributes, as text.
    pub attributes: BTreeMap<String, String>,
}

/// A running collector.
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
    _tasks: JoinSet<()>,
}

impl Collector {
    /// Listens for OTLP over gRPC.
    pub async fn grpc() -> Self {
        let (listener, address) = bind().await;
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let service = TraceServiceServer::new(Keeper(told.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            let _ = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        Self { address, told, _tasks: tasks }
    }

    /// Listens for OTLP over HTTP; what comes with another path, or without `x-tenant: t`, is not taken.
    pub async fn http() -> Self {
        let (listener, address) = bind().await;
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let keeper = Keeper(told.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let keeper = keeper.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| keeper.clone().take(request));
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, told, _tasks: tasks }
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans of one trace.
    pub fn trace(&self, trace: &str) -> Vec<Told> {
        self.spans().into_iter().filter(|span| span.trace == trace).collect()
    }
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback is free");
    let address = listener.local_addr().expect("it was just bound");
    (listener, address)
}

#[derive(Clone)]
struct Keeper(Arc<Mutex<Vec<Told>>>);

impl Keeper {
    fn keep(&self, request: ExportTraceServiceRequest) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of_resource in request.resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let service = attributes(&resource.attributes).remove("service.name").unwrap_or_default();
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            told.extend(spans.map(|span| told_of(&service, &span)));
        }
    }

    async fn take(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
        let known = request.uri().path() == "/v1/traces"
            && request.headers().get("x-tenant").is_some_and(|tenant| tenant == "t");
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let message = ExportTraceServiceRequest::decode(body);
        let mut response = Response::new(Full::default());
        match message {
            Ok(message) if known => self.keep(message),
            _ => *response.status_mut() = StatusCode::BAD_REQUEST,
        }
        Ok(response)
    }
}

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.keep(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn told_of(service: &str, span: &Span) -> Told {
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect();
    Told {
        service: service.to_owned(),
        trace: hex(&span.trace_id),
        span: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name.clone(),
        kind: span.kind,
        failed: span.status.as_ref().is_some_and(|status| status.code == SpanStatus::Error as i32),
        nanos: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
        attributes: attributes(&span.attributes),
    }
}

fn attributes(of: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        let value = match value {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::BoolValue(truth)) => truth.to_string(),
            other => format!("{other:?}"),
        };
        (pair.key.clone(), value)
    };
    of.iter().map(text).collect()
}
