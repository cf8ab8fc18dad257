//! The proxy as a whole: starts the workers and the runtime beside them, and ends them in order.
//!
//! Requests run on worker threads alone; everything else (xDS, name resolution, admin) runs on one runtime of its own, so
//! that none of it can stall a request.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Admin},
    cluster::dns as resolve,
    dns, health,
    identity::{
        agent::{Agent, AgentError},
        connect::Dialer,
        workload::Socket,
    },
    listener::bind::Bound,
    request::on_demand::OnDemand,
    settings::Settings,
    spec::{Spec, Workload},
    tls,
    worker::{self, Limits, Shared, WorkerHandle},
    xds::{Client, cache::Cache},
};

/// Runs a proxy until SIGTERM or SIGINT, and drains it.
pub fn run(settings: Settings) -> Result<(), StartError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything starts, so that no signal is lost.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // What tools that rotate logs send: files are opened again.
        let mut rotated = signal(SignalKind::user_defined1())?;
        let mut hung_up = signal(SignalKind::hangup())?;
        let app = App::start(settings)?;
        let shared = app.shared.clone();
        let asked = async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = interrupt.recv() => return,
                    _ = rotated.recv() => shared.logs.reopen(),
                    _ = hung_up.recv() => shared.logs.reopen(),
                }
            }
        };
        app.wait(asked).await;
        Ok(())
    })
}

/// Runs an agent alone until SIGTERM or SIGINT: it has an identity and tells of it on a socket, for an Envoy or an
/// application without a proxy of ours.
pub fn run_agent(settings: Settings) -> Result<(), StartError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (Some(of), Some(path)) = (settings.identity, settings.workload_socket) else {
            return Err(StartError::NoAgent);
        };
        let agent = Agent::new(of, SystemTime::now())?;
        let socket = Socket::bind(&path).map_err(|error| unbound(&path, error))?;
        let stop = CancellationToken::new();
        let served = tokio::spawn(socket.serve(agent.current(), stop.clone()));
        let running = tokio::spawn(agent.run(stop.clone()));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
        let _ = tokio::time::timeout(STOP_TIMEOUT, async { drop((served.await, running.await)) }).await;
        Ok(())
    })
}

fn unbound(path: &Path, error: io::Error) -> StartError {
    StartError::Socket { path: path.display().to_string(), error }
}

