//! The DNS responder: answers names of the mesh with their virtual addresses and asks the host's own resolvers for
//! everything else. It runs on a thread of its own, beside workers and configuration.

pub mod answer;
pub mod forward;
pub mod resolv;
pub mod table;

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use metrics::{counter, gauge};
use rand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use self::{
    answer::{Outcome, Transport, Verdict, decide},
    forward::{Forwarder, Unanswered},
    resolv::Resolv,
    table::Table,
};
use crate::spec::{MeshHosts, Spec};

/// Where the host says how it resolves names.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How often that file is looked at.
const RESOLV_INTERVAL: Duration = Duration::from_secs(5);
/// Largest datagram that is read, bytes.
const UDP_BYTES_MAX: usize = 4096;
/// Most connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Time in which a connection must send its next query whole.
const CONNECTION_IDLE: Duration = Duration::from_secs(10);
/// Pause after the system refused to hand over a datagram or connection.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// How names are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to answer, by UDP and TCP.
    pub bind: Vec<SocketAddr>,
    /// Who is asked for what is not the mesh's; none is who the host asks.
    pub resolvers: Vec<SocketAddr>,
    /// The namespace whose short names are known.
    pub namespace: String,
    /// Where the host says how it resolves names.
    pub resolv_conf: PathBuf,
}

/// The sockets, bound.
#[derive(Debug)]
pub struct Sockets {
    udp: Vec<std::net::UdpSocket>,
    tcp: Vec<std::net::TcpListener>,
}

impl Sockets {
    /// Binds every address, or says which could not be.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, (SocketAddr, io::Error)> {
        let mut sockets = Self { udp: Vec::new(), tcp: Vec::new() };
        for address in addresses {
            let at = |error| (*address, error);
            let udp = std::net::UdpSocket::bind(address).map_err(at)?;
            udp.set_nonblocking(true).map_err(at)?;
            // Port 0 is the same number for both.
            let tcp = std::net::TcpListener::bind(udp.local_addr().map_err(at)?).map_err(at)?;
            tcp.set_nonblocking(true).map_err(at)?;
            sockets.udp.push(udp);
            sockets.tcp.push(tcp);
        }
        Ok(sockets)
    }

    /// Where they are bound.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

/// Answers until stopped, on a thread of its own.
pub fn spawn(
    sockets: Sockets,
    settings: Settings,
    spec: watch::Receiver<Arc<Spec>>,
    stop: CancellationToken,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("dns".to_owned()).spawn(move || {
        tokio::task::LocalSet::new().block_on(&runtime, run(sockets, settings, spec, stop));
    })?;
    Ok(())
}

/// What all questions need.
struct Responder {
    table: RefCell<Rc<Table>>,
    resolvers: RefCell<Rc<[SocketAddr]>>,
    forwarder: Forwarder,
}

async fn run(
    sockets: Sockets,
    settings: Settings,
    mut spec: watch::Receiver<Arc<Spec>>,
    stop: CancellationToken,
) {
    let responder = Rc::new(Responder {
        table: RefCell::default(),
        resolvers: RefCell::new(Rc::new([])),
        forwarder: Forwarder::default(),
    });
    for socket in sockets.udp {
        match UdpSocket::from_std(socket) {
            Ok(socket) => drop(tokio::task::spawn_local(datagrams(Rc::new(socket), responder.clone()))),
            Err(error) => tracing::error!(%error, "cannot answer DNS by UDP"),
        }
    }
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    for listener in sockets.tcp {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                drop(tokio::task::spawn_local(connections(listener, responder.clone(), slots.clone())));
            }
            Err(error) => tracing::error!(%error, "cannot answer DNS by TCP"),
        }
    }
    let mut known: Option<(MeshHosts, Resolv)> = None;
    let mut tick = tokio::time::interval(RESOLV_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut open, mut host) = (true, read(&settings.resolv_conf));
    loop {
        let hosts = spec.borrow_and_update().hosts.clone();
        let same = known.as_ref().is_some_and(|(old, with)| Arc::ptr_eq(old, &hosts) && *with == host);
        if !same {
            let table = Table::new(&hosts, &settings.namespace, host.search.clone());
            gauge!("weft_dns_names").set(table.len() as f64);
            responder.table.replace(Rc::new(table));
            let own = if settings.resolvers.is_empty() { &host.servers } else { &settings.resolvers };
            responder.resolvers.replace(own.as_slice().into());
            known = Some((hosts, host.clone()));
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = spec.changed(), if open => open = changed.is_ok(),
            _ = tick.tick() => host = read(&settings.resolv_conf),
        }
    }
}

