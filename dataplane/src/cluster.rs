//! One upstream service as a worker sees it: its endpoints, whose turn it is, and connections to them.

pub mod dns;
mod pool;

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use rand::rngs::SmallRng;

pub use pool::{Failed, Lease, Opened, Pool};

use crate::{
    balance::{Balancer, Policy},
    fault::{Cause, Fault},
    spec::{self, ClusterLimits, EndpointAddress, EndpointSet},
};

/// What all workers count together against a cluster's limits.
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
    /// Connections to it; outlives changes of weight, health and labels.
    pub pool: Rc<Pool>,
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
    /// Process-wide counts.
    pub counters: Arc<Counters>,
    /// Those that may be picked, in the balancer's order.
    hosts: Vec<Rc<Host>>,
    /// Every endpoint's pool, draining ones included.
    pools: HashMap<EndpointAddress, Rc<Pool>>,
    balancer: RefCell<Balancer>,
}

impl Cluster {
    /// Builds a cluster; pools of endpoints that stay are taken over from `previous`.
    pub fn new(
        spec: Arc<spec::Cluster>,
        set: Arc<EndpointSet>,
        previous: Option<&Cluster>,
        counters: Arc<Counters>,
        rng: &mut SmallRng,
        mut next_id: impl FnMut() -> u64,
    ) -> Self {
        let policy = Policy {
            balancing: spec.balancing,
            locality_weighted: spec.locality_weighted,
            panic_percent: spec.panic_percent,
        };
        let (balancer, places) = Balancer::new(policy, &set, rng);
        let pools: HashMap<_, _> = set
            .localities
            .iter()
            .flat_map(|locality| &locality.endpoints)
            .map(|endpoint| {
                let kept = previous.and_then(|previous| previous.pools.get(&endpoint.address)).cloned();
                (endpoint.address.clone(), kept.unwrap_or_default())
            })
            .collect();
        let hosts = places
            .into_iter()
            .map(|(locality, index)| {
                let endpoint = &set.localities[locality].endpoints[index];
                Rc::new(Host {
                    id: next_id(),
                    spec: endpoint.clone(),
                    cluster: spec.clone(),
                    pool: pools[&endpoint.address].clone(),
                })
            })
            .collect();
        Self { id: next_id(), spec, set, counters, hosts, pools, balancer: RefCell::new(balancer) }
    }

    /// Picks an endpoint, another than `tried` where there is one.
    pub fn pick(&self, rng: &mut SmallRng, tried: &[Rc<Host>]) -> Result<Rc<Host>, Fault> {
        let load = |i: usize| self.hosts[i].pool.active();
        let mut balancer = self.balancer.borrow_mut();
        let picked = if tried.is_empty() {
            balancer.pick(rng, load)
        } else {
            let avoid = |i: usize| tried.iter().any(|host| Rc::ptr_eq(&host.pool, &self.hosts[i].pool));
            balancer.pick_other(rng, load, avoid)
        };
        picked.map(|i| self.hosts[i].clone()).ok_or_else(|| Cause::NoEndpoint.into())
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
    pub fn sweep(&self, now: tokio::time::Instant) {
        for pool in self.pools.values() {
            pool.sweep(now, self.spec.idle_timeout, self.spec.connection_age_max);
        }
    }
}
