//! Relays the bytes of a TCP connection to an endpoint and back.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    time::Instant,
};

use crate::{
    cluster::{Cluster, Host},
    fault::Fault,
    listener::Serving,
    request::{
        hash::source_ip,
        record::{Target, labels_tcp},
    },
    retry::Outcome,
    router::weighted,
    spec::TcpListener,
    stream::Stream,
    tls::client::Purpose,
};

/// Bytes held per direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// Relays until both sides are done, or nothing moves for the listener's idle timeout.
pub async fn relay(downstream: Stream, serving: &Rc<Serving>, listener: &TcpListener) {
    let worker = &serving.worker;
    let snapshot = worker.snapshot();
    let Some(chosen) = weighted(&listener.clusters, &mut *worker.spread()) else { return };
    let Some(cluster) = snapshot.cluster(&chosen.name) else { return };
    let hash = listener.hash_source_ip.then(|| source_ip(&serving.ends)).flatten();
    let Ok(host) = worker.with_rng(|rng| cluster.pick(rng, hash, &[])) else { return };
    let mut tried = Vec::new();
    let mut connected = host.connect(&cluster.counters, Purpose::Tcp).await;
    note(cluster, &host, &connected);
    let mut host = host;
    if connected.is_err() {
        // Nothing was sent: another endpoint may take it.
        tried.push(host);
        let Ok(other) = worker.with_rng(|rng| cluster.pick(rng, hash, &tried)) else { return };
        host = other;
        connected = host.connect(&cluster.counters, Purpose::Tcp).await;
        note(cluster, &host, &connected);
    }
    let target = Target::Host(host.clone());
    let (upstream, flag, _opened) = match connected {
        Ok((stream, opened)) => (Some(stream), "-", Some(opened)),
        Err(fault) => (None, fault.cause.face().flag, None),
    };
    let labels = labels_tcp(&worker.shared.workload, serving.direction, &target, flag);
    let series = worker.series.traffic().series(labels);
    series.tcp_opened.fetch_add(1, Relaxed);
    if let Some(upstream) = upstream {
        let moved = Rc::new(Cell::new(Instant::now()));
        let mut downstream = Watched { stream: downstream, moved: moved.clone() };
        let mut upstream = Watched { stream: upstream, moved: moved.clone() };
        let (received, sent) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        tokio::select! {
            result = copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER_BYTES, BUFFER_BYTES) => {
                if let Ok((up, down)) = result {
                    received.set(up);
                    sent.set(down);
                }
            }
            () = idle(&moved, serving.chain.idle_timeout) => {}
        }
        series.tcp_received.fetch_add(received.get(), Relaxed);
        series.tcp_sent.fetch_add(sent.get(), Relaxed);
    }
    series.tcp_closed.fetch_add(1, Relaxed);
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

/// A stream that notes when it moved bytes.
struct Watched {
    stream: Stream,
    moved: Rc<Cell<Instant>>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.moved.set(Instant::now());
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
