//! One check of one endpoint: connects, asks, and tells what was found. Every check has a connection of its own, so that
//! it also finds an endpoint that takes no more of them.

use std::{future::Future, io, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cluster::{Link, check::Finding},
    spec::{EndpointAddress, GrpcProbe, HttpProbe, Probe, TcpProbe},
    stream::Stream,
    tls::client::Purpose,
};

/// Who we say we are.
const USER_AGENT: HeaderValue = HeaderValue::from_static("weft-health-check");
/// Most bytes that are read of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `HealthCheckResponse.SERVING`.
const SERVING: i32 = 1;

/// Where and how an endpoint is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Door {
    /// Where checks go.
    pub(super) address: EndpointAddress,
    /// Its host name, for TLS.
    pub(super) hostname: Arc<str>,
    /// What it wants HTTP and gRPC to ask for.
    pub(super) host: Option<HeaderValue>,
}

/// Asks an endpoint once.
pub(super) async fn ask(probe: &Probe, door: &Door, link: &Link) -> Finding {
    let host = door.host.as_ref();
    let purpose = match probe {
        Probe::Http(probe) if !probe.http2 => Purpose::Http1,
        Probe::Http(_) | Probe::Grpc(_) => Purpose::Http2,
        Probe::Tcp(_) => Purpose::Tcp,
    };
    let found = async {
        let stream = connect(&door.address).await.map_err(|_| Finding::Unanswered)?;
        let stream = match link {
            Link::Plain => stream,
            Link::Tls(context) => {
                let name = context.name(&door.address, &door.hostname);
                context.connect(stream, name, purpose).await.map_err(|_| Finding::Unanswered)?.0
            }
            Link::Incomplete => return Err(Finding::Unanswered),
        };
        match probe {
            Probe::Http(probe) => http(probe, stream, host.unwrap_or(&probe.host)).await,
            Probe::Tcp(probe) => tcp(probe, stream).await.map_err(|_| Finding::Unanswered),
            Probe::Grpc(probe) => grpc(probe, stream, host.unwrap_or(&probe.authority)).await,
        }
    };
    found.await.err().unwrap_or(Finding::Passed)
}

async fn connect(address: &EndpointAddress) -> io::Result<Stream> {
    match address {
        EndpointAddress::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(stream.into())
        }
        EndpointAddress::Unix(path) => UnixStream::connect(path).await.map(Stream::from),
        EndpointAddress::Name(..) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

async fn tcp(probe: &TcpProbe, mut stream: Stream) -> io::Result<()> {
    if !probe.send.is_empty() {
        stream.write_all(&probe.send).await?;
    }
    let mut seen = BytesMut::new();
    for wanted in &probe.receive {
        loop {
            if let Some(at) = seen.windows(wanted.len()).position(|window| window == wanted) {
                seen.advance(at + wanted.len());
                break;
            }
            if seen.len() > ANSWER_BYTES_MAX || stream.read_buf(&mut seen).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}

async fn http(probe: &HttpProbe, stream: Stream, host: &HeaderValue) -> Result<(), Finding> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = probe.method.clone();
    *request.uri_mut() = probe.path.clone();
    *request.headers_mut() = probe.headers.clone();
    request.headers_mut().entry(header::USER_AGENT).or_insert(USER_AGENT);
    let status = if probe.http2 {
        *request.uri_mut() = absolute(&probe.path, host)?;
        over_http2(stream, request).await?.0.status()
    } else {
        request.headers_mut().insert(header::HOST, host.clone());
        over_http1(stream, request).await?
    };
    let within =
        |ranges: &[std::ops::Range<u16>]| ranges.iter().any(|range| range.contains(&status.as_u16()));
    match (within(&probe.expected), within(&probe.retriable)) {
        (true, _) => Ok(()),
        (false, true) => Err(Finding::Unanswered),
        (false, false) => Err(Finding::Failed),
    }
}

async fn grpc(probe: &GrpcProbe, stream: Stream, authority: &HeaderValue) -> Result<(), Finding> {
    let message = HealthRequest { service: probe.service.to_string() }.encode_to_vec();
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    let path = Uri::from_static("/grpc.health.v1.Health/Check");
    let mut request = Request::new(Full::new(frame.freeze()));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = absolute(&path, authority)?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::USER_AGENT, USER_AGENT);
    let (response, _connection) = over_http2(stream, request).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| Finding::Unanswered)?;
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
    let status = status.or_else(|| head.headers.get("grpc-status").cloned());
    let good = head.status == StatusCode::OK && status.is_some_and(|status| status == "0");
    match body.to_bytes().get(5..).map(HealthResponse::decode) {
        Some(Ok(HealthResponse { status: SERVING })) if good => Ok(()),
        _ => Err(Finding::Failed),
    }
}

async fn over_http1(stream: Stream, request: Request<Empty<Bytes>>) -> Result<StatusCode, Finding> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_| Finding::Unanswered)?;
    let _connection = beside(async { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(|_| Finding::Unanswered)?;
    Ok(response.status())
}

/// The response, and the connection that it comes over, which ends when that is dropped.
async fn over_http2<B>(
    stream: Stream,
    request: Request<B>,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), Finding>
where
    B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
{
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|_| Finding::Unanswered)?;
    let connection = beside(async { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(|_| Finding::Unanswered)?;
    Ok((response, connection))
}

fn beside(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// A path with the scheme and authority that HTTP/2 wants.
fn absolute(path: &Uri, authority: &HeaderValue) -> Result<Uri, Finding> {
    let path = path.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").authority(authority.as_bytes()).path_and_query(path);
    uri.build().map_err(|_| Finding::Failed)
}

#[cfg(test)]
mod tests;
