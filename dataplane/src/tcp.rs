//! Relays the bytes of a TCP connection to an endpoint and back.

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    time::Instant,
};

use crate::{
    access_log::Facts,
    cluster::{Cluster, Host, Tried},
    fault::{Cause, Details, Fault, Flags},
    listener::Serving,
    request::{
        hash::source_ip,
        record::{Target, labels_tcp},
    },
    retry::Outcome,
    spec::{ListenerProtocol, TcpListener},
    stream::Stream,
    telemetry::load::{Attempt, Ending},
    tls::client::Purpose,
};

/// Bytes held per direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// What becomes of a connection.
#[derive(Default)]
struct Passage {
    target: Target,
    flags: Flags,
    upstream_local: Option<SocketAddr>,
    /// Why it was not let in.
    refused: Option<Details>,
    received: Rc<Cell<u64>>,
    sent: Rc<Cell<u64>>,
}

/// Relays until both sides are done, or nothing moves for the listener's idle timeout.
pub async fn relay(downstream: Stream, serving: &Rc<Serving>, listener: &TcpListener) {
    let began = Instant::now();
    let mut passage = Passage::default();
    if let Err(cause) = carry(downstream, serving, listener, &mut passage).await {
        passage.flags.add(cause.face().flag);
    }
    log(serving, &passage, began);
}

/// Notes that a connection was not let in, where such are logged.
pub fn refuse(serving: &Serving, details: Details) {
    if matches!(serving.chain.protocol, ListenerProtocol::Tcp(_)) {
        log(serving, &Passage { refused: Some(details), ..Passage::default() }, Instant::now());
    }
}

async fn carry(
    downstream: Stream,
    serving: &Rc<Serving>,
    listener: &TcpListener,
    passage: &mut Passage,
) -> Result<(), Cause> {
    let worker = &serving.worker;
    let snapshot = worker.snapshot();
    let chosen = worker.draw(&listener.clusters).ok_or(Cause::NoEndpoint)?;
    let chosen = &listener.clusters[chosen];
    let not_found = Cause::NoCluster(StatusCode::SERVICE_UNAVAILABLE);
    let cluster = snapshot.cluster(&chosen.name).ok_or(not_found)?;
    passage.target = Target::Cluster(cluster.clone());
    let hash = listener.hash_source_ip.then(|| source_ip(&serving.ends)).flatten();
    let mut tried = Vec::new();
    let (connected, host, attempt) = loop {
        let before = Tried { hosts: &tried, avoid: true, leave_every: None };
        let chosen = worker.with_rng(|rng| cluster.choose(rng, hash, &serving.ends, before));
        let host = chosen.map_err(|fault| fault.cause)?;
        let attempt = Attempt::start(host.load(&worker.loads), Instant::now());
        let connected = host.connect(&cluster.counters, Purpose::Tcp).await;
        note(cluster, &host, &connected);
        // Nothing was sent: another endpoint may take it, once.
        if connected.is_ok() || !tried.is_empty() {
            break (connected, host, attempt);
        }
        attempt.end(Ending::Failed, None);
        tried.push(host);
    };
    passage.target = Target::Host(host);
    if let Err(fault) = &connected {
        passage.flags.add(fault.cause.face().flag);
    }
    let labels = labels_tcp(serving, &passage.target, passage.flags);
    let series = worker.series.traffic().series(labels);
    series.tcp_opened.fetch_add(1, Relaxed);
    let ending = if connected.is_ok() { Ending::Good } else { Ending::Failed };
    if let Ok((upstream, _opened)) = connected {
        passage.upstream_local = upstream.ends().local;
        let moved = Rc::new(Cell::new(Instant::now()));
        let mut downstream =
            Watched { stream: downstream, moved: moved.clone(), read: passage.received.clone() };
        let mut upstream = Watched { stream: upstream, moved: moved.clone(), read: passage.sent.clone() };
        tokio::select! {
            // How a connection ends is its users' business.
            _ = copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER_BYTES, BUFFER_BYTES) => {}
            () = idle(&moved, serving.chain.idle_timeout) => {}
        }
        series.tcp_received.fetch_add(passage.received.get(), Relaxed);
        series.tcp_sent.fetch_add(passage.sent.get(), Relaxed);
    }
    attempt.end(ending, None);
    series.tcp_closed.fetch_add(1, Relaxed);
    Ok(())
}

fn log(serving: &Serving, passage: &Passage, began: Instant) {
    let Some(logging) = &serving.logging else { return };
    let mut log = logging.begin();
    let notes = log.notes();
    notes.ends = serving.ends;
    notes.upstream_local = passage.upstream_local;
    notes.termination.clone_from(&passage.refused);
    let duration = began.elapsed();
    let facts = Facts {
        began,
        time: SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
        duration,
        status: None,
        details: None,
        flags: passage.flags,
        grpc_status: None,
        bytes_received: passage.received.get(),
        bytes_sent: passage.sent.get(),
        request_ended: None,
        target: &passage.target,
        attempts: 0,
    };
    serving.worker.with_rng(|rng| log.write(&facts, rng));
}

/// Tells outlier detection whether there was a connection.
fn note<T>(cluster: &Cluster, host: &Host, connected: &Result<T, Fault>) {
    match connected {
        Ok(_) => cluster.note_connected(host),
        Err(fault) => cluster.note(host, Outcome::Fault { fault: *fault, unsent: true }),
    }
}

/// Ends when nothing has moved for `timeout`.
async fn idle(moved: &Cell<Instant>, timeout: Duration) {
    loop {
        let until = moved.get() + timeout;
        if until <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

/// A stream that notes when it moved bytes, and how many it had to give.
struct Watched {
    stream: Stream,
    moved: Rc<Cell<Instant>>,
    /// Bytes read.
    read: Rc<Cell<u64>>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.moved.set(Instant::now());
            self.read.set(self.read.get() + (buf.filled().len() - before) as u64);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if polled.is_ready() {
            self.moved.set(Instant::now());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
