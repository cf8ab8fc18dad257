//! The control plane put together, top to bottom: what is kept is opened, ports are bound, then one task merges facts,
//! one compiles, and two servers answer. Stopping goes the other way round.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weft_proto::node::NodeMetadata;

use self::desk::{Compiled, Desk, is_error};
use crate::{
    admin,
    ads::{AdsServer, Publisher, Tracker},
    compile::{self, Compiler},
    identity::{
        self, Identity,
        door::{Door, DoorError},
    },
    jwks::{self, Keys},
    peer,
    registry::{self, Registry},
    resource::{Asked, ResourceSet},
    settings::Settings,
    store::{
        DocumentStore,
        embedded::{EmbeddedStore, OpenError},
    },
    telemetry,
    traffic::Traffic,
};

pub mod desk;
pub mod port;
pub mod shelf;

/// Quiet time after a change before it is compiled.
const SETTLE: Duration = Duration::from_millis(20);
/// Longest wait of a change while others keep coming.
const SETTLE_MAX: Duration = Duration::from_millis(200);
/// Configuration revisions that are set aside at once: a restart skips what is left of them, and never goes back.
const REVISIONS_RESERVED: u64 = 1000;
/// How long a stop waits for open streams.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Why the control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error("{path}: {error}; name a folder that can be written with --data-dir")]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The document store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The last known registry.
    #[error(transparent)]
    Registry(#[from] registry::disk::DiskError),
    /// The certificate authority.
    #[error("the certificate authority: {0}")]
    Identity(#[from] identity::OpenError),
    /// TLS of the port for proxies and adapters.
    #[error("TLS: {0}")]
    Door(#[from] DoorError),
    /// A port.
    #[error("cannot listen on {address}: {error}; free the port or choose another with --{option}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The option that sets it.
        option: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

/// A running control plane. Dropping it without [`App::stop`] leaves its tasks running.
pub struct App {
    xds: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    admin: SocketAddr,
    publisher: Publisher,
    /// Ends the servers and what feeds them.
    stop: CancellationToken,
    /// Ends the registry's task, last: it saves what the others told it.
    stop_registry: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    registry_task: JoinHandle<()>,
    streams: TaskTracker,
}

impl App {
    /// Opens what is kept, binds the ports and starts to serve.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let metrics = telemetry::install();
        telemetry::describe();
        let (registry, store) = open(&settings).await?;
        let plain = bind_if(settings.xds_bind, "xds-bind").await?;
        let secure = bind_if(settings.tls_bind, "tls-bind").await?;
        let identity = match settings.tls_bind {
            Some(_) => Some(open_identity(settings.identity.clone()).await?),
            None => None,
        };
        let (admin_listener, admin) = bind(settings.admin_bind, "admin-bind").await?;

        let tracker = Tracker::default();
        let publisher = Publisher::new(tracker.clone());
        let (compiled, compiled_watch) = watch::channel(Compiled::default());
        let desk = Arc::new(Desk::new(registry.clone(), store, compiled_watch, settings.providers.clone()));
        let stop = CancellationToken::new();
        let stop_registry = CancellationToken::new();
        let streams = TaskTracker::new();

        let (keys, key_desk) =
            Keys::open(settings.data_dir.join("jwks.json"), settings.jwks_hosts.clone(), SystemTime::now());
        let registry_task = tokio::spawn(registry.clone().run(stop_registry.clone()));
        let feed = Feed {
            desk: desk.clone(),
            compiler: Compiler::new(compile::Options {
                outbound_policy: settings.outbound_policy,
                locality: settings.locality_lb.clone(),
                trust_domains: settings.trust_domains(),
                log: settings.log.clone(),
                providers: settings.providers.clone(),
                trust_domain: Some(settings.identity.trust_domain.as_str().into()),
            }),
            publisher: publisher.clone(),
            compiled,
            keys: key_desk,
            revision: 0,
            reserved: 0,
        };
        let traffic = Traffic::new(Instant::now());
        let authority = identity.as_ref().map(|(identity, _)| identity.clone());
        let people = admin::Admin::new(desk, tracker, traffic.clone(), metrics, authority, settings);
        let ads = AdsServer::new(&publisher);
        let services = port::Services { ads, traffic, registry, identity: None };
        let mut tasks = vec![
            tokio::spawn(feed.run(stop.clone())),
            tokio::spawn(keys.run(stop.clone())),
            tokio::spawn(admin::serve(admin_listener, people, stop.clone())),
        ];
        let (mut xds, mut tls) = (None, None);
        if let Some((listener, address)) = plain {
            xds = Some(address);
            let incoming = peer::incoming(listener);
            let serving = port::serve(incoming, services.clone(), stop.clone(), streams.clone());
            tasks.push(tokio::spawn(serving));
        }
        if let (Some((listener, address)), Some((identity, door))) = (secure, identity) {
            tls = Some(address);
            tasks.push(tokio::spawn(identity.clone().run(stop.clone())));
            tasks.push(tokio::spawn(door.clone().run(stop.clone())));
            let incoming = door.incoming(listener, stop.clone());
            let services = port::Services { identity: Some(identity), ..services };
            tasks.push(tokio::spawn(port::serve(incoming, services, stop.clone(), streams.clone())));
        }
        tracing::info!(plaintext = ?xds, mutual_tls = ?tls, %admin, "control plane serves");
        Ok(Self { xds, tls, admin, publisher, stop, stop_registry, tasks, registry_task, streams })
    }

    /// Where proxies and adapters connect in plaintext.
    pub fn xds_address(&self) -> Option<SocketAddr> {
        self.xds
    }

    /// Where they connect over mutual TLS.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls
    }

    /// Where people connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Ends every stream, waits for the tasks, and saves the registry.
    pub async fn stop(self) {
        self.publisher.stop();
        self.stop.cancel();
        self.streams.close();
        let deadline = Instant::now() + STOP_TIMEOUT;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
        let _ = tokio::time::timeout_at(deadline, self.streams.wait()).await;
        self.stop_registry.cancel();
        if self.registry_task.await.is_err() {
            tracing::error!("the registry's task failed");
        }
        tracing::info!("control plane stopped");
    }
}

/// Starts the control plane, serves until `shutdown` is cancelled, and stops it.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), StartError> {
    let app = App::start(settings).await?;
    shutdown.cancelled().await;
    app.stop().await;
    Ok(())
}

