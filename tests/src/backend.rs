//! What is behind the proxies: HTTP/1.1 and HTTP/2 servers that answer with what they saw and fail on request, and a
//! TCP echo. A request scripts its own answer with `x-echo-*` headers.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener},
    sync::watch,
    task::JoinSet,
};

/// What a backend saw of one request, and who it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Service that the backend stands for.
    pub service: String,
    /// Its version label.
    pub version: String,
    /// Request method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `Host` or `:authority`.
    pub host: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// Header values by name.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Bytes in the request's body.
    pub body_bytes: usize,
    /// Trailer values by name.
    pub trailers: BTreeMap<String, String>,
    /// Whether all of it has come.
    #[serde(default)]
    pub whole: bool,
}

/// Attempts by request id (`x-echo-id`), over all backends that share the count.
#[derive(Clone, Default)]
pub struct Attempts(Arc<Mutex<HashMap<String, Vec<Seen>>>>);

impl Attempts {
    /// How often a request with this id arrived.
    pub fn of(&self, id: &str) -> u32 {
        self.seen(id).len() as u32
    }

    /// What arrived with this id, in order.
    pub fn seen(&self, id: &str) -> Vec<Seen> {
        self.0.lock().expect("no holder panics").get(id).cloned().unwrap_or_default()
    }

    /// Counts an arrival; which one it is, from 1.
    fn arrived(&self, id: &str, seen: &Seen) -> u32 {
        let mut all = self.0.lock().expect("no holder panics");
        let seen_so_far = all.entry(id.to_owned()).or_default();
        seen_so_far.push(seen.clone());
        seen_so_far.len() as u32
    }

    /// The body of an arrival came, too.
    fn whole(&self, id: &str, attempt: u32, seen: &Seen) {
        let mut all = self.0.lock().expect("no holder panics");
        if let Some(slot) = all.get_mut(id).and_then(|seen| seen.get_mut(attempt as usize - 1)) {
            slot.clone_from(seen);
            slot.whole = true;
        }
    }
}

/// What a backend answers with.
type Content = BoxBody<Bytes, hyper::Error>;

/// A running backend; stops when dropped.
pub struct Backend {
    /// Where it listens; no address of a unix socket.
    pub address: SocketAddr,
    tasks: JoinSet<()>,
    finish: watch::Sender<bool>,
}

impl Backend {
    /// Serves HTTP/1.1 and HTTP/2 as one version of a service.
    pub async fn http(service: &str, version: &str, attempts: Attempts) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        Self::http_at(listener, service, version, attempts)
    }

    /// The same where a listener is.
    pub fn http_at(listener: TcpListener, service: &str, version: &str, attempts: Attempts) -> Self {
        let who = Arc::new((service.to_owned(), version.to_owned(), attempts));
        Self::serve(listener, move |stream, finish| http_connection(stream, who.clone(), finish))
    }

    /// Serves TCP: greets with the version and a line feed, then echoes every byte.
    pub async fn tcp(version: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        Self::tcp_at(listener, version)
    }

    /// The same on a unix socket.
    pub fn unix(path: &Path, version: &str) -> Self {
        let listener = UnixListener::bind(path).expect("the socket can be made");
        let greeting = format!("{version}\n");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(tcp_connection(stream, greeting.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address: SocketAddr::from(([0, 0, 0, 0], 0)), tasks, finish: watch::Sender::new(false) }
    }

    /// The same where a listener is.
    pub fn tcp_at(listener: TcpListener, version: &str) -> Self {
        let greeting = format!("{version}\n");
        Self::serve(listener, move |stream, _| tcp_connection(stream, greeting.clone()))
    }

    /// Serves gRPC: answers every call with its version.
    pub async fn grpc(version: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let version: Arc<str> = version.into();
        Self::serve(listener, move |stream, _| grpc_connection(stream, version.clone()))
    }

    /// Ends as a server does that is asked to: takes no new connection, finishes what is asked on the others and closes them.
    pub async fn finish(mut self) {
        self.finish.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    fn serve<F>(
        listener: TcpListener,
        handle: impl Fn(TcpStream, watch::Receiver<bool>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().expect("a bound socket has an address");
        let (finish, finishing) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let mut end = finishing.clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = end.wait_for(|finish| *finish) => break,
                };
                let Ok((stream, _)) = accepted else { break };
                connections.spawn(handle(stream, finishing.clone()));
                while connections.try_join_next().is_some() {}
            }
            drop(listener);
            while connections.join_next().await.is_some() {}
        });
        Self { address, tasks, finish }
    }
}

