//! One upstream service as a worker sees it: its endpoints, whose turn it is, and connections to them.

pub mod check;
pub mod dns;
mod keepalive;
mod original;
pub mod outlier;
mod pool;
mod tables;
pub mod tally;
pub mod vital;

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    num::NonZeroUsize,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::rngs::SmallRng;
use tokio::{sync::Notify, time::Instant};

pub use pool::{Failed, Lease, Opened, Pool};

use crate::{
    balance::{Balancer, Gauges, Policy, State, ewma::Latency},
    fault::{Cause, Fault},
    retry::Outcome,
    spec::{self, Balancing, ClusterLimits, Discovery, EndpointAddress, EndpointSet},
    stream::Ends,
    telemetry::load::{Dropped, Drops, Load, LoadCell, Place, WorkerLoads},
    tls::{client::ClientContext, contexts::Contexts},
};
use original::Originals;
use tables::Tables;
use tally::Seen;
use vital::{Vital, Vitals};

/// What all workers share of a cluster: what counts against its limits, and the health of its endpoints.
#[derive(Debug, Default)]
pub struct Counters {
    /// Open connections.
    pub connections: AtomicU32,
    /// Requests that wait for a connection.
    pub pending: AtomicU32,
    /// Active requests.
    pub requests: AtomicU32,
    /// Active retries.
    pub retries: AtomicU32,
    /// Whether there ever was a connection.
    pub used: AtomicBool,
    /// Health of the endpoints.
    pub vitals: Vitals,
    /// Hash tables.
    tables: Tables,
}

impl Counters {
    /// Nothing counted. `wake` is told when the health of an endpoint should be looked at.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { vitals: Vitals::new(wake), ..Self::default() }
    }
}

/// One more than a counter until dropped.
#[derive(Debug)]
pub struct Counted(Arc<Counters>, fn(&Counters) -> &AtomicU32);

impl Counted {
    /// Counts one if that keeps within `max`.
    pub fn new(counters: &Arc<Counters>, of: fn(&Counters) -> &AtomicU32, max: u32) -> Option<Self> {
        let counter = of(counters);
        if counter.fetch_add(1, Relaxed) >= max {
            counter.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Self(counters.clone(), of))
    }

    /// Counts one whatever the limit is.
    pub fn always(counters: &Arc<Counters>, of: fn(&Counters) -> &AtomicU32) -> Self {
        of(counters).fetch_add(1, Relaxed);
        Self(counters.clone(), of)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Relaxed);
    }
}

/// One endpoint as a worker sees it.
#[derive(Debug)]
pub struct Host {
    /// Names it in this worker's cache of metrics; never used twice.
    pub id: u64,
    /// What the control plane said.
    pub spec: Arc<spec::Endpoint>,
    /// Its cluster's spec.
    pub cluster: Arc<spec::Cluster>,
    /// What connections to it begin with.
    pub link: Link,
    /// Connections to it; outlives changes of weight, health and labels, as do the following.
    pub pool: Rc<Pool>,
    /// Its health as the process finds it.
    pub vital: Arc<Vital>,
    /// Where its attempts are counted for the control plane.
    load: Rc<LoadCell>,
    /// Its expected latency, where that decides.
    latency: Option<Rc<Cell<Latency>>>,
}

/// What connections begin with.
#[derive(Clone, Debug)]
pub enum Link {
    /// Nothing.
    Plain,
    /// A TLS handshake.
    Tls(Arc<ClientContext>),
    /// A TLS handshake for which a secret is missing: there are no connections.
    Incomplete,
}

/// What connections to the endpoints of a cluster begin with.
#[derive(Clone, Debug)]
pub struct Links {
    /// To endpoints for which none of the others is.
    pub usual: Link,
    /// In the order of the cluster's `tls_matches`.
    matches: Vec<Link>,
}

impl Links {
    /// Of a cluster.
    pub fn new(cluster: &spec::Cluster, contexts: &Contexts) -> Self {
        let matches = cluster.tls_matches.iter().map(|of| Link::new(of.tls.as_deref(), contexts));
        Self { usual: Link::new(cluster.tls.as_deref(), contexts), matches: matches.collect() }
    }