/// A file that is not there says nothing.
fn read(path: &Path) -> Resolv {
    std::fs::read_to_string(path).map(|text| resolv::parse(&text)).unwrap_or_default()
}

async fn datagrams(socket: Rc<UdpSocket>, responder: Rc<Responder>) {
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let (size, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(_) => {
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let query = &buffer[..size];
        match responder.decide(query, Transport::Udp) {
            Verdict::Drop => {}
            // A client that is gone, or a full buffer: it will ask again.
            Verdict::Answer(reply, _) => drop(socket.try_send_to(&reply, peer)),
            Verdict::Forward { ours } => {
                let (socket, responder, query) = (socket.clone(), responder.clone(), query.to_vec());
                tokio::task::spawn_local(async move {
                    if let Some(reply) = responder.forward(&query, ours, Transport::Udp).await {
                        let _ = socket.send_to(&reply, peer).await;
                    }
                });
            }
        }
    }
}

async fn connections(listener: TcpListener, responder: Rc<Responder>, slots: Arc<Semaphore>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        // One too many is closed at once rather than left waiting.
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            counter!("weft_dns_connections_refused_total").increment(1);
            continue;
        };
        let responder = responder.clone();
        tokio::task::spawn_local(async move {
            let _ = conversation(stream, &responder).await;
            drop(slot);
        });
    }
}

/// Queries and answers in turn (RFC 7766), until the client ends it or says nothing.
async fn conversation(mut stream: TcpStream, responder: &Responder) -> io::Result<()> {
    loop {
        let query = tokio::time::timeout(CONNECTION_IDLE, async {
            let length = stream.read_u16().await?;
            let mut query = vec![0; length.into()];
            stream.read_exact(&mut query).await.map(|_| query)
        });
        let query = query.await??;
        let reply = match responder.decide(&query, Transport::Tcp) {
            Verdict::Drop => return Ok(()),
            Verdict::Answer(reply, _) => reply,
            Verdict::Forward { ours } => match responder.forward(&query, ours, Transport::Tcp).await {
                Some(reply) => reply,
                None => return Ok(()),
            },
        };
        let length = u16::try_from(reply.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await?;
    }
}

impl Responder {
    fn decide(&self, query: &[u8], transport: Transport) -> Verdict {
        let table = self.table.borrow().clone();
        let verdict = decide(query, &table, transport);
        let outcome = match &verdict {
            Verdict::Answer(_, Outcome::Answered) => "answered",
            Verdict::Answer(_, Outcome::NoData) => "no_data",
            Verdict::Answer(_, Outcome::Refused) => "refused",
            Verdict::Forward { .. } => "forwarded",
            Verdict::Drop => "dropped",
        };
        counter!("weft_dns_requests_total", "outcome" => outcome).increment(1);
        verdict
    }

    /// What the host's resolvers say; a failure when they say nothing.
    async fn forward(&self, query: &[u8], ours: bool, transport: Transport) -> Option<Vec<u8>> {
        let resolvers = self.resolvers.borrow().clone();
        let id = rand::rng().random();
        match self.forwarder.ask(query, id, &resolvers, transport).await {
            Ok(reply) => Some(answer::correct(reply, ours)),
            Err(why) => {
                let why = match why {
                    Unanswered::Busy => "busy",
                    Unanswered::Silent => "silent",
                };
                counter!("weft_dns_forward_failures_total", "reason" => why).increment(1);
                answer::failure(query)
            }
        }
    }
}

#[cfg(test)]
mod tests;
