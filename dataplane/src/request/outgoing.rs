//! A request as it goes upstream, and the requests that are made of it: one for each try, one for each mirror.

use std::{rc::Rc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use tokio::time::Instant;

use super::{grpc_timeout, head};
use crate::{
    body::{RequestBody, Source},
    cluster::Cluster,
    fault::{Cause, Fault},
};

/// What a request is upstream, in no protocol's form yet.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    /// The downstream connection's.
    pub(super) scheme: Scheme,
    pub(super) path: PathAndQuery,
    pub(super) host: HeaderValue,
    pub(super) headers: HeaderMap,
    /// The downstream's, for clusters that are spoken to as their callers speak.
    pub(super) version: Version,
    pub(super) source: Option<Rc<Source>>,
}

/// A request from which each try is made.
#[derive(Debug)]
pub(super) struct Ready {
    head: Head,
    pub(super) source: Option<Rc<Source>>,
    /// When the time of a call is over that its endpoints are told of.
    pub(super) ends_at: Option<Instant>,
}

/// A copy for another cluster.
#[derive(Debug)]
pub(super) struct Copy {
    head: Head,
    body: RequestBody,
}

#[derive(Debug)]
struct Head {
    method: Method,
    host: HeaderValue,
    /// As HTTP/1.1 has it, and as HTTP/2 does.
    uris: [Uri; 2],
    headers: HeaderMap,
    /// None is what the endpoint agrees to.
    http2: Option<bool>,
}

impl Outgoing {
    /// For a cluster; in HTTP/2's form or not, or as the endpoint agrees to.
    pub(super) fn ready(self, cluster: &Cluster, http2: Option<bool>) -> Result<Ready, Fault> {
        let Self { method, scheme, path, host, headers, source, .. } = self;
        let scheme = if cluster.spec.tls.is_some() { Scheme::HTTPS } else { scheme };
        let head = Head::new(method, (scheme, host, path), headers, http2)?;
        Ok(Ready { head, source, ends_at: None })
    }

    /// A copy for another cluster and host; to be made before the first try.
    pub(super) fn copy(
        &self,
        host: HeaderValue,
        cluster: &Cluster,
        http2: Option<bool>,
    ) -> Result<Copy, Fault> {
        let scheme = if cluster.spec.tls.is_some() { Scheme::HTTPS } else { self.scheme.clone() };
        let (method, path, headers) = (self.method.clone(), self.path.clone(), self.headers.clone());
        let head = Head::new(method, (scheme, host, path), headers, http2)?;
        let body = self.source.as_ref().map_or(RequestBody::Empty, |source| source.copy());
        Ok(Copy { head, body })
    }
}

impl Head {
    fn new(
        method: Method,
        (scheme, host, path): (Scheme, HeaderValue, PathAndQuery),
        headers: HeaderMap,
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
        Ok(Self { method, host, uris, headers, http2 })
    }

    /// The last request made of it may take the headers along.
    fn request(&mut self, http2: bool, last: bool, body: RequestBody) -> Request<RequestBody> {
        let mut headers = if last { std::mem::take(&mut self.headers) } else { self.headers.clone() };
        if http2 {
            headers.remove(HOST);
        } else {
            headers.insert(HOST, self.host.clone());
            head::join_cookies(&mut headers);
            if body.size_hint().exact().is_none() {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            // There are servers that answer 411 without it, where the method is one that brings content.
            let bare = [Method::GET, Method::HEAD, Method::DELETE, Method::TRACE];
            if matches!(body, RequestBody::Empty) && !bare.contains(&self.method) {
                headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
            }
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uris[usize::from(http2)].clone();
        *request.headers_mut() = headers;
        *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        request
    }
}

impl Ready {
    /// Whether it is in HTTP/2's form; none is what the endpoint agrees to.
    pub(super) fn http2(&self) -> Option<bool> {
        self.head.http2
    }

    /// Puts the time that is left for a call into the head of its next try, which has no more than `try_max`.
    pub(super) fn tell_time(&mut self, try_max: Option<Duration>) {
        let Some(end) = self.ends_at else { return };
        let left = end.saturating_duration_since(Instant::now());
        grpc_timeout::tell(&mut self.head.headers, try_max.map_or(left, |max| max.min(left)));
    }

    /// The request of the next try; the last one may take the headers along.
    pub(super) fn request(&mut self, http2: bool, last: bool) -> Request<RequestBody> {
        let body = self.source.as_ref().map_or(RequestBody::Empty, Source::body);
        self.head.request(http2, last, body)
    }
}

impl Copy {
    /// Whether it is in HTTP/2's form; none is what the endpoint agrees to.
    pub(super) fn http2(&self) -> Option<bool> {
        self.head.http2
    }

    /// The request.
    pub(super) fn request(mut self, http2: bool) -> Request<RequestBody> {
        self.head.request(http2, true, self.body)
    }
}
