//! The listeners of one worker: accepts connections, gives each to its filter chain, and lets old ones finish when
//! something changes.

pub mod bind;
pub mod chains;
mod inspect;
mod serve;
mod virtuals;

use std::{collections::HashMap, io, rc::Rc, sync::Arc, time::Duration};

use http::uri::Scheme;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::virtuals::Virtuals;

use crate::{
    access_log::Logging,
    router::Router,
    spec::{
        self, Chain, ClientCert, Direction, HttpFilter, HttpListener, ListenerProtocol, Route, RouteSource,
        Spec,
    },
    stream::{Ends, Stream},
    tls::peer::Secured,
    trace::Tracer,
    worker::{ConnectionSlot, Worker},
};
use chains::Facts;
use inspect::{Unclear, inspect};
use serve::serve;

/// Pause after an accept that failed for want of something (files, memory), which a retry at once would not find.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections of one filter chain need; a changed chain gets a new one and the old one drains.
#[derive(Clone)]
pub struct Serving {
    /// The worker.
    pub worker: Rc<Worker>,
    /// The chain, as given.
    pub chain: Arc<Chain>,
    /// Direction of its listener.
    pub direction: Direction,
    /// Its route table when that is inline.
    pub inline: Option<Rc<Router>>,
    /// The ends of the connection that is served.
    pub ends: Ends,
    /// Who is at both, where the connection is TLS that ended here.
    pub secured: Option<Rc<Secured>>,
    /// The name that a TLS client asked for whose TLS goes through.
    pub asked_for: Option<Box<str>>,
    /// Whether no filter does anything where no route speaks of it.
    idle_filters: bool,
    /// Its access logs.
    pub logging: Option<Rc<Logging>>,
    /// Its traces.
    pub tracer: Option<Rc<Tracer>>,
    /// Cancelled when its connections should finish.
    pub drain: CancellationToken,
}

/// What one listener does with a new connection.
struct Door {
    spec: Arc<spec::Listener>,
    /// One for each of its chains.
    chains: Vec<Rc<Serving>>,
}

/// The listeners of a worker, by name.
#[derive(Default)]
pub struct Listeners {
    running: HashMap<Arc<str>, Running>,
    virtuals: Rc<Virtuals>,
}

struct Running {
    door: tokio::sync::watch::Sender<Rc<Door>>,
    stop: CancellationToken,
}

impl Listeners {
    /// Starts, changes and removes listeners as `spec` says. What cannot be bound is tried again with the next call.
    pub fn apply(&mut self, worker: &Rc<Worker>, spec: &Spec) {
        let mut changed = false;
        self.running.retain(|name, running| {
            let old = running.door.borrow();
            let same = |new: &Arc<spec::Listener>| {
                new.address == old.spec.address && new.has_socket == old.spec.has_socket
            };
            let kept = spec.listeners.get(name).is_some_and(same);
            if !kept {
                changed = true;
                running.stop.cancel();
                old.drain();
                bind::forget(&worker.shared, name);
            }
            kept
        });
        for (name, listener) in &spec.listeners {
            if let Some(running) = self.running.get(name) {
                let old = running.door.borrow().clone();
                if !Arc::ptr_eq(&old.spec, listener) {
                    changed = true;
                    let new = Rc::new(Door::new(worker, listener, Some(&old)));
                    running.door.send_replace(new.clone());
                    old.drain_all_but(&new);
                }
                continue;
            }
            let socket = match listener.has_socket.then(|| bind::bind(&worker.shared, listener)).transpose() {
                Ok(socket) => socket,
                Err(error) => {
                    warn!(listener = %name, address = ?listener.address, %error, "cannot listen; trying again");
                    continue;
                }
            };
            changed = true;
            let door = Rc::new(Door::new(worker, listener, None));
            let (door, current) = tokio::sync::watch::channel(door);
            let stop = CancellationToken::new();
            if let Some(socket) = socket {
                info!(listener = %name, "listening");
                let virtuals = self.virtuals.clone();
                worker.tasks.spawn_local(accept(worker.clone(), socket, current, virtuals, stop.clone()));
            }
            self.running.insert(name.clone(), Running { door, stop });
        }
        if changed {
            self.virtuals.replace(self.running.values().map(|running| running.door.borrow().clone()));
        }
    }

    /// Stops accepting and lets connections finish.
    pub fn drain(&mut self) {
        for (_, running) in self.running.drain() {
            running.stop.cancel();
            running.door.borrow().drain();
        }
    }
}

impl Door {
    /// A chain that is as it was keeps its connections.
    fn new(worker: &Rc<Worker>, spec: &Arc<spec::Listener>, previous: Option<&Self>) -> Self {
        let before = previous.filter(|previous| previous.spec.direction == spec.direction);
        let before: HashMap<[u8; 32], &Rc<Serving>> =
            before.iter().flat_map(|door| &door.chains).map(|chain| (chain.chain.digest, chain)).collect();
        let chain = |chain: &Arc<Chain>| match before.get(&chain.digest) {
            Some(before) => Rc::clone(before),
            None => Serving::new(worker, chain, spec.direction),
        };
        Self { spec: spec.clone(), chains: spec.chains.all().iter().map(chain).collect() }
    }

    fn drain(&self) {
        self.chains.iter().for_each(|chain| chain.drain.cancel());
    }

    fn drain_all_but(&self, kept: &Self) {
        let gone = |chain: &&Rc<Serving>| !kept.chains.iter().any(|kept| Rc::ptr_eq(kept, chain));
        self.chains.iter().filter(gone).for_each(|chain| chain.drain.cancel());
    }

