//! One connection of the port for proxies and adapters: counted, given up when its peer takes nothing, and cut by whoever
//! finds that its peer is dead. HTTP/2 keepalive alone does not end a connection to which nothing can be written, since it
//! waits to say goodbye; and nothing but the connection can be ended while a stream in it waits for a peer to read.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::identity::access::Caller;

/// Connections at once; a proxy and an adapter have one each.
pub const CONNECTIONS_MAX: usize = 16_384;

/// How long a peer may take nothing of what waits for it, on a connection or a registry stream.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after a connection could not be accepted: the system lacks something that it needs time to get.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end, for those who serve a request of the connection.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its address; none where the transport has none.
    pub address: Option<SocketAddr>,
    /// Who it proved to be.
    pub caller: Caller,
    cut: CancellationToken,
}

impl PeerInfo {
    /// Ends the connection with all of its streams, at once and without a word.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

/// One connection.
pub struct Peer<T> {
    inner: T,
    info: PeerInfo,
    is_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Ends with the certificate that was shown: who has a new one comes back with it.
    proof_ends: Option<Pin<Box<Sleep>>>,
    /// Set while something waits to be written; when it ends the peer is given up.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl<T> Peer<T> {
    fn new(inner: T, address: Option<SocketAddr>, caller: Caller, place: OwnedSemaphorePermit) -> Self {
        let proof_ends = match &caller {
            Caller::Proven { expires, .. } => {
                let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
                Some(Box::pin(sleep(left)))
            }
            Caller::Unasked | Caller::Unproven => None,
        };
        let info = PeerInfo { address, caller, cut: CancellationToken::new() };
        let is_cut = Box::pin(info.cut.clone().cancelled_owned());
        Self { inner, info, is_cut, proof_ends, stalled: None, _place: place }
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.proof_ends.as_mut().is_some_and(|ends| ends.as_mut().poll(cx).is_ready()) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer's certificate has expired",
            ));
        }
        match self.is_cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the peer was given up")),
            Poll::Pending => Ok(()),
        }
    }

    /// Passes on what came of writing, and gives up after too much waiting.
    fn watch<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timer = || Box::pin(sleep_until(Instant::now() + STALL_TIMEOUT));
        ready!(self.stalled.get_or_insert_with(timer).as_mut().poll(cx));
        metrics::counter!("weft_xds_stalled_total", "what" => "connection").increment(1);
        tracing::warn!(peer = ?self.info.address, "peer takes nothing; connection closed");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T> fmt::Debug for Peer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("info", &self.info).finish_non_exhaustive()
    }
}

impl<T> Connected for Peer<T> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Peer<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Peer<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, shut)
    }
}

/// The places that connections take, each until it ends.
#[derive(Clone, Debug)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CONNECTIONS_MAX)))
    }
}

impl Places {
    /// Connections open now.
    pub fn open(&self) -> usize {
        CONNECTIONS_MAX - self.0.available_permits()
    }

    /// A connection in its place; none, and counted, when all are taken.
    pub fn admit<T>(&self, inner: T, address: Option<SocketAddr>, caller: Caller) -> Option<Peer<T>> {
        let place = self.0.clone().try_acquire_owned();
        if place.is_err() {
            metrics::counter!("weft_xds_refused_connections_total").increment(1);
            tracing::warn!(peer = ?address, "connection refused: {CONNECTIONS_MAX} are open already");
        }
        Some(Peer::new(inner, address, caller, place.ok()?))
    }
}

/// The connections that a listener accepts in plaintext, where nobody is asked for proof; never ends.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Peer<TcpStream>>> + Send {
    stream::unfold((listener, Places::default()), async |(listener, places)| {
        loop {
            let (stream, address) = accept(&listener).await;
            if let Some(peer) = places.admit(stream, Some(address), Caller::Unasked) {
                return Some((Ok(peer), (listener, places)));
            }
        }
    })
}

/// The next connection. A failure to accept is logged and passes.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // A small answer is not kept back for more; a socket that cannot promise that serves all the same.
                let _ = stream.set_nodelay(true);
                return (stream, address);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn peer(places: &Places) -> Option<(Peer<tokio::io::DuplexStream>, tokio::io::DuplexStream)> {
        let (ours, theirs) = duplex(8);
        Some((places.admit(ours, None, Caller::Unasked)?, theirs))
    }

    #[tokio::test]
    async fn a_connection_past_the_limit_is_refused_until_another_ends() {
        let places = Places(Arc::new(Semaphore::new(1)));
        let first = peer(&places);
        assert!(first.is_some() && peer(&places).is_none());
        drop(first);
        assert!(peer(&places).is_some());
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_wakes_who_reads_it() {
        let (mut peer, _theirs) = peer(&Places::default()).unwrap();
        let info = peer.connect_info();
        let reading = tokio::spawn(async move { peer.read_u8().await });
        info.cut();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_with_the_certificate_that_it_began_with() {
        let (ours, _theirs) = duplex(8);
        let (id, life) = ("spiffe://td/ns/a/sa/b".parse().unwrap(), Duration::from_secs(60));
        let caller = Caller::Proven { id, expires: SystemTime::now() + life };
        let mut peer = Places::default().admit(ours, None, caller).unwrap();
        assert_eq!(peer.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_one_that_is_slow_is_not() {
        let (mut peer, mut theirs) = peer(&Places::default()).unwrap();
        let writing = tokio::spawn(async move { peer.write_all(&[0; 64]).await });
        for _ in 0..4 {
            sleep(STALL_TIMEOUT - Duration::from_secs(1)).await;
            theirs.read_exact(&mut [0; 8]).await.unwrap();
        }
        assert!(!writing.is_finished());
        let start = Instant::now();
        assert_eq!(writing.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), STALL_TIMEOUT);
    }
}
