//! Connections to one endpoint: HTTP/1.1 ones last in first out, HTTP/2 ones shared.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::future::Either;
use http::{Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpSocket, TcpStream, UnixStream},
    sync::{Notify, Semaphore},
    time::Instant,
};

pub use crate::http2::client::Failed;

use super::{Counted, Counters, Host, Link, keepalive};
use crate::{
    body::{Incoming, RequestBody},
    fault::{Cause, Fault},
    http2::client,
    spec::EndpointAddress,
    stream::Stream,
    tls::{
        self, Outcome as Handshake, Side,
        client::{ClientContext, Purpose},
    },
};

/// Most idle HTTP/1.1 connections to one endpoint on one worker.
pub const IDLE_MAX: usize = 512;

/// Streams of an HTTP/2 connection before another one is opened.
pub const H2_STREAMS_MAX: u32 = 100;

/// How often a request that waits for a connection looks whether another worker or endpoint has left it one.
const WAIT_TICK: Duration = Duration::from_millis(10);

/// How long a connection may take to become ready again after its response ended (the request may still be sending).
const READY_TIMEOUT: Duration = Duration::from_secs(5);

type Http1 = http1::SendRequest<RequestBody>;

/// Connections to one endpoint on one worker.
#[derive(Debug)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Shared>>>,
    /// One at a time opens an HTTP/2 connection; the others then share it.
    connecting: Semaphore,
    /// Whether the endpoint speaks HTTP/2, where that is agreed on and known.
    agreed: Cell<Option<bool>>,
    /// Told when a connection is idle again or closed.
    freed: Notify,
    open: Cell<u32>,
    active: Cell<u32>,
}

/// An open connection, counted until dropped.
#[derive(Debug)]
pub struct Opened {
    pool: Rc<Pool>,
    _counted: Counted,
}

impl Opened {
    /// Within the cluster's limit; the first connection to an endpoint is always allowed, so that a limit cannot starve it.
    fn new(host: &Host, counters: &Arc<Counters>) -> Option<Self> {
        let pool = &host.pool;
        let counted = if pool.open.get() == 0 {
            Counted::always(counters, |c| &c.connections)
        } else {
            Counted::new(counters, |c| &c.connections, host.cluster.limits.connections_max)?
        };
        pool.open.set(pool.open.get() + 1);
        counters.used.store(true, Relaxed);
        Some(Self { pool: pool.clone(), _counted: counted })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.pool.open.set(self.pool.open.get() - 1);
        self.pool.freed.notify_one();
    }
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// An HTTP/1.1 connection that no request has.
#[derive(Debug)]
struct Connection {
    sender: Http1,
    /// Requests that it had.
    served: u32,
    opened: Instant,
    /// Our address on it.
    local: Option<SocketAddr>,
}

#[derive(Debug)]
struct Shared {
    connection: client::Connection,
    streams: Cell<u32>,
    served: Cell<u32>,
    since: Cell<Instant>,
    opened: Instant,
    local: Option<SocketAddr>,
}

/// A connection or stream in use. Dropping it closes an HTTP/1.1 connection; giving it back keeps it.
#[derive(Debug)]
pub struct Lease {
    host: Rc<Host>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// None before the response has come.
    Http1(Option<Connection>),
    Http2(Rc<Shared>),
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle: RefCell::default(),
            shared: RefCell::default(),
            connecting: Semaphore::new(1),
            agreed: Cell::new(None),
            freed: Notify::new(),
            open: Cell::new(0),
            active: Cell::new(0),
        }
    }
}

impl Pool {
    /// Requests under way.
    pub fn active(&self) -> u32 {
        self.active.get()
    }

    /// Closes what idled longer than `idle_timeout`, has come to `age_max` or was closed by its peer.
    pub fn sweep(&self, now: Instant, idle_timeout: Duration, age_max: Option<Duration>) {
        let fresh = |since: Instant| now.saturating_duration_since(since) < idle_timeout;
        let mut idle = self.idle.borrow_mut();
        idle.retain(|Idle { connection, since }| {
            !connection.sender.is_closed() && fresh(*since) && !aged(connection.opened, now, age_max)
        });
        if idle.is_empty() {
            idle.shrink_to_fit();
        }
        self.shared.borrow_mut().retain(|shared| {
            !shared.connection.is_closed()
                && !aged(shared.opened, now, age_max)
                && (shared.streams.get() > 0 || fresh(shared.since.get()))
        });
    }

