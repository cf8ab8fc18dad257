//! Resolves the endpoints whose addresses are host names, away from the workers, each cluster when its last answer has lived
//! its time. A failed lookup keeps the last answer.

mod names;
mod pace;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::names::{Names, Resolved};
use self::pace::{Outcome, wait};
use crate::spec::{
    Cluster, Discovery, Endpoint, EndpointAddress, EndpointSet, LocalityEndpoints, Refresh, Spec,
};

/// Clusters whose names are looked up at once; the others wait their turn.
const LOOKUPS_MAX: usize = 8;

/// Time for one lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

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
        Discovery::OriginalDestination => None,
        Discovery::Dns { .. } => answers.get(&cluster.name).map(|answer| &answer.set),
    }
}

/// One cluster under watch.
struct Watch {
    of: Arc<EndpointSet>,
    refresh: Refresh,
    first: bool,
    /// When its names are looked up next; none while they are.
    due: Option<Instant>,
    /// Failed lookups since the last good one.
    failures: u32,
}

/// What came of a lookup: whose, of which set, and the set with addresses and the time that it may live.
type Found = (Arc<str>, Arc<EndpointSet>, Option<(EndpointSet, Option<Duration>)>);

/// Keeps `answers` fresh until stopped. `lookup` finds the addresses of a host name, or says why not.
pub async fn run<L, F>(
    mut spec: watch::Receiver<Arc<Spec>>,
    answers: watch::Sender<Answers>,
    lookup: L,
    stop: CancellationToken,
) where
    L: Fn(Arc<str>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Resolved, String>> + Send + 'static,
{
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    let mut watches: HashMap<Arc<str>, Watch> = HashMap::new();
    let mut lookups: FuturesUnordered<BoxFuture<'static, Found>> = FuturesUnordered::new();
    // A sender that is gone leaves the last clusters under watch.
    let mut open = true;
    follow(&mut watches, &spec.borrow_and_update());
    loop {
        while lookups.len() < LOOKUPS_MAX
            && let Some((name, watch)) = next_due(&mut watches)
        {
            watch.due = None;
            let (name, of, first, lookup) = (name.clone(), watch.of.clone(), watch.first, lookup.clone());
            lookups.push(Box::pin(async move {
                let found = resolve(&name, &of, first, &lookup).await;
                (name, of, found)
            }));
        }
        let free = lookups.len() < LOOKUPS_MAX;
        let due = watches.values().filter_map(|watch| watch.due).min().filter(|_| free);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = spec.changed(), if open => {
                open = changed.is_ok();
                let current = spec.borrow_and_update().clone();
                follow(&mut watches, &current);
                answers.send_if_modified(|answers| forget(answers, &watches));
            }
            Some((name, of, found)) = lookups.next() => {
                let Some(watch) = watches.get_mut(&name) else { continue };
                // The answer is of what the cluster was before: it is already due again.
                if !Arc::ptr_eq(&watch.of, &of) {
                    continue;
                }
                let outcome = match &found {
                    Some((_, ttl)) => Outcome::Found { ttl: *ttl },
                    None => Outcome::Failed { before: watch.failures },
                };
                watch.failures = if found.is_some() { 0 } else { watch.failures.saturating_add(1) };
                watch.due = Some(Instant::now() + wait(&watch.refresh, outcome, &mut rng));
                if let Some((set, _)) = found {
                    let answer = Answer { of, set: Arc::new(set) };
                    answers.send_if_modified(|answers| publish(answers, name, answer));
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

/// Takes the clusters of a new configuration under watch: what is new or leads elsewhere is due at once.
fn follow(watches: &mut HashMap<Arc<str>, Watch>, spec: &Spec) {
    watches.retain(|name, _| spec.clusters.get(name).is_some_and(|of| is_named(of)));
    for (name, cluster) in &spec.clusters {
        let Discovery::Dns { endpoints, refresh, first } = &cluster.discovery else { continue };
        let same = watches.get(name).is_some_and(|watch| {
            Arc::ptr_eq(&watch.of, endpoints) && watch.refresh == *refresh && watch.first == *first
        });
        if !same {
            let watch = Watch {
                of: endpoints.clone(),
                refresh: *refresh,
                first: *first,
                due: Some(Instant::now()),
                failures: 0,
            };
            watches.insert(name.clone(), watch);
        }
    }
}

fn is_named(cluster: &Cluster) -> bool {
    matches!(cluster.discovery, Discovery::Dns { .. })
}

/// The cluster that has been due for longest.
fn next_due(watches: &mut HashMap<Arc<str>, Watch>) -> Option<(&Arc<str>, &mut Watch)> {
    let now = Instant::now();
    watches
        .iter_mut()
        .filter(|(_, watch)| watch.due.is_some_and(|due| due <= now))
        .min_by_key(|(_, watch)| watch.due)
}

/// Drops the answers of clusters that are gone; whether there were any.
fn forget(answers: &mut Answers, watches: &HashMap<Arc<str>, Watch>) -> bool {
    let before = answers.len();
    answers.retain(|name, _| watches.contains_key(name));
    before != answers.len()
}

/// Takes a new answer in; whether anything changed.
fn publish(answers: &mut Answers, name: Arc<str>, answer: Answer) -> bool {
    let same = answers.get(&name).is_some_and(|old| {
        Arc::ptr_eq(&old.of, &answer.of) && old.set.endpoints().eq(answer.set.endpoints())
    });
    if !same {
        answers.insert(name, answer);
    }
    !same
}

/// Resolves every name of a set, with the shortest life of the answers; none when any lookup fails, so that the last answer
/// stays.
async fn resolve<L, F>(
    cluster: &str,
    of: &EndpointSet,
    first: bool,
    lookup: &L,
) -> Option<(EndpointSet, Option<Duration>)>
where
    L: Fn(Arc<str>) -> F,
    F: Future<Output = Result<Resolved, String>>,
{
    let mut localities = Vec::with_capacity(of.localities.len());
    let mut life: Option<Duration> = None;
    for locality in &of.localities {
        let mut endpoints = Vec::with_capacity(locality.endpoints.len());
        for endpoint in &locality.endpoints {
            let EndpointAddress::Name(name, port) = &endpoint.address else {
                endpoints.push(endpoint.clone());
                continue;
            };
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, lookup(name.clone())).await;
            let Resolved { mut addresses, ttl } = match found
                .unwrap_or_else(|_| Err("no answer in time".into()))
            {
                Ok(resolved) => resolved,
                Err(error) => {
                    metrics::counter!("weft_dns_lookups_total", "result" => "failed").increment(1);
                    warn!(%cluster, host = %name, %error, "cannot resolve host name; keeping the last answer");
                    return None;
                }
            };
            metrics::counter!("weft_dns_lookups_total", "result" => "found").increment(1);
            life = life.into_iter().chain(ttl).min();
            if first {
                addresses.truncate(1);
            }
            addresses.sort_unstable();
            addresses.dedup();
            endpoints.extend(addresses.into_iter().map(|address| {
                let address = EndpointAddress::Tcp((address, *port).into());
                Arc::new(Endpoint { address, ..Endpoint::clone(endpoint) })
            }));
        }
        localities.push(LocalityEndpoints { endpoints, ..locality.clone() });
    }
    Some((EndpointSet { localities, ..*of }, life))
}