    /// To an endpoint of the cluster that they are of.
    pub fn to(&self, cluster: &spec::Cluster, endpoint: &spec::Endpoint) -> &Link {
        let found = cluster.tls_matches.iter().position(|matches| matches.is_for(endpoint));
        found.map_or(&self.usual, |index| &self.matches[index])
    }

    /// Whether they are the very same.
    pub fn same(&self, other: &Self) -> bool {
        let matches = self.matches.iter().zip(&other.matches);
        self.matches.len() == other.matches.len()
            && self.usual.same(&other.usual)
            && matches.into_iter().all(|(a, b)| a.same(b))
    }
}

impl Link {
    fn new(tls: Option<&spec::UpstreamTls>, contexts: &Contexts) -> Self {
        match tls {
            None => Self::Plain,
            Some(tls) => contexts.client(tls).map_or(Self::Incomplete, |context| Self::Tls(context.clone())),
        }
    }

    /// Whether it is the very same.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tls(a), Self::Tls(b)) => Arc::ptr_eq(a, b),
            (Self::Plain, Self::Plain) | (Self::Incomplete, Self::Incomplete) => true,
            (Self::Plain | Self::Tls(_) | Self::Incomplete, _) => false,
        }
    }
}

/// One cluster as a worker sees it.
#[derive(Debug)]
pub struct Cluster {
    /// Names it in this worker's cache of metrics; never used twice.
    pub id: u64,
    /// What the control plane said.
    pub spec: Arc<spec::Cluster>,
    /// Its endpoints, as given.
    pub set: Arc<EndpointSet>,
    /// What connections to them begin with.
    pub links: Links,
    /// What all workers share.
    pub counters: Arc<Counters>,
    /// Every endpoint, in the set's order, which is the balancer's.
    hosts: Vec<Rc<Host>>,
    balancer: RefCell<Balancer>,
    /// Where requests are counted that it drops.
    drops: OnceCell<Arc<Drops>>,
    /// Where clients wanted to connect, in a cluster that is for that.
    originals: Originals,
    /// The epoch of the endpoints' health that the balancer knows.
    epoch: Cell<u64>,
    made: Instant,
}

impl Cluster {
    /// Builds a cluster; what is known of endpoints that stay is taken over from `previous`.
    pub fn new(
        spec: Arc<spec::Cluster>,
        set: Arc<EndpointSet>,
        links: Links,
        previous: Option<&Cluster>,
        counters: Arc<Counters>,
        mut next_id: impl FnMut() -> u64,
    ) -> Self {
        let policy = Policy {
            balancing: spec.balancing,
            slow_start: spec.slow_start,
            locality_weighted: spec.locality_weighted,
            panic_percent: spec.panic_percent,
        };
        let balancer = Balancer::new(policy, &set, |plan| counters.tables.get(plan));
        let mut known: HashMap<EndpointAddress, Rc<Host>> = previous
            .into_iter()
            .flat_map(|previous| &previous.hosts)
            .map(|host| (host.spec.address.clone(), host.clone()))
            .collect();
        let mut hosts = Vec::new();
        let located = set.localities.iter().flat_map(|locality| {
            let place = Place {
                cluster: spec.name.clone(),
                locality: locality.locality.clone(),
                priority: locality.priority,
            };
            let load = Rc::new(LoadCell::new(place));
            locality.endpoints.iter().map(move |endpoint| (endpoint, load.clone()))
        });
        for (endpoint, load) in located {
            let old = known.get(&endpoint.address);
            let latency = match &spec.balancing {
                Balancing::PeakEwma(config) => old
                    .and_then(|old| old.latency.clone())
                    .or_else(|| Some(Rc::new(Cell::new(Latency::new(config))))),
                _ => None,
            };
            let host = Rc::new(Host {
                id: next_id(),
                spec: endpoint.clone(),
                cluster: spec.clone(),
                link: links.to(&spec, endpoint).clone(),
                // What was opened for another kind of connection is not taken for this one.
                pool: old
                    .filter(|old| old.cluster.tls_of(&old.spec) == spec.tls_of(endpoint))
                    .map(|old| old.pool.clone())
                    .unwrap_or_default(),
                vital: counters.vitals.of(&endpoint.address, spec.checks(endpoint)),
                load,
                latency,
            });
            // An address that is given twice is one endpoint with one pool.
            known.entry(endpoint.address.clone()).or_insert_with(|| host.clone());
            hosts.push(host);
        }
        counters.vitals.prune();
        let originals = Originals::new(spec.name.clone());
        Self {
            id: next_id(),
            spec,
            set,
            links,
            counters,
            hosts,
            balancer: RefCell::new(balancer),
            drops: OnceCell::new(),
            originals,
            epoch: Cell::new(0),
            made: Instant::now(),
        }
    }