    fn take_idle(&self, age_max: Option<Duration>) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, .. }) = idle.pop() {
            if connection.sender.is_ready() && !old(connection.opened, age_max) {
                return Some(connection);
            }
        }
        None
    }

    /// The one with the fewest streams, however many these are.
    fn least_shared(&self) -> Option<Rc<Shared>> {
        let shared = self.shared.borrow();
        let open = shared.iter().filter(|shared| !shared.connection.is_closed());
        open.min_by_key(|shared| shared.streams.get()).cloned()
    }

    /// What has had its requests or its time leaves the pool, and closes with its last stream.
    fn take_shared(&self, requests_max: u32, age_max: Option<Duration>) -> Option<Rc<Shared>> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| {
            !shared.connection.is_closed()
                && (requests_max == 0 || shared.served.get() < requests_max)
                && !old(shared.opened, age_max)
        });
        let free =
            |shared: &&Rc<Shared>| shared.streams.get() < H2_STREAMS_MAX.min(shared.connection.streams_max());
        shared.iter().find(free).cloned()
    }
}

impl Host {
    /// Sends a request over a pooled or new connection. The response's body must be read before the lease is given back.
    pub fn send(
        self: &Rc<Self>,
        counters: &Arc<Counters>,
        http2: bool,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<(Response<Incoming>, Lease), Failed>> {
        if http2 {
            Either::Left(self.send_http2(counters, request))
        } else {
            Either::Right(self.send_http1(counters, request))
        }
    }

    async fn send_http1(
        self: &Rc<Self>,
        counters: &Arc<Counters>,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        loop {
            let pooled = self.pool.take_idle(self.cluster.connection_age_max);
            let fresh = pooled.is_none();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => match Box::pin(self.open_http1(counters)).await {
                    Ok(opened) => opened,
                    Err(fault) => return Err(Failed { fault, unsent: Some(request) }),
                },
            };
            connection.served += 1;
            let mut lease = self.lease(Kind::Http1(None));
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    lease.kind = Kind::Http1(Some(connection));
                    return Ok((response.map(Incoming::Http1), lease));
                }
                Err(mut error) => match error.take_message() {
                    // A pooled connection that closed under us, before any byte: as if it had never been pooled.
                    Some(unsent) if !fresh => request = unsent,
                    unsent => return Err(Failed { fault: Cause::UpstreamClosed.into(), unsent }),
                },
            }
        }
    }

    async fn send_http2(
        self: &Rc<Self>,
        counters: &Arc<Counters>,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        loop {
            let (shared, fresh) = match self.take_shared() {
                Some(shared) => (shared, false),
                None => match Box::pin(self.connect_http2(counters)).await {
                    Ok(shared) => (shared, true),
                    Err(fault) => return Err(Failed { fault, unsent: Some(request) }),
                },
            };
            shared.streams.set(shared.streams.get() + 1);
            shared.served.set(shared.served.get() + 1);
            let lease = self.lease(Kind::Http2(shared.clone()));
            match shared.connection.send(request).await {
                Ok(response) => return Ok((response, lease)),
                Err(Failed { unsent: Some(unsent), .. }) if !fresh => request = unsent,
                Err(failed) => return Err(failed),
            }
        }
    }

    /// A new connection or, where the limit allows none, the next that becomes idle.
    async fn open_http1(&self, counters: &Arc<Counters>) -> Result<Connection, Fault> {
        let mut waiting = None;
        loop {
            match self.connect_http1(counters).await {
                Err(fault) if fault.cause == Cause::Overflow => {}
                result => return result,
            }
            if waiting.is_none() {
                let place = Counted::new(counters, |c| &c.pending, self.cluster.limits.pending_max);
                waiting = Some(place.ok_or(Fault::from(Cause::Overflow))?);
            }
            // The caller's deadline ends the wait.
            let _ = tokio::time::timeout(WAIT_TICK, self.pool.freed.notified()).await;
            if let Some(connection) = self.pool.take_idle(self.cluster.connection_age_max) {
                return Ok(connection);
            }
        }
    }

    async fn connect_http1(&self, counters: &Arc<Counters>) -> Result<Connection, Fault> {
        let (stream, opened) = self.connect(counters, Purpose::Http1).await?;
        start_http1(stream, opened).await
    }

    async fn connect_http2(&self, counters: &Arc<Counters>) -> Result<Rc<Shared>, Fault> {
        let _turn = self.pool.connecting.acquire().await.map_err(|_| Fault::from(Cause::ConnectFailed))?;
        if let Some(shared) = self.take_shared() {
            return Ok(shared);
        }
        let (stream, opened) = match self.connect(counters, Purpose::Http2).await {
            // At the limit an open connection takes more streams than it should rather than none.
            Err(fault) if fault.cause == Cause::Overflow => return self.pool.least_shared().ok_or(fault),
            result => result?,
        };
        Ok(self.start_http2(stream, opened))
    }

    fn start_http2(&self, stream: Stream, opened: Opened) -> Rc<Shared> {
        let local = stream.ends().local;
        let connection = client::Connection::open(stream, opened);
        let shared = Rc::new(Shared {
            connection,
            streams: Cell::new(0),
            served: Cell::new(0),
            since: Cell::new(Instant::now()),
            opened: Instant::now(),
            local,
        });
        self.pool.shared.borrow_mut().push(shared.clone());
        shared
    }

    /// Whether HTTP/2 is spoken with an endpoint that tells by ALPN. The first connection learns it, and is kept.
    pub async fn agree(self: &Rc<Self>, counters: &Arc<Counters>) -> Result<bool, Fault> {
        if let Some(known) = self.pool.agreed.get() {
            return Ok(known);
        }
        let _turn = self.pool.connecting.acquire().await.map_err(|_| Fault::from(Cause::ConnectFailed))?;
        if let Some(known) = self.pool.agreed.get() {
            return Ok(known);
        }
        let (stream, opened) = self.connect(counters, Purpose::Http).await?;
        let http2 = stream.alpn() == Some(b"h2");
        if http2 {
            self.start_http2(stream, opened);
        } else {
            let connection = start_http1(stream, opened).await?;
            keep(&self.pool, connection);
        }
        self.pool.agreed.set(Some(http2));
        Ok(http2)
    }

    /// Opens a connection within the cluster's limit and timeout, TLS included.
    pub async fn connect(
        &self,
        counters: &Arc<Counters>,
        purpose: Purpose,
    ) -> Result<(Stream, Opened), Fault> {
        let opened = Opened::new(self, counters).ok_or(Fault::from(Cause::Overflow))?;
        let opening = async {
            let stream = match &self.spec.address {
                EndpointAddress::Tcp(address) => {
                    let stream = match self.cluster.source {
                        None => TcpStream::connect(address).await?,
                        Some(source) => connect_from(source, *address).await?,
                    };
                    stream.set_nodelay(true)?;
                    if let Some(keepalive) = &self.cluster.keepalive {
                        keepalive::set(&stream, keepalive)?;
                    }
                    Stream::from(stream)
                }
                EndpointAddress::Unix(path) => UnixStream::connect(path).await.map(Stream::from)?,
                // Names are resolved before they become endpoints of a worker; one that is left has no address yet.
                EndpointAddress::Name(..) => return Err(std::io::ErrorKind::AddrNotAvailable.into()),
            };
            match &self.link {
                Link::Plain => Ok(stream),
                Link::Tls(context) => Box::pin(self.secure(context, stream, purpose)).await,
                Link::Incomplete => {
                    tls::count(Side::Upstream, Handshake::NoSecret);
                    Err(std::io::ErrorKind::NotConnected.into())
                }
            }
        };
        match tokio::time::timeout(self.cluster.connect_timeout, opening).await {
            Ok(Ok(stream)) => Ok((stream, opened)),
            Ok(Err(_)) => Err(Cause::ConnectFailed.into()),
            Err(_) => {
                if matches!(self.link, Link::Tls(_)) {
                    tls::count(Side::Upstream, Handshake::Timeout);
                }
                Err(Cause::ConnectTimeout.into())
            }
        }
    }

    async fn secure(
        &self,
        context: &ClientContext,
        stream: Stream,
        purpose: Purpose,
    ) -> std::io::Result<Stream> {
        let name = context.name(&self.spec.address, &self.spec.hostname);
        let shaken = context.connect(stream, name, purpose).await;
        let outcome = shaken.as_ref().map_or_else(|outcome| *outcome, |_| Handshake::Done);
        tls::count(Side::Upstream, outcome);
        shaken.map(|(stream, _)| stream).map_err(|outcome| {
            // It may speak another version since; the next connection asks again.
            self.pool.agreed.set(None);
            tracing::debug!(endpoint = %self.spec.address, cluster = %self.cluster.name, ?outcome, "TLS failed");
            std::io::ErrorKind::ConnectionRefused.into()
        })
    }

    fn take_shared(&self) -> Option<Rc<Shared>> {
        self.pool.take_shared(self.lifetime_requests(), self.cluster.connection_age_max)
    }

    fn lifetime_requests(&self) -> u32 {
        self.cluster.limits.requests_per_connection_max
    }

    fn lease(self: &Rc<Self>, kind: Kind) -> Lease {
        self.pool.active.set(self.pool.active.get() + 1);
        Lease { host: self.clone(), kind }
    }
}

