//! The head of a message, out of its fields (RFC 9113, 8.2 and 8.3), or its trailers. Pure.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::hpack::{decoder::Sink, table::Field};

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// How large a field section may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes as HPACK counts them.
    pub bytes: usize,
    /// Fields; crumbs of cookies count as none.
    pub fields: usize,
}

/// The fields of one section, as they come.
#[derive(Debug)]
pub struct Fields {
    limits: Limits,
    bytes: usize,
    /// More than the limits allow; the rest was not taken.
    pub oversize: bool,
    malformed: bool,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    status: Option<StatusCode>,
    headers: HeaderMap,
    regular: usize,
}

/// A message that breaks rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Whether a field belongs to a connection of HTTP/1.1, and must not occur here (RFC 9113, 8.2.2).
pub fn belongs_to_connection(name: &HeaderName) -> bool {
    match name.as_str().len() {
        7 => *name == UPGRADE,
        10 => *name == CONNECTION || *name == KEEP_ALIVE,
        16 => *name == PROXY_CONNECTION,
        17 => *name == TRANSFER_ENCODING,
        _ => false,
    }
}

impl Fields {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            bytes: 0,
            oversize: false,
            malformed: false,
            method: None,
            scheme: None,
            authority: None,
            path: None,
            status: None,
            headers: HeaderMap::new(),
            regular: 0,
        }
    }

    fn regular(&mut self, name: HeaderName, value: HeaderValue) {
        if belongs_to_connection(&name) || (name == TE && value.as_bytes() != b"trailers") {
            self.malformed = true;
            return;
        }
        if name != COOKIE {
            self.regular += 1;
        }
        if self.regular > self.limits.fields || self.headers.try_append(name, value).is_err() {
            self.oversize = true;
        }
    }

    /// Sets a field that is there once and before all regular ones.
    fn once<T>(slot: &mut Option<T>, value: T, in_front: bool) -> bool {
        in_front && slot.replace(value).is_none()
    }

    fn headers(self) -> Result<HeaderMap, Malformed> {
        if self.malformed { Err(Malformed) } else { Ok(self.headers) }
    }

    /// The head of a request.
    pub fn request(mut self) -> Result<Request<()>, Malformed> {
        let method = self.method.take().ok_or(Malformed)?;
        let (scheme, authority, path) = (self.scheme.take(), self.authority.take(), self.path.take());
        let connect = method == Method::CONNECT;
        let whole = match connect {
            true => scheme.is_none() && path.is_none() && authority.is_some(),
            false => scheme.is_some() && path.is_some(),
        };
        if !whole || self.status.is_some() {
            return Err(Malformed);
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = scheme.filter(|_| authority.is_some()); // A URI has both or neither.
        parts.authority = authority;
        parts.path_and_query = path;
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Malformed)?;
        *request.method_mut() = method;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers()?;
        Ok(request)
    }

    /// The head of a response.
    pub fn response(mut self) -> Result<Response<()>, Malformed> {
        let status = self.status.take().ok_or(Malformed)?;
        // Protocols are not switched so (RFC 9113, 8.6).
        if status == StatusCode::SWITCHING_PROTOCOLS || self.asks() {
            return Err(Malformed);
        }
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = self.headers()?;
        Ok(response)
    }

    /// Trailers.
    pub fn trailers(self) -> Result<HeaderMap, Malformed> {
        if self.asks() || self.status.is_some() { Err(Malformed) } else { self.headers() }
    }

    /// Whether there is a field of a request's head.
    fn asks(&self) -> bool {
        self.method.is_some() || self.scheme.is_some() || self.authority.is_some() || self.path.is_some()
    }
}

impl Sink for Fields {
    fn admits(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.oversize |= self.bytes > self.limits.bytes;
        !self.oversize
    }

    fn take(&mut self, field: Field) {
        let front = self.headers.is_empty();
        let good = match field {
            Field::Regular(name, value) => return self.regular(name, value),
            Field::Method(method) => Self::once(&mut self.method, method, front),
            Field::Scheme(scheme) => Self::once(&mut self.scheme, scheme, front),
            Field::Authority(authority) => Self::once(&mut self.authority, authority, front),
            Field::Path(path) => Self::once(&mut self.path, path, front),
            Field::Status(status) => Self::once(&mut self.status, status, front),
            Field::Bad(_) => false,
        };
        self.malformed |= !good;
    }
}

/// Bytes of the body that a head announces.
pub fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut said = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = said.next() else { return Ok(None) };
    let digits = first.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) || said.any(|other| other != first) {
        return Err(Malformed);
    }
    let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    length.map(Some).ok_or(Malformed)
}
