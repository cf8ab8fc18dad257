//! Resolves the endpoints whose addresses are host names, away from the workers. A failed lookup keeps the last answer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::spec::{Cluster, Discovery, Endpoint, EndpointAddress, EndpointSet, LocalityEndpoints, Spec};

/// Lookups at once.
const LOOKUPS_MAX: usize = 8;

/// Time for one lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How finely due times are kept.
const TICK: Duration = Duration::from_millis(500);

/// Resolved endpoint sets by cluster name.
pub type Answers = HashMap<Arc<str>, Answer>;

/// One resolved endpoint set.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The set with names.
    pub of: Arc<EndpointSet>,
    /// The set with addresses.
    pub set: Arc<EndpointSet>,
}

/// A cluster's endpoints as they are known now; none while none have come.
pub fn endpoints<'a>(
    spec: &'a Spec,
    answers: &'a Answers,
    cluster: &'a Cluster,
) -> Option<&'a Arc<EndpointSet>> {
    match &cluster.discovery {
        Discovery::Eds(name) => spec.endpoints.get(name),
        Discovery::Static(set) => Some(set),
        Discovery::Dns { .. } => answers.get(&cluster.name).map(|answer| &answer.set),
    }
}

/// Keeps `answers` fresh until stopped.
pub async fn run(
    mut spec: watch::Receiver<Arc<Spec>>,
    answers: watch::Sender<Answers>,
    stop: CancellationToken,
) {
    let mut due: HashMap<Arc<str>, (Arc<EndpointSet>, Instant)> = HashMap::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
            changed = spec.changed(), if open => open = changed.is_ok(),
        }
        let current = spec.borrow_and_update().clone();
        let now = Instant::now();
        due.retain(|name, _| current.clusters.contains_key(name));
        let mut stale = Vec::new();
        for (name, cluster) in &current.clusters {
            let Discovery::Dns { endpoints, refresh, first } = &cluster.discovery else { continue };
            let fresh = due.get(name).is_some_and(|(of, at)| Arc::ptr_eq(of, endpoints) && *at > now);
            if !fresh {
                due.insert(name.clone(), (endpoints.clone(), now + (*refresh).max(TICK)));
                stale.push((cluster.clone(), endpoints.clone(), *first));
            }
        }
        if stale.is_empty() {
            continue;
        }
        let found: Vec<_> = futures::stream::iter(stale)
            .map(|(cluster, endpoints, first)| resolve(cluster, endpoints, first))
            .buffer_unordered(LOOKUPS_MAX)
            .filter_map(std::future::ready)
            .collect()
            .await;
        answers.send_if_modified(|answers| publish(answers, &current, found));
    }
}

/// Takes new answers in; whether anything changed.
fn publish(answers: &mut Answers, spec: &Spec, found: Vec<(Arc<str>, Answer)>) -> bool {
    let before = answers.len();
    answers.retain(|name, _| spec.clusters.contains_key(name));
    let mut changed = before != answers.len();
    for (name, answer) in found {
        let same = answers
            .get(&name)
            .is_some_and(|old| Arc::ptr_eq(&old.of, &answer.of) && same_endpoints(&old.set, &answer.set));
        if !same {
            answers.insert(name, answer);
            changed = true;
        }
    }
    changed
}

fn same_endpoints(a: &EndpointSet, b: &EndpointSet) -> bool {
    a.endpoints().eq(b.endpoints())
}

/// Resolves every name of a set; none when any lookup fails, so that the last answer stays.
async fn resolve(cluster: Arc<Cluster>, of: Arc<EndpointSet>, first: bool) -> Option<(Arc<str>, Answer)> {
    let mut localities = Vec::with_capacity(of.localities.len());
    for locality in &of.localities {
        let mut endpoints = Vec::with_capacity(locality.endpoints.len());
        for endpoint in &locality.endpoints {
            let EndpointAddress::Name(name, port) = &endpoint.address else {
                endpoints.push(endpoint.clone());
                continue;
            };
            let lookup =
                tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((&**name, *port))).await;
            let Ok(Ok(addresses)) = lookup else {
                warn!(cluster = %cluster.name, host = %name, "cannot resolve host name; keeping the last answer");
                return None;
            };
            let mut addresses: Vec<_> = addresses.collect();
            if first {
                addresses.truncate(1);
            }
            addresses.sort_unstable();
            addresses.dedup();
            endpoints.extend(addresses.into_iter().map(|address| {
                Arc::new(Endpoint { address: EndpointAddress::Tcp(address), ..Endpoint::clone(endpoint) })
            }));
        }
        localities.push(LocalityEndpoints { endpoints, ..locality.clone() });
    }
    Some((cluster.name.clone(), Answer { set: Arc::new(EndpointSet { localities, ..*of }), of }))
}
