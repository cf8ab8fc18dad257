//! A client that speaks HTTP/1.1 or HTTP/2 (with prior knowledge) on one connection, and hides nothing.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};

/// What a request may take before the test gives up on it.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Bodies that the client sends.
pub type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Trailers by name.
    pub trailers: BTreeMap<String, String>,
}

impl Answer {
    /// A header as text; several values are joined by a comma.
    pub fn header(&self, name: &str) -> Option<String> {
        let all: Vec<_> =
            self.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        (!all.is_empty()).then(|| all.join(","))
    }

    /// Name of the backend version that answered.
    pub fn version(&self) -> &str {
        self.headers.get("x-echo-version").and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// Protocol of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2 with prior knowledge.
    H2,
}

enum Sender {
    H1(conn::http1::SendRequest<Body>),
    H2(conn::http2::SendRequest<Body>),
}

/// One connection.
pub struct Connection {
    sender: Sender,
    driver: JoinHandle<()>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The connection was gone before the request was written: it may go on another one.
    Unsent,
    /// Anything else.
    Broken(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsent => f.write_str("the connection was closed before the request was sent"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr, protocol: Protocol) -> Result<Self, Failure> {
        let broken = |error: &dyn std::fmt::Display| Failure::Broken(format!("connect: {error}"));
        let stream = TcpStream::connect(address).await.map_err(|error| broken(&error))?;
        let _ = stream.set_nodelay(true);
        Self::over(stream, protocol).await
    }

    /// Begins to speak over a connection that is open.
    pub async fn over<S>(stream: S, protocol: Protocol) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let broken = |error: &dyn std::fmt::Display| Failure::Broken(format!("connect: {error}"));
        let io = TokioIo::new(stream);
        let (sender, driver) = match protocol {
            Protocol::H1 => {
                let (sender, connection) =
                    conn::http1::handshake(io).await.map_err(|error| broken(&error))?;
                (Sender::H1(sender), tokio::spawn(async move { drop(connection.await) }))
            }
            Protocol::H2 => {
                let handshake = conn::http2::handshake(TokioExecutor::new(), io).await;
                let (sender, connection) = handshake.map_err(|error| broken(&error))?;
                (Sender::H2(sender), tokio::spawn(async move { drop(connection.await) }))
            }
        };
        Ok(Self { sender, driver })
    }

    /// Sends one request and reads its whole answer.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Answer, Failure> {
        tokio::time::timeout(ANSWER_WITHIN, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(Failure::Broken(format!("no answer within {ANSWER_WITHIN:?}"))))
    }

    /// Sends one request and waits for the head of its answer; the body comes as it is read.
    pub async fn start(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        let sent = match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await.map_err(|_| Failure::Unsent)?;
                sender.try_send_request(request).await
            }
            Sender::H2(sender) => {
                sender.ready().await.map_err(|_| Failure::Unsent)?;
                sender.try_send_request(request).await
            }
        };
        sent.map_err(|mut failed| match failed.take_message() {
            Some(_) => Failure::Unsent,
            None => Failure::Broken(format!("send: {:?}", failed.into_error())),
        })
    }

    async fn exchange(&mut self, request: Request<Body>) -> Result<Answer, Failure> {
        let (head, body) = self.start(request).await?.into_parts();
        let body =
            body.collect().await.map_err(|error| Failure::Broken(format!("read the body: {error:?}")))?;
        let mut trailers = BTreeMap::new();
        for (name, value) in body.trailers().into_iter().flatten() {
            trailers.insert(name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request without a body, in the form that each protocol wants: a `Host` header, or an authority.
pub fn get(protocol: Protocol, host: &str, path: &str) -> http::request::Builder {
    match protocol {
        Protocol::H1 => Request::builder().uri(path).header("host", host),
        Protocol::H2 => Request::builder().uri(format!("http://{host}{path}")),
    }
}

/// A body in these chunks, of unknown length, with trailers.
pub fn chunked<const N: usize>(chunks: [Vec<u8>; N], trailers: &BTreeMap<String, String>) -> Body {
    let fields = trailers.iter().map(|(name, value)| {
        let name = http::HeaderName::try_from(name).expect("a case's trailer has a name");
        (name, http::HeaderValue::try_from(value).expect("a case's trailer has a value"))
    });
    let fields: HeaderMap = fields.collect();
    let end = (!fields.is_empty()).then(|| Frame::trailers(fields));
    let frames = chunks.into_iter().map(|chunk| Frame::data(Bytes::from(chunk))).chain(end).map(Ok);
    BodyExt::boxed(StreamBody::new(futures::stream::iter(frames.collect::<Vec<_>>())))
}

/// No body.
pub fn empty() -> Body {
    http_body_util::Empty::new().boxed()
}

/// A body of known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).boxed()
}
