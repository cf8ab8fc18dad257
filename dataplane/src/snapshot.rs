//! One consistent view of what a worker serves: a request uses one from its first byte to its last.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
};

use crate::{
    cluster::{
        Cluster, Counters, Links,
        dns::{self, Answers},
    },
    router::Router,
    spec::{EndpointSet, Spec},
};

/// Route tables and clusters by name. What an update leaves alone is the same allocation as before, with its pools,
/// balancer and connections.
#[derive(Debug, Default)]
pub struct Snapshot {
    routers: HashMap<Arc<str>, Rc<Router>>,
    clusters: HashMap<Arc<str>, Rc<Cluster>>,
    absent: Arc<BTreeSet<String>>,
    /// Stands for endpoints that have not come; kept so that "still nothing" is no change.
    nothing: Arc<EndpointSet>,
}

/// What making clusters needs of the worker.
pub struct Maker<'a> {
    /// Process-wide counters of a cluster.
    pub counters: &'a dyn Fn(&Arc<str>) -> Arc<Counters>,
    /// Gives every endpoint its number.
    pub next_id: &'a dyn Fn() -> u64,
}

impl Snapshot {
    /// The snapshot after this one.
    pub fn next(&self, spec: &Spec, answers: &Answers, maker: &Maker<'_>) -> Self {
        let routers = spec
            .routes
            .iter()
            .map(|(name, config)| {
                let router = match self.routers.get(name) {
                    Some(old) if Arc::ptr_eq(old.config(), config) => old.clone(),
                    _ => Rc::new(Router::new(config.clone())),
                };
                (name.clone(), router)
            })
            .collect();
        let clusters = spec
            .clusters
            .iter()
            .map(|(name, cluster)| {
                let set = dns::endpoints(spec, answers, cluster).unwrap_or(&self.nothing);
                let old = self.clusters.get(name);
                let links = Links::new(cluster, &spec.tls);
                if let Some(old) = old
                    && Arc::ptr_eq(&old.spec, cluster)
                    && Arc::ptr_eq(&old.set, set)
                    && old.links.same(&links)
                {
                    return (name.clone(), old.clone());
                }
                let counters = old.map_or_else(|| (maker.counters)(name), |old| old.counters.clone());
                let old = old.map(|old| &**old);
                let made =
                    Cluster::new(cluster.clone(), set.clone(), links, old, counters, || (maker.next_id)());
                (name.clone(), Rc::new(made))
            })
            .collect();
        Self { routers, clusters, absent: spec.absent.clone(), nothing: self.nothing.clone() }
    }

    /// A route table by name.
    pub fn router(&self, name: &str) -> Option<&Rc<Router>> {
        self.routers.get(name)
    }

    /// A cluster by name.
    pub fn cluster(&self, name: &str) -> Option<&Rc<Cluster>> {
        self.clusters.get(name)
    }

    /// Whether a virtual host that was asked for on demand does not exist.
    pub fn is_absent(&self, virtual_host: &str) -> bool {
        self.absent.contains(virtual_host)
    }

    /// Whether a cluster's endpoints have come, if there is such a cluster.
    pub fn has_endpoints(&self, cluster: &str) -> bool {
        self.clusters.get(cluster).is_none_or(|cluster| !Arc::ptr_eq(&cluster.set, &self.nothing))
    }

    /// All clusters.
    pub fn clusters(&self) -> impl Iterator<Item = &Rc<Cluster>> {
        self.clusters.values()
    }
}
