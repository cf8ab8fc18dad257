//! The listeners of one worker: accepts connections, tells what they speak, and lets old ones finish when something changes.

pub mod bind;

use std::{collections::HashMap, io, rc::Rc, sync::Arc, time::Duration};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    request,
    router::Router,
    spec::{self, HttpListener, ListenerProtocol, RouteSource, Spec},
    stream::{Ends, Spoken, Stream},
    tcp,
    worker::{ConnectionSlot, LocalExecutor, Worker},
};

/// Pause after an accept that failed for want of something (files, memory), which a retry at once would not find.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that a peer may reset before we answered before its connection is closed (CVE-2023-44487).
const H2_PENDING_RESETS_MAX: usize = 64;
/// Resets of our own making that a peer may provoke.
const H2_LOCAL_RESETS_MAX: usize = 1024;
/// hyper keeps header fields on the stack up to this many.
const HEADERS_ON_STACK: usize = 100;
/// hyper's least read buffer.
const READ_BUFFER_MIN: usize = 8192;

/// What connections of one listener need; a changed listener gets a new one and the old one drains.
pub struct Serving {
    /// The worker.
    pub worker: Rc<Worker>,
    /// The listener, as given.
    pub spec: Arc<spec::Listener>,
    /// Its route table when that is inline.
    pub inline: Option<Rc<Router>>,
    /// The ends of the connection that is served.
    pub ends: Ends,
    drain: CancellationToken,
}

/// The listeners of a worker, by name.
#[derive(Default)]
pub struct Listeners {
    running: HashMap<Arc<str>, Running>,
}

struct Running {
    serving: tokio::sync::watch::Sender<Rc<Serving>>,
    stop: CancellationToken,
}

impl Listeners {
    /// Starts, changes and removes listeners as `spec` says. What cannot be bound is tried again with the next call.
    pub fn apply(&mut self, worker: &Rc<Worker>, spec: &Spec) {
        self.running.retain(|name, running| {
            let old = running.serving.borrow();
            let kept = spec.listeners.get(name).is_some_and(|new| new.address == old.spec.address);
            if !kept {
                running.stop.cancel();
                old.drain.cancel();
                bind::forget(&worker.shared, name);
            }
            kept
        });
        for (name, listener) in &spec.listeners {
            if let Some(running) = self.running.get(name) {
                let old = running.serving.borrow().clone();
                if !Arc::ptr_eq(&old.spec, listener) {
                    running.serving.send_replace(Serving::new(worker, listener));
                    old.drain.cancel();
                }
                continue;
            }
            match bind::bind(&worker.shared, listener) {
                Ok(socket) => {
                    info!(listener = %name, "listening");
                    let (serving, current) = tokio::sync::watch::channel(Serving::new(worker, listener));
                    let stop = CancellationToken::new();
                    worker.tasks.spawn_local(accept(socket, current, stop.clone()));
                    self.running.insert(name.clone(), Running { serving, stop });
                }
                Err(error) => {
                    warn!(listener = %name, address = ?listener.address, %error, "cannot listen; trying again");
                }
            }
        }
    }

    /// Stops accepting and lets connections finish.
    pub fn drain(&mut self) {
        for (_, running) in self.running.drain() {
            running.stop.cancel();
            running.serving.borrow().drain.cancel();
        }
    }
}

impl Serving {
    /// Time without a byte on a stream, where the route says nothing; zero is no limit.
    pub fn stream_idle_timeout(&self) -> Duration {
        match &self.spec.protocol {
            ListenerProtocol::Http(http) => http.stream_idle_timeout,
            ListenerProtocol::Tcp(_) => Duration::ZERO,
        }
    }

    /// Whether doubled slashes in paths become one.
    pub fn merge_slashes(&self) -> bool {
        matches!(&self.spec.protocol, ListenerProtocol::Http(http) if http.merge_slashes)
    }

    /// Protocol upgrades allowed on every route.
    pub fn upgrades(&self) -> &[String] {
        match &self.spec.protocol {
            ListenerProtocol::Http(http) => &http.upgrades,
            ListenerProtocol::Tcp(_) => &[],
        }
    }

    fn new(worker: &Rc<Worker>, spec: &Arc<spec::Listener>) -> Rc<Self> {
        let inline = match &spec.protocol {
            ListenerProtocol::Http(HttpListener { routes: RouteSource::Inline(config), .. }) => {
                Some(Rc::new(Router::new(config.clone())))
            }
            _ => None,
        };
        let (worker, spec, drain) = (worker.clone(), spec.clone(), CancellationToken::new());
        Rc::new(Self { worker, spec, inline, ends: Ends::default(), drain })
    }

    /// The same for one connection.
    fn of(&self, stream: &Stream) -> Rc<Self> {
        let Self { worker, spec, inline, drain, .. } = self;
        let (worker, spec, inline) = (worker.clone(), spec.clone(), inline.clone());
        Rc::new(Self { worker, spec, inline, ends: stream.ends(), drain: drain.clone() })
    }
}

/// Accepts until stopped, whatever an accept answers.
async fn accept(
    socket: bind::Socket,
    serving: tokio::sync::watch::Receiver<Rc<Serving>>,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) if passing(&error) => continue,
            Err(error) => {
                warn!(%error, "cannot accept connections; pausing");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let serving = serving.borrow().clone();
        // Over the limit the connection is closed at once: a caller that is refused quickly can go elsewhere.
        let Some(slot) = ConnectionSlot::take(&serving.worker.shared) else { continue };
        let tasks = serving.worker.tasks.clone();
        tasks.spawn_local(async move {
            let _slot = slot;
            serve(stream, serving).await;
        });
    }
}

/// Whether an accept error concerns one connection only.
fn passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | TimedOut)
}

async fn serve(mut stream: Stream, serving: Rc<Serving>) {
    let serving = serving.of(&stream);
    let spec = serving.spec.clone();
    let http = match &spec.protocol {
        ListenerProtocol::Tcp(tcp) => return tcp::relay(stream, &serving, tcp).await,
        ListenerProtocol::Http(http) => http,
    };
    let spoken = tokio::select! {
        spoken = tokio::time::timeout(spec.idle_timeout, stream.sniff()) => spoken,
        () = serving.drain.cancelled() => return, // Nothing was asked yet.
    };
    let result = match spoken {
        Ok(Ok(Spoken::Http1)) => Box::pin(serve_http1(stream, &serving, http)).await,
        Ok(Ok(Spoken::Http2)) => Box::pin(serve_http2(stream, &serving, http)).await,
        Ok(Err(_)) | Err(_) => return,
    };
    if let Err(error) = result {
        debug!(%error, "downstream connection ended");
    }
}

async fn serve_http1(stream: Stream, serving: &Rc<Serving>, http: &HttpListener) -> hyper::Result<()> {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(serving.spec.idle_timeout)
        .max_buf_size(http.headers_bytes_max.max(READ_BUFFER_MIN))
        .pipeline_flush(true)
        .auto_date_header(false);
    if http.headers_count_max != HEADERS_ON_STACK {
        builder.max_headers(http.headers_count_max);
    }
    let service = service_fn(|request| request::serve(serving.clone(), request));
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = serving.drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn serve_http2(stream: Stream, serving: &Rc<Serving>, http: &HttpListener) -> hyper::Result<()> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(http.h2_concurrent_streams_max)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(http.headers_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(H2_LOCAL_RESETS_MAX)
        .auto_date_header(false);
    let service = service_fn(|request| request::serve(serving.clone(), request));
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = serving.drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