async fn open(settings: &Settings) -> Result<(Arc<Registry>, Arc<dyn DocumentStore>), StartError> {
    let folder = settings.data_dir.clone();
    let options = registry::Options {
        mesh_domain: settings.mesh_domain.clone(),
        hold_down: settings.hold_down,
        file: Some(folder.join("registry.bin")),
    };
    let opened = tokio::task::spawn_blocking(move || {
        private_folder(&folder).map_err(|error| StartError::DataDir { path: folder.clone(), error })?;
        let store = EmbeddedStore::open(&folder.join("documents.redb"))?;
        Ok((Registry::open(options)?, Arc::new(store) as Arc<dyn DocumentStore>))
    });
    opened.await.unwrap_or_else(|error| {
        Err(StartError::DataDir { path: settings.data_dir.clone(), error: io::Error::other(error) })
    })
}

fn private_folder(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

async fn open_identity(options: identity::Options) -> Result<(Arc<Identity>, Arc<Door>), StartError> {
    let folder = options.folder.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let now = SystemTime::now();
        let identity = Identity::open(options, now)?;
        let door = Door::new(identity.clone(), now)?;
        Ok((identity, door))
    });
    opened
        .await
        .unwrap_or_else(|error| Err(StartError::DataDir { path: folder, error: io::Error::other(error) }))
}

async fn bind_if(
    address: Option<SocketAddr>,
    option: &'static str,
) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    match address {
        Some(address) => bind(address, option).await.map(Some),
        None => Ok(None),
    }
}