    /// The endpoint that a request or connection goes to: where its client wanted to connect, in a cluster that is for
    /// that, else one that is picked.
    pub fn choose(
        &self,
        rng: &mut SmallRng,
        hash: Option<u64>,
        ends: &Ends,
        tried: Tried<'_>,
    ) -> Result<Rc<Host>, Fault> {
        match self.spec.discovery {
            Discovery::OriginalDestination => self.originals.host(self, ends.original),
            Discovery::Eds(_) | Discovery::Static(_) | Discovery::Dns { .. } => self.pick(rng, hash, tried),
        }
    }

    /// Picks an endpoint, other than what was tried where there is one. `hash` is the request's, if it has one.
    pub fn pick(&self, rng: &mut SmallRng, hash: Option<u64>, tried: Tried<'_>) -> Result<Rc<Host>, Fault> {
        let mut balancer = self.balancer.borrow_mut();
        let epoch = self.counters.vitals.epoch();
        if epoch != self.epoch.get() {
            self.epoch.set(epoch);
            balancer.refresh(Instant::now(), |index| self.state(index), rng);
        }
        // Most strategies need no clock.
        let timed = self.spec.slow_start.is_some() || matches!(self.spec.balancing, Balancing::PeakEwma(_));
        let now = if timed { Instant::now() } else { self.made };
        let moment = Moment { hosts: &self.hosts, tried, now };
        let picked = balancer.pick(now, hash, &moment, rng);
        picked.map(|index| self.hosts[index].clone()).ok_or_else(|| Cause::NoEndpoint.into())
    }

    fn state(&self, index: usize) -> State {
        let host = &self.hosts[index];
        State {
            standing: host.vital.standing(host.spec.health, self.spec.unchecked_count),
            ready: self.counters.vitals.ready(&host.vital),
        }
    }

    /// Takes in how an attempt ended, for outlier detection.
    pub fn note(&self, host: &Host, outcome: Outcome) {
        let Some(config) = &self.spec.outlier else { return };
        let seen = match outcome {
            Outcome::Response { status, grpc } => {
                Seen::Status(grpc.map_or(status.as_u16(), tally::status_of_grpc))
            }
            Outcome::Fault { fault, .. } => match fault.cause {
                Cause::ConnectFailed
                | Cause::ConnectTimeout
                | Cause::UpstreamClosed
                | Cause::UpstreamReset(_) => Seen::Broken,
                Cause::RequestTimeout | Cause::TryTimeout => Seen::Late,
                // Nothing that the endpoint has to do with.
                Cause::BadRequest
                | Cause::BadPath
                | Cause::UpgradeRefused
                | Cause::NoRoute
                | Cause::NotTold
                | Cause::TooManyUntold
                | Cause::NoCluster(_)
                | Cause::NoEndpoint
                | Cause::Overflow
                | Cause::IdleTimeout
                | Cause::BodyTooLarge
                | Cause::AccessDenied
                | Cause::RateLimited(_)
                | Cause::Injected(..) => return,
            },
        };
        self.counters.vitals.note(&host.vital, config, seen);
    }