async fn tcp_connection(stream: impl AsyncRead + AsyncWrite, greeting: String) {
    let (mut read, mut write) = tokio::io::split(stream);
    if write.write_all(greeting.as_bytes()).await.is_ok()
        && tokio::io::copy(&mut read, &mut write).await.is_ok()
    {
        let _ = write.shutdown().await;
    }
}

async fn grpc_connection(stream: TcpStream, version: Arc<str>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let version = version.clone();
        async move {
            request.into_body().collect().await.map_err(|_| "the call broke off")?;
            // Not compressed, and its length (gRPC over HTTP/2, Length-Prefixed-Message).
            let mut message = vec![0];
            message.extend((version.len() as u32).to_be_bytes());
            message.extend(version.as_bytes());
            let body = with_trailers(message.into(), trailer("grpc-status: 0")?);
            Response::builder()
                .header("content-type", "application/grpc")
                .body(body)
                .map_err(|_| "a fixed head is HTTP")
        }
    });
    let io = TokioIo::new(stream);
    let _ =
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
}

async fn http_connection(
    stream: TcpStream,
    who: Arc<(String, String, Attempts)>,
    mut finish: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let mut start = [0; 3];
    loop {
        let peeked = tokio::select! {
            peeked = stream.peek(&mut start) => peeked,
            // Nothing was asked yet.
            _ = finish.wait_for(|finish| *finish) => return,
        };
        let Ok(n) = peeked else { break };
        if n == 0 {
            return;
        }
        if n == start.len() || !b"PRI".starts_with(&start[..n]) {
            break;
        }
    }
    let service = service_fn(move |request| answer(request, who.clone()));
    let io = TokioIo::new(stream);
    // An error here is a scripted close, or the peer's.
    if &start == b"PRI" {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let mut connection = std::pin::pin!(server.serve_connection(io, service));
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = finish.wait_for(|finish| *finish) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let server = hyper::server::conn::http1::Builder::new();
        let mut connection = std::pin::pin!(server.serve_connection(io, service).with_upgrades());
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = finish.wait_for(|finish| *finish) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

async fn answer(
    request: Request<Incoming>,
    who: Arc<(String, String, Attempts)>,
) -> Result<Response<Content>, &'static str> {
    if request.headers().get("upgrade").is_some_and(|protocol| protocol == "websocket") {
        return upgraded(request);
    }
    let (service, version, attempts) = &*who;
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
    let mut seen = Seen {
        service: service.clone(),
        version: version.clone(),
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        host: text("host")
            .map(str::to_owned)
            .unwrap_or_else(|| head.uri.authority().map(ToString::to_string).unwrap_or_default()),
        protocol: format!("{:?}", head.version),
        headers: values(&head.headers),
        ..Seen::default()
    };
    let id = text("x-echo-id");
    let attempt = id.map_or(1, |id| attempts.arrived(id, &seen));
    if let Some(delay) = number("x-echo-delay-ms") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let failing = number("x-echo-fail-first").is_none_or(|first| u64::from(attempt) <= first)
        && text("x-echo-only").is_none_or(|only| only == version);
    if text("x-echo-close").is_some() && failing {
        // With bytes left unread it would be chance how many of them were still taken.
        let _ = body.collect().await;
        return Err("scripted close before the answer");
    }
    let status = match number("x-echo-status") {
        Some(status) if failing => status as u16,
        _ => 200,
    };
    let trailer = text("x-echo-trailer").map(trailer).transpose()?;
    if text("x-echo-stream").is_some() {
        return Ok(Response::new(streamed(body, trailer)));
    }
    let body = body.collect().await.map_err(|_| "the request's body broke off")?;
    if let Some(trailers) = body.trailers() {
        seen.trailers = values(trailers).into_iter().map(|(k, v)| (k, v.join(","))).collect();
    }
    seen.body_bytes = body.to_bytes().len();
    if let Some(id) = id {
        attempts.whole(id, attempt, &seen);
    }
    let content = match number("x-echo-size") {
        Some(_) if head.method == http::Method::HEAD => Bytes::new(),
        Some(size) => Bytes::from(vec![b'w'; size as usize]),
        None => serde_json::to_vec(&seen).expect("plain values serialise").into(),
    };
    let mut response = Response::builder()
        .status(status)
        .header("x-echo-service", service)
        .header("x-echo-version", version);
    let lines = head.headers.get_all("x-echo-header").iter().filter_map(|line| line.to_str().ok());
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        response = response.header(name.trim(), value.trim());
    }
    if let (true, Some(size)) = (head.method == http::Method::HEAD, text("x-echo-size")) {
        response = response.header("content-length", size);
    }
    let body = match trailer {
        Some(trailers) => with_trailers(content, trailers),
        None => Full::new(content).map_err(|never| match never {}).boxed(),
    };
    response.body(body).map_err(|_| "the scripted answer is no HTTP")
}