/// How long the tasks beside the workers may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A running proxy.
#[derive(Debug)]
pub struct App {
    admin_address: SocketAddr,
    drain_grace: Duration,
    drain_timeout: Duration,
    leave: CancellationToken,
    drain: CancellationToken,
    stop: CancellationToken,
    runtime: Runtime,
    xds: JoinHandle<()>,
    workers: Vec<WorkerHandle>,
    shared: Arc<Shared>,
}

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The admin address cannot be bound.
    #[error(
        "cannot listen on the admin address {address}: {error}; is another proxy running? set `admin` to another port"
    )]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The state directory cannot be used.
    #[error("cannot use the state directory {directory}: {error}")]
    DataDir {
        /// The directory.
        directory: String,
        /// What the system said.
        error: io::Error,
    },
    /// The proxy's identity.
    #[error("{0}")]
    Identity(#[from] AgentError),
    /// The workload socket cannot be bound.
    #[error("cannot listen on the workload socket {path}: {error}")]
    Socket {
        /// Its path.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// There is nothing that an agent alone could do.
    #[error("an agent needs a control plane to join (control: https://host:15012) and a workload_socket")]
    NoAgent,
    /// A DNS address cannot be bound.
    #[error("cannot answer DNS on {address}: {error}; set `dns` to another address")]
    Dns {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl App {
    /// Starts everything. Listeners open as their configuration comes, from disk or from the control plane.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let cache = settings.data_dir.as_deref().map(Cache::open).transpose().map_err(|error| {
            StartError::DataDir {
                directory: settings.data_dir.clone().unwrap_or_default().display().to_string(),
                error,
            }
        })?;
        let (admin_listener, admin_address) =
            bind(settings.admin).map_err(|error| StartError::Admin { address: settings.admin, error })?;
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("beside").enable_all().build()?;
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let (spec, asked) = watch::channel(Arc::new(Spec::default()));
        let (live, specs) = watch::channel(Arc::new(Spec::default()));
        let (answer, answers) = watch::channel(resolve::Answers::default());
        let limits = Limits { connections_max: settings.connections_max };
        let workload = workload(&settings);
        let (on_demand, demands) = OnDemand::new();
        let shared =
            Arc::new(Shared::new(specs.clone(), answers, limits, drain.clone(), workload, on_demand));
        let recorder = recorder();
        let wants_names = settings.dns.is_some();
        if let Some(dns) = settings.dns.clone() {
            let sockets = dns::Sockets::bind(&dns.bind)
                .map_err(|(address, error)| StartError::Dns { address, error })?;
            dns::spawn(sockets, dns, specs.clone(), stop.clone())?;
        }
        let agent = settings.identity.clone().map(|of| Agent::new(of, SystemTime::now())).transpose()?;
        let identity = agent.as_ref().map(Agent::current);
        if let (Some(path), Some(identity)) = (&settings.workload_socket, &identity) {
            let within = runtime.enter();
            let socket = Socket::bind(path).map_err(|error| unbound(path, error))?;
            drop(within);
            runtime.spawn(socket.serve(identity.clone(), stop.clone()));
        }
        if let Some(agent) = agent {
            runtime.spawn(agent.run(stop.clone()));
        }
        runtime.spawn(tls::live::run(asked, live, identity.clone(), stop.clone()));
        let names = Arc::new(resolve::Names::of_system());
        runtime.spawn(resolve::run(specs, answer, move |name| names.clone().addresses(name), stop.clone()));
        runtime.spawn(health::run(shared.clone(), stop.clone()));
        let leave = CancellationToken::new();
        let served = Admin { shared: shared.clone(), recorder, leave: leave.clone() };
        runtime.spawn(admin::serve(admin_listener, Arc::new(served), stop.clone()));
        let (addresses, node) = (settings.control_planes.clone(), settings.node());
        let loads = shared.loads.clone();
        let dialer = Dialer { identity };
        let client = Client { addresses, dialer, node, wants_names, cache, loads, spec, stop: stop.clone() };
        let xds = runtime.spawn(client.run(demands));
        let mut workers = Vec::with_capacity(settings.workers);
        for index in 0..settings.workers {
            workers.push(worker::spawn(index, shared.clone())?);
        }
        let (drain_grace, drain_timeout) = (settings.drain_grace, settings.drain_timeout);
        tracing::info!(admin = %admin_address, workers = workers.len(), node = %settings.node_id, "proxy started");
        Ok(Self {
            admin_address,
            drain_grace,
            drain_timeout,
            leave,
            drain,
            stop,
            runtime,
            xds,
            workers,
            shared,
        })
    }

    /// Where the admin server really listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Where each listener is bound, as it changes.
    pub fn bound(&self) -> watch::Receiver<BTreeMap<Arc<str>, Bound>> {
        self.shared.bound.subscribe()
    }

    /// Serves until `shutdown` or a drain asked for over admin, goes on for the grace with `/ready` failing, then drains.
    /// False when some requests did not finish in time.
    pub async fn wait(self, shutdown: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = shutdown => {}
            () = self.leave.cancelled() => {}
        }
        tracing::info!(grace = ?self.drain_grace, timeout = ?self.drain_timeout, "draining");
        self.leave.cancel();
        tokio::time::sleep(self.drain_grace).await;
        self.drain.cancel();
        let workers = self.workers;
        // A worker that panicked has nothing left to drain.
        let join =
            self.runtime.spawn_blocking(move || workers.into_iter().for_each(|worker| drop(worker.join())));
        let finished = tokio::time::timeout(self.drain_timeout, join).await.is_ok();
        self.stop.cancel();
        let shared = self.shared;
        let lines = self.runtime.spawn_blocking(move || shared.logs.finish());
        let logged = tokio::time::timeout(STOP_TIMEOUT, lines).await.is_ok();
        let saved = tokio::time::timeout(STOP_TIMEOUT, self.xds).await;
        tracing::info!(finished, saved = saved.is_ok(), logged, "proxy ended");
        // In an async context a runtime may not be waited for.
        self.runtime.shutdown_background();
        finished
    }
}

fn bind(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Who the traffic's local side is, in metrics.
fn workload(settings: &Settings) -> Workload {
    let known = |text: &str| if text.is_empty() { "unknown".into() } else { text.into() };
    let node = &settings.metadata;
    let canonical = node.labels.get("service.istio.io/canonical-name").or_else(|| node.labels.get("app"));
    let service = canonical.map_or(node.workload.as_str(), String::as_str);
    Workload {
        name: known(&node.workload),
        namespace: known(&node.namespace),
        service: known(service),
        revision: if node.version.is_empty() { "latest".into() } else { known(&node.version) },
        cluster: known(""),
    }
}

/// The process's recorder, installed once however many proxies run in it.
fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Another recorder, of a program that embeds us, keeps its place: ours then stays empty.
        let _ = metrics::set_global_recorder(recorder);
        handle
    };
    RECORDER.get_or_init(install).clone()
}

#[cfg(test)]
mod tests;
