//! What a log may need of a request and is gone when it ends. Kept by reference counts, not by copies.

use std::{net::SocketAddr, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    uri::{PathAndQuery, Scheme},
};
use tokio::time::Instant;

use crate::{
    fault::Details,
    spec::{AccessLogs, Route},
    stream::Ends,
};

/// Notes of one request or connection.
#[derive(Debug, Default)]
pub struct Notes {
    /// Method; none on a TCP connection.
    pub method: Option<Method>,
    /// Path and query as they went upstream, or as they came.
    pub path: Option<PathAndQuery>,
    /// Path and query as they came, where they were rewritten.
    pub original_path: Option<PathAndQuery>,
    /// Scheme of the downstream connection; none on a TCP connection.
    pub scheme: Option<Scheme>,
    /// Host, as it went upstream, or as it came.
    pub authority: Option<HeaderValue>,
    /// Protocol of the downstream connection.
    pub protocol: Option<Version>,
    /// Downstream addresses.
    pub ends: Ends,
    /// The route taken.
    pub route: Option<Arc<Route>>,
    /// Our address on the upstream connection.
    pub upstream_local: Option<SocketAddr>,
    /// Why a connection was not let in.
    pub termination: Option<Details>,
    /// When the upstream's response head had come.
    pub answered: Option<Instant>,
    /// Request headers, in the order of [`AccessLogs::request_headers`].
    pub request: Vec<Option<HeaderValue>>,
    /// Response headers.
    pub response: Vec<Option<HeaderValue>>,
    /// Response trailers.
    pub trailers: Vec<Option<HeaderValue>>,
}

impl Notes {
    /// Notes the request's headers as they are now.
    pub fn request_headers(&mut self, logs: &AccessLogs, headers: &HeaderMap) {
        take(&mut self.request, &logs.request_headers, headers);
    }

    /// Notes the response's headers as they are now.
    pub fn response_headers(&mut self, logs: &AccessLogs, headers: &HeaderMap) {
        take(&mut self.response, &logs.response_headers, headers);
    }

    /// Notes the response's trailers.
    pub fn response_trailers(&mut self, logs: &AccessLogs, trailers: &HeaderMap) {
        take(&mut self.trailers, &logs.trailers, trailers);
    }

    /// Forgets all; the room stays.
    pub fn clear(&mut self) {
        let [mut request, mut response, mut trailers] =
            [&mut self.request, &mut self.response, &mut self.trailers].map(std::mem::take);
        [&mut request, &mut response, &mut trailers].into_iter().for_each(Vec::clear);
        *self = Self { request, response, trailers, ..Self::default() };
    }
}

fn take(slots: &mut Vec<Option<HeaderValue>>, names: &[HeaderName], headers: &HeaderMap) {
    slots.clear();
    slots.extend(names.iter().map(|name| headers.get(name).cloned()));
}