    /// The chain of every connection, where nothing needs to be known of one.
    fn only(&self) -> Option<&Rc<Serving>> {
        let needless = !self.spec.inspection.reads() && self.spec.chains.only().is_some();
        self.chains.first().filter(|_| needless)
    }

    /// Finds out what a connection is, and serves it with the chain for such; none for it closes it.
    async fn enter(&self, mut stream: Stream, ends: Ends, worker: &Worker) {
        let refused = &worker.shared.refused;
        let mut facts = Facts { destination: ends.local, source: ends.remote, ..Facts::default() };
        if self.spec.inspection.reads() {
            match inspect(&mut stream, &self.spec.inspection, &mut facts).await {
                Ok(()) => {}
                Err(Unclear::Timeout) => return refused.silent.count(),
                Err(Unclear::Broken) => return refused.unreadable.count(),
            }
        }
        let Some(chosen) = self.spec.chains.choose(&facts) else { return refused.no_chain.count() };
        let mut serving = self.chains[chosen].of(ends);
        serving.asked_for = facts.server_name.map(String::into_boxed_str);
        serve(stream, serving).await;
    }
}

impl Serving {
    /// Time without a byte on a stream, where the route says nothing; zero is no limit.
    pub fn stream_idle_timeout(&self) -> Duration {
        match &self.chain.protocol {
            ListenerProtocol::Http(http) => http.stream_idle_timeout,
            ListenerProtocol::Tcp(_) => Duration::ZERO,
        }
    }

    /// The filters that requests of a route pass before its action; none where they would do nothing.
    pub fn filters(&self, route: Option<&Route>) -> &[HttpFilter] {
        match &self.chain.protocol {
            ListenerProtocol::Http(_)
                if self.idle_filters && route.is_none_or(|of| of.filters.is_empty()) =>
            {
                &[]
            }
            ListenerProtocol::Http(http) => &http.filters,
            ListenerProtocol::Tcp(_) => &[],
        }
    }

    /// Whether doubled slashes in paths become one.
    pub fn merge_slashes(&self) -> bool {
        matches!(&self.chain.protocol, ListenerProtocol::Http(http) if http.merge_slashes)
    }

    /// How requests came: over TLS that ends here, or in plain text.
    pub fn scheme(&self) -> Scheme {
        if self.chain.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// Whether clients are strangers, who cannot say how they came to us (`use_remote_address`).
    pub fn is_edge(&self) -> bool {
        matches!(&self.chain.protocol, ListenerProtocol::Http(http) if http.edge)
    }

    /// What workloads are told of their clients' certificates.
    pub fn client_cert(&self) -> ClientCert {
        match &self.chain.protocol {
            ListenerProtocol::Http(http) => http.client_cert,
            ListenerProtocol::Tcp(_) => ClientCert::default(),
        }
    }

    /// Protocol upgrades allowed on every route.
    pub fn upgrades(&self) -> &[String] {
        match &self.chain.protocol {
            ListenerProtocol::Http(http) => &http.upgrades,
            ListenerProtocol::Tcp(_) => &[],
        }
    }

    fn new(worker: &Rc<Worker>, chain: &Arc<Chain>, direction: Direction) -> Rc<Self> {
        let inline = match &chain.protocol {
            ListenerProtocol::Http(HttpListener { routes: RouteSource::Inline(config), .. }) => {
                Some(Rc::new(Router::new(config.clone())))
            }
            _ => None,
        };
        let logging = chain.access_logs.as_ref().map(|logs| Logging::new(logs, &worker.shared.logs));
        let tracer = match &chain.protocol {
            ListenerProtocol::Http(HttpListener { tracing, .. }) => tracing.as_ref(),
            ListenerProtocol::Tcp(_) => None,
        };
        let tracer = tracer.map(|spec| Tracer::new(worker, spec, direction));
        let (worker, chain, drain) = (worker.clone(), chain.clone(), CancellationToken::new());
        let ends = Ends::default();
        let idle_filters = match &chain.protocol {
            ListenerProtocol::Http(http) => http.filters.iter().all(HttpFilter::is_idle),
            ListenerProtocol::Tcp(_) => true,
        };
        let (secured, asked_for) = (None, None);
        Rc::new(Self {
            worker,
            chain,
            direction,
            inline,
            ends,
            secured,
            asked_for,
            idle_filters,
            logging,
            tracer,
            drain,
        })
    }

    /// The same for one connection.
    fn of(&self, ends: Ends) -> Self {
        Self { ends, ..self.clone() }
    }
}

/// Accepts until stopped, whatever an accept answers.
async fn accept(
    worker: Rc<Worker>,
    socket: bind::Socket,
    door: tokio::sync::watch::Receiver<Rc<Door>>,
    virtuals: Rc<Virtuals>,
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
        let mut door = door.borrow().clone();
        // Over the limit the connection is closed at once: a caller that is refused quickly can go elsewhere.
        let Some(slot) = ConnectionSlot::take(&worker.shared) else { continue };
        let mut ends = stream.ends();
        if door.spec.original_destination
            && let Some(original) = stream.original_destination()
        {
            (ends.local, ends.original) = (Some(original), Some(original));
            if door.spec.hands_over {
                door = virtuals.find(original).unwrap_or(door);
            }
        }
        if let Some(serving) = door.only() {
            let serving = serving.of(ends);
            worker.tasks.spawn_local(async move {
                let _slot = slot;
                serve(stream, serving).await;
            });
            continue;
        }
        let here = worker.clone();
        worker.tasks.spawn_local(async move {
            let _slot = slot;
            door.enter(stream, ends, &here).await;
        });
    }
}

/// Whether an accept error concerns one connection only.
fn passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | TimedOut)
}