async fn bind(address: SocketAddr, option: &'static str) -> Result<(TcpListener, SocketAddr), StartError> {
    let fail = |error| StartError::Bind { address, option, error };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

/// Facts and intent to worlds: one task, so worlds come in order.
struct Feed {
    desk: Arc<Desk>,
    compiler: Compiler,
    publisher: Publisher,
    compiled: watch::Sender<Compiled>,
    /// Keys of issuers of tokens.
    keys: jwks::Desk,
    revision: u64,
    /// The last revision that is set aside for this process.
    reserved: u64,
}

impl Feed {
    async fn run(mut self, stop: CancellationToken) {
        let mut facts = self.desk.registry().watch();
        let mut intent = self.desk.store().watch();
        loop {
            facts.mark_unchanged();
            intent.mark_unchanged();
            self.compiler.learn(self.keys.found.borrow_and_update().clone());
            self.advance().await;
            self.compile();
            tokio::select! {
                changed = facts.changed() => if changed.is_err() { return },
                changed = intent.changed() => if changed.is_err() { return },
                changed = self.keys.found.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
            settle(&mut facts, &mut intent).await;
        }
    }

    /// Takes the next revision.
    async fn advance(&mut self) {
        self.revision += 1;
        if self.revision <= self.reserved {
            return;
        }
        match self.desk.store().reserve(REVISIONS_RESERVED).await {
            Ok(first) => {
                self.revision = self.revision.max(first);
                self.reserved = self.revision.max(first + REVISIONS_RESERVED - 1);
            }
            // Serving goes on; only a restart could use the number again.
            Err(error) => tracing::warn!(%error, "configuration revisions cannot be set aside"),
        }
    }

    fn compile(&mut self) {
        let started = Instant::now();
        let view = self.desk.registry().view();
        let stored = self.desk.store().snapshot();
        let in_force = self.desk.in_force(&stored, &view);
        metrics::gauge!("weft_documents").set(in_force.set.len() as f64);
        let world = self.compiler.update(view.mesh.clone(), in_force.set);
        self.keys.wanted.send_if_modified(|before| {
            let wanted = world.key_urls();
            let changed = before.as_deref() != Some(&wanted);
            if changed {
                *before = Some(Arc::new(wanted));
            }
            changed
        });
        let verdict = world.verdict().clone();
        let problems: Vec<_> = in_force.problems.iter().chain(&verdict.problems).collect();
        let errors = problems.iter().filter(|problem| is_error(problem)).count();
        metrics::gauge!("weft_document_problems", "severity" => "error").set(errors as f64);
        metrics::gauge!("weft_document_problems", "severity" => "warning")
            .set((problems.len() - errors) as f64);
        let recompiled = world.recompiled();
        for (unit, count) in [("service", recompiled.services), ("table", recompiled.tables)] {
            metrics::counter!("weft_compile_recompiled_total", "unit" => unit).increment(count as u64);
        }
        metrics::gauge!("weft_config_revision").set(self.revision as f64);
        self.publisher.publish(Arc::new(World { revision: self.revision, world }));
        let (revision, store_revision) = (self.revision, stored.revision);
        self.compiled.send_replace(Compiled { revision, store_revision, verdict });
        tracing::debug!(revision = self.revision, took = ?started.elapsed(), "configuration compiled");
    }
}

/// Waits until changes pause, or long enough.
async fn settle(facts: &mut watch::Receiver<u64>, intent: &mut watch::Receiver<u64>) {
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let quiet = (Instant::now() + SETTLE).min(deadline);
        tokio::select! {
            _ = facts.changed() => {}
            _ = intent.changed() => {}
            () = tokio::time::sleep_until(quiet) => return,
        }
        if Instant::now() >= deadline {
            return;
        }
    }
}

/// A compiled world under the revision that it was published with.
struct World {
    revision: u64,
    world: Arc<compile::World>,
}

impl crate::ads::World for World {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn resources(&self, node: &NodeMetadata, asked: &Asked) -> Arc<ResourceSet> {
        self.world.resources_asked(node, asked)
    }
}

#[cfg(test)]
mod tests;
