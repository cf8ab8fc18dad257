//! The endpoints of a cluster that sends connections where their clients wanted to connect: made when one is asked for,
//! forgotten when nothing is open to it.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc, sync::Arc};

use tokio::time::Instant;

use super::{Cluster, Host, Pool};
use crate::{
    fault::{Cause, Fault},
    spec::{Endpoint, EndpointAddress, EndpointHealth, Workload},
    telemetry::load::{LoadCell, Place},
};

/// Most destinations that one worker has connections to; what comes on top is refused as an overflow.
const ORIGINALS_MAX: usize = 16_384;

/// Destinations by address.
#[derive(Debug)]
pub(super) struct Originals {
    known: RefCell<HashMap<SocketAddr, Rc<Host>>>,
    /// They are one place.
    load: Rc<LoadCell>,
}

impl Originals {
    /// None yet, of a cluster of this name.
    pub(super) fn new(cluster: Arc<str>) -> Self {
        let place = Place { cluster, locality: "".into(), priority: 0 };
        Self { known: RefCell::default(), load: Rc::new(LoadCell::new(place)) }
    }

    /// The destination of a connection that was redirected; any other has none but ourselves.
    pub(super) fn host(&self, cluster: &Cluster, to: Option<SocketAddr>) -> Result<Rc<Host>, Fault> {
        let to = to.ok_or(Cause::NoEndpoint)?;
        let mut known = self.known.borrow_mut();
        if let Some(host) = known.get(&to) {
            return Ok(host.clone());
        }
        if known.len() >= ORIGINALS_MAX {
            known.retain(|_, host| in_use(host));
            if known.len() >= ORIGINALS_MAX {
                return Err(Cause::Overflow.into());
            }
        }
        let host = Rc::new(new_host(cluster, self.load.clone(), to));
        known.insert(to, host.clone());
        Ok(host)
    }

    /// Closes what idled too long, and forgets destinations to which nothing is open.
    pub(super) fn sweep(&self, cluster: &Cluster, now: Instant) {
        let mut known = self.known.borrow_mut();
        if known.is_empty() {
            return;
        }
        for host in known.values() {
            host.pool.sweep(now, cluster.spec.idle_timeout, cluster.spec.connection_age_max);
        }
        known.retain(|_, host| in_use(host));
        cluster.counters.vitals.prune();
    }
}

/// Whether anybody holds it or a connection is open to it.
fn in_use(host: &Rc<Host>) -> bool {
    Rc::strong_count(host) > 1 || Rc::strong_count(&host.pool) > 1
}

/// All of them are one to metrics: whatever clients connect to makes no series of its own.
fn new_host(cluster: &Cluster, load: Rc<LoadCell>, to: SocketAddr) -> Host {
    let unknown: Arc<str> = "unknown".into();
    let workload = Workload {
        name: unknown.clone(),
        namespace: unknown.clone(),
        service: unknown.clone(),
        revision: unknown.clone(),
        cluster: unknown,
    };
    let endpoint = Endpoint {
        tls_labels: Default::default(),
        address: EndpointAddress::Tcp(to),
        weight: 1,
        health: EndpointHealth::Admitting,
        hostname: "".into(),
        hash_key: None,
        check: Default::default(),
        workload,
    };
    Host {
        id: cluster.id,
        vital: cluster.counters.vitals.of(&endpoint.address, false),
        spec: Arc::new(endpoint),
        cluster: cluster.spec.clone(),
        link: cluster.links.usual.clone(),
        pool: Rc::<Pool>::default(),
        load,
        latency: None,
    }
}
