//! The HTTP side of every simulator: takes requests, lets the platform answer, and lets the faults spoil the answers.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;

use super::fault::{Fault, Faults};

/// Pieces of an answer on their way.
const PIECES_MAX: usize = 64;

/// A request, whole.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method.
    pub method: Method,
    /// Path, decoded.
    pub path: String,
    /// Query, decoded; of equal names the last counts.
    pub query: BTreeMap<String, String>,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Asked {
    /// A number of the query.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.query.get(name)?.trim_end_matches('s').parse().ok()
    }
}

/// What the platform answers.
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body, or what comes of it.
    pub body: Content,
}

/// The body of an answer.
pub enum Content {
    /// All of it.
    Whole(String),
    /// It comes piece by piece, until the sender is dropped.
    Stream(mpsc::Receiver<String>),
}

impl Reply {
    /// JSON with these headers.
    pub fn json(body: &serde_json::Value, mut headers: Vec<(&'static str, String)>) -> Self {
        headers.push(("content-type", "application/json".into()));
        Self { status: 200, headers, body: Content::Whole(body.to_string()) }
    }

    /// An error in words.
    pub fn error(status: u16, text: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type", "text/plain".into())],
            body: Content::Whole(text.into()),
        }
    }
}

/// A platform, as far as it is simulated.
pub trait Platform: Send + Sync + 'static {
    /// Where the lists are, beside what streams.
    const LISTS: &str;

    /// Answers a request.
    fn answer(self: Arc<Self>, asked: Asked) -> impl Future<Output = Reply> + Send;

    /// A good answer to a path in which there is nothing.
    fn empty(&self, asked: &Asked) -> Reply;

    /// Does what a person typed; what there is to say about it.
    fn command(&self, words: &[&str]) -> Result<String, String>;
}

/// A running simulator. It ends with this value.
pub struct Sim<P> {
    /// The platform.
    pub platform: Arc<P>,
    /// Where it listens.
    pub address: SocketAddr,
    /// What goes wrong.
    pub faults: Faults,
    task: JoinHandle<()>,
}

impl<P: Platform> Sim<P> {
    /// Serves a platform at an address.
    pub async fn start(platform: P, at: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let (platform, faults) = (Arc::new(platform), Faults::default());
        let task = tokio::spawn(serve(listener, platform.clone(), faults.clone()));
        Ok(Self { platform, address, faults, task })
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl<P> Drop for Sim<P> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<P: Platform>(listener: TcpListener, platform: Arc<P>, faults: Faults) {
    // Ends the connections with the simulator.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (platform, faults) = (platform.clone(), faults.clone());
        let service = service_fn(move |request| {
            let (platform, faults) = (platform.clone(), faults.clone());
            async move { respond(platform, faults, request).await }
        });
        connections.spawn(async move {
            // A client that goes away is no error of ours.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Pieces = ReceiverStream<io::Result<Frame<Bytes>>>;

async fn respond<P: Platform>(
    platform: Arc<P>,
    faults: Faults,
    request: Request<Incoming>,
) -> Result<Response<StreamBody<Pieces>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let asked = Asked {
        method: head.method,
        path: decode(head.uri.path()),
        query: head.uri.query().unwrap_or_default().split('&').filter_map(pair).collect(),
        headers: head.headers,
        body: body.collect().await?.to_bytes(),
    };
    faults.hang(&asked.path).await;
    let path = asked.path.clone();
    let fault = faults.of(&path);
    if let Some(Fault::Slow(delay)) = fault {
        tokio::time::sleep(delay).await;
    }
    let reply = match fault {
        Some(Fault::Status(status)) => Reply {
            headers: vec![("x-nomad-index", "1".into())],
            ..Reply::error(status, "no cluster leader")
        },
        Some(Fault::Empty) => platform.empty(&asked),
        Some(Fault::WrongType) => Reply {
            status: 200,
            headers: vec![("content-type", "text/html".into())],
            body: Content::Whole("<html>please log in</html>".into()),
        },
        _ => platform.answer(asked).await,
    };
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::builder().status(status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let (pieces, body) = mpsc::channel(PIECES_MAX);
    tokio::spawn(pump(reply.body, pieces, path, faults));
    let response = response.body(StreamBody::new(ReceiverStream::new(body)));
    Ok(response.expect("the platform's headers are valid"))
}

/// Passes a body on, as the faults of the moment let it.
async fn pump(
    content: Content,
    pieces: mpsc::Sender<io::Result<Frame<Bytes>>>,
    path: String,
    faults: Faults,
) {
    let (whole, mut stream) = match content {
        Content::Whole(text) => (Some(text), None),
        Content::Stream(stream) => (None, Some(stream)),
    };
    let mut cuts = faults.cuts();
    let mut left = match faults.of(&path) {
        Some(Fault::Cut(bytes)) => bytes,
        _ => usize::MAX,
    };
    let mut text = whole;
    loop {
        let piece = match (text.take(), &mut stream) {
            (Some(text), _) => text,
            (None, None) => return,
            (None, Some(stream)) => tokio::select! {
                piece = stream.recv() => match piece { Some(piece) => piece, None => return },
                _ = cuts.changed() => return,
                () = pieces.closed() => return,
            },
        };
        faults.hang(&path).await;
        let size = match faults.of(&path) {
            Some(Fault::Split(size)) => size,
            _ => usize::MAX,
        };
        for part in piece.as_bytes().chunks(size.min(piece.len().max(1))) {
            let part = &part[..part.len().min(left)];
            left -= part.len();
            if pieces.send(Ok(Frame::data(Bytes::copy_from_slice(part)))).await.is_err() {
                return;
            }
            if left == 0 {
                let _ = pieces.send(Err(io::Error::other("cut"))).await;
                return;
            }
        }
    }
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (!name.is_empty()).then(|| (decode(name), decode(value)))
}

fn decode(text: &str) -> String {
    let (mut bytes, text) = (Vec::new(), text.as_bytes());
    let mut at = 0;
    while at < text.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (text[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                at += 3;
            }
            (byte, _) => {
                bytes.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