    /// Takes in that a connection was made, where no answer will be seen.
    pub fn note_connected(&self, host: &Host) {
        if let Some(config) = &self.spec.outlier {
            self.counters.vitals.note(&host.vital, config, Seen::Connected);
        }
    }

    /// Counts a request that it drops.
    pub fn count_dropped(&self, loads: &WorkerLoads, why: Dropped) {
        self.drops.get_or_init(|| loads.drops(&self.spec.name)).count(why);
    }

    /// Whether one more retry keeps within the limit or budget.
    pub fn retry(&self) -> Option<Counted> {
        let ClusterLimits { retries_max, retry_budget_percent, retry_concurrency_min, .. } = self.spec.limits;
        let max = if retry_budget_percent == 0 && retry_concurrency_min == 0 {
            retries_max
        } else {
            let active = u64::from(self.counters.requests.load(Relaxed));
            let share = u32::try_from(active * u64::from(retry_budget_percent) / 100).unwrap_or(u32::MAX);
            share.max(retry_concurrency_min)
        };
        Counted::new(&self.counters, |counters| &counters.retries, max)
    }

    /// Closes connections that idled too long or that their peers closed.
    pub fn sweep(&self, now: Instant) {
        self.originals.sweep(self, now);
        for host in &self.hosts {
            host.pool.sweep(now, self.spec.idle_timeout, self.spec.connection_age_max);
        }
    }
}

impl Host {
    /// Where its attempts are counted for the control plane.
    pub fn load(&self, loads: &WorkerLoads) -> &Arc<Load> {
        self.load.get(loads)
    }

    /// Takes in how long an attempt took until its response's head came, or until it failed.
    pub fn observe(&self, took: Duration, failed: bool) {
        let (Some(latency), Balancing::PeakEwma(config)) = (&self.latency, &self.cluster.balancing) else {
            return;
        };
        let (mut next, now) = (latency.get(), Instant::now());
        if failed {
            next.fail(config, took, now);
        } else {
            next.observe(config, took, now);
        }
        latency.set(next);
    }

    /// Whether [`Self::observe`] is worth a look at the clock.
    pub fn observes(&self) -> bool {
        self.latency.is_some()
    }
}

/// Where a request was tried, and what that means for the next try.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried<'a> {
    /// The endpoints.
    pub hosts: &'a [Rc<Host>],
    /// Whether others come before them.
    pub avoid: bool,
    /// Each time that so many were tried, their priorities are left while there are others.
    pub leave_every: Option<NonZeroUsize>,
}

impl Tried<'_> {
    /// The endpoints whose priorities are left.
    fn left(&self) -> &[Rc<Host>] {
        let every = self.leave_every.map_or(usize::MAX, NonZeroUsize::get);
        &self.hosts[..self.hosts.len() / every * every]
    }
}

/// The endpoints as they are when one is picked.
struct Moment<'a> {
    hosts: &'a [Rc<Host>],
    tried: Tried<'a>,
    now: Instant,
}

impl Gauges for Moment<'_> {
    fn active(&self, index: usize) -> u32 {
        self.hosts[index].pool.active()
    }

    fn cost(&self, index: usize) -> f64 {
        let host = &self.hosts[index];
        match (&host.latency, &host.cluster.balancing) {
            (Some(latency), Balancing::PeakEwma(config)) => {
                latency.get().cost(config, host.pool.active(), self.now)
            }
            _ => 0.0,
        }
    }

    fn tried(&self, index: usize) -> bool {
        self.tried.avoid && self.is_among(self.tried.hosts, index)
    }

    fn leaves(&self) -> bool {
        !self.tried.left().is_empty()
    }

    fn left(&self, index: usize) -> bool {
        self.is_among(self.tried.left(), index)
    }
}

impl Moment<'_> {
    fn is_among(&self, hosts: &[Rc<Host>], index: usize) -> bool {
        hosts.iter().any(|host| Rc::ptr_eq(&host.pool, &self.hosts[index].pool))
    }
}