/// `name: value`.
fn trailer(line: &str) -> Result<HeaderMap, &'static str> {
    let (name, value) = line.split_once(':').ok_or("a trailer has no colon")?;
    let mut trailers = HeaderMap::new();
    trailers.insert(
        HeaderName::try_from(name.trim()).map_err(|_| "bad trailer name")?,
        HeaderValue::try_from(value.trim()).map_err(|_| "bad trailer value")?,
    );
    Ok(trailers)
}

fn with_trailers(content: Bytes, trailers: HeaderMap) -> Content {
    let frames = [Ok(Frame::data(content)), Ok(Frame::trailers(trailers))];
    BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)))
}

/// The request's body as it comes, and a trailer.
fn streamed(body: Incoming, trailer: Option<HeaderMap>) -> Content {
    let data = BodyStream::new(body).filter(|frame| {
        let passes = frame.as_ref().map_or(true, Frame::is_data);
        std::future::ready(passes)
    });
    let end = futures::stream::iter(trailer.map(|trailer| Ok(Frame::trailers(trailer))));
    BodyExt::boxed(StreamBody::new(data.chain(end)))
}

/// Agrees to a WebSocket and echoes every byte of it. The key comes back as it was.
fn upgraded(request: Request<Incoming>) -> Result<Response<Content>, &'static str> {
    let key = request.headers().get("sec-websocket-key").cloned().ok_or("a WebSocket has a key")?;
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        if tokio::io::copy(&mut read, &mut write).await.is_ok() {
            let _ = write.shutdown().await;
        }
    });
    let response =
        Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
    let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
    response.header("sec-websocket-accept", key).body(body).map_err(|_| "a key is a header's value")
}

fn values(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<_, Vec<String>>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        found.entry(name.to_string()).or_default().push(value);
    }
    found
}

/// Reads a greeting line from a TCP backend, sends `text` and returns what came: greeting and echo.
pub async fn tcp_exchange(address: SocketAddr, text: &str) -> std::io::Result<(String, String)> {
    exchange(TcpStream::connect(address).await?, text).await
}

/// The same over any connection.
pub async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    text: &str,
) -> std::io::Result<(String, String)> {
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut all = String::new();
    stream.read_to_string(&mut all).await?;
    let (greeting, echo) = all.split_once('\n').unwrap_or((&all, ""));
    Ok((greeting.to_owned(), echo.to_owned()))
}