impl Lease {
    /// Our address on the connection.
    pub fn local(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Http1(connection) => connection.as_ref()?.local,
            Kind::Http2(shared) => shared.local,
        }
    }

    /// The response has been read to its end: keeps the connection for the next request.
    pub fn give_back(mut self) {
        let Kind::Http1(connection) = &mut self.kind else { return };
        let Some(mut connection) = connection.take() else { return };
        let max = self.host.lifetime_requests();
        let used_up = (max > 0 && connection.served >= max)
            || old(connection.opened, self.host.cluster.connection_age_max);
        if connection.sender.is_closed() || used_up {
            return;
        }
        let pool = self.host.pool.clone();
        if connection.sender.is_ready() {
            keep(&pool, connection);
            return;
        }
        // The response overtook the end of the request, or the connection has not been polled since.
        tokio::task::spawn_local(async move {
            if let Ok(Ok(())) = tokio::time::timeout(READY_TIMEOUT, connection.sender.ready()).await {
                keep(&pool, connection);
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let active = &self.host.pool.active;
        active.set(active.get() - 1);
        if let Kind::Http2(shared) = &self.kind {
            shared.streams.set(shared.streams.get() - 1);
            if shared.streams.get() == 0 {
                shared.since.set(Instant::now());
            }
        }
    }
}

async fn start_http1(stream: Stream, opened: Opened) -> Result<Connection, Fault> {
    let local = stream.ends().local;
    let (sender, connection) = http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Fault::from(Cause::ConnectFailed))?;
    tokio::task::spawn_local(async move {
        let _opened = opened;
        let _ = connection.with_upgrades().await; // Errors reach the request that they concern.
    });
    Ok(Connection { sender, served: 0, opened: Instant::now(), local })
}

fn keep(pool: &Pool, connection: Connection) {
    let mut idle = pool.idle.borrow_mut();
    if idle.len() < IDLE_MAX {
        idle.push(Idle { connection, since: Instant::now() });
        pool.freed.notify_one();
    }
}

/// Connects from one address of ours.
async fn connect_from(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(to).await
}

/// Whether a connection has had its time. Reads the clock only where there is a limit.
fn old(opened: Instant, age_max: Option<Duration>) -> bool {
    age_max.is_some() && aged(opened, Instant::now(), age_max)
}

fn aged(opened: Instant, now: Instant, age_max: Option<Duration>) -> bool {
    age_max.is_some_and(|max| now.saturating_duration_since(opened) >= max)
}
