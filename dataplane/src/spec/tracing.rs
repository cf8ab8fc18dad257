//! How requests are traced: which ones, what spans say, and who takes them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, uri::PathAndQuery};

/// From an `HttpConnectionManager`'s `tracing`, with Envoy's OpenTelemetry tracer.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Who takes the spans. Listeners with equal collectors share their batches.
    pub collector: Arc<Collector>,
    /// Share of the requests without a trace of their own that are sampled, in millionths.
    pub sampling_ppm: u32,
    /// Most bytes of a path in a span (`max_path_tag_length`).
    pub path_bytes_max: usize,
    /// Tags that are the same for every request, encoded as attributes of a span.
    pub fixed_tags: Bytes,
    /// Tags that a header of the request gives.
    pub header_tags: Vec<HeaderTag>,
}

/// A tag that a header of the request gives.
#[derive(Clone, Debug)]
pub struct HeaderTag {
    /// Its name.
    pub name: Box<str>,
    /// The header.
    pub header: HeaderName,
    /// What stands for one that is not there; without it there is no tag.
    pub otherwise: Option<Box<str>>,
}

/// A cluster that takes spans (OTLP).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Collector {
    /// The cluster.
    pub cluster: Arc<str>,
    /// `:authority` of requests.
    pub authority: HeaderValue,
    /// Path of requests.
    pub path: PathAndQuery,
    /// Whether it is gRPC; else protobuf over HTTP.
    pub grpc: bool,
    /// Time for one request.
    pub timeout: Duration,
    /// More headers of each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who tells (`service.name`).
    pub service: Arc<str>,
}
