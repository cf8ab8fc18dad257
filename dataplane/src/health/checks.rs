//! Runs active health checks: one task for each endpoint that is checked, which lives as long as neither the endpoint nor
//! its check changes, whatever else does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::probe::{self, Door};
use crate::{
    cluster::{
        Counters, Link, Links,
        check::{Change, Finding, Track},
        dns::{self, Answers},
    },
    spec::{Check, Cluster, Endpoint, EndpointAddress, EndpointSet, Spec},
    worker::Shared,
};

/// Most checks at once; the others wait their turn.
const CHECKS_MAX: usize = 256;

/// The checks of one cluster.
struct Watch {
    cluster: Arc<Cluster>,
    set: Arc<EndpointSet>,
    counters: Arc<Counters>,
    links: Links,
    tasks: HashMap<EndpointAddress, (Target, AbortOnDropHandle<()>)>,
}

type Watches = BTreeMap<Arc<str>, Watch>;

/// What is checked, and how.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    cluster: Arc<str>,
    /// Where requests go.
    endpoint: EndpointAddress,
    /// Where checks go.
    door: Door,
    check: Check,
    /// A check that passes ends an ejection.
    pardons: bool,
}

/// Checks until stopped.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let (mut specs, mut answers) = (shared.spec.clone(), shared.answers.clone());
    let slots = Arc::new(Semaphore::new(CHECKS_MAX));
    let mut watches = Watches::new();
    // A sender that is gone leaves the last state under watch.
    let (mut specs_open, mut answers_open) = (true, true);
    loop {
        let spec = specs.borrow_and_update().clone();
        follow(&mut watches, &shared, &spec, &answers.borrow_and_update(), &slots);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = specs.changed(), if specs_open => specs_open = changed.is_ok(),
            changed = answers.changed(), if answers_open => answers_open = changed.is_ok(),
            // Both are gone: what is watched stays watched.
            () = std::future::pending(), if !specs_open && !answers_open => {}
        }
    }
}

/// Watches the clusters that ask for it, with the endpoints that they have now.
fn follow(watches: &mut Watches, shared: &Shared, spec: &Spec, answers: &Answers, slots: &Arc<Semaphore>) {
    watches.retain(|name, watch| {
        let kept = spec.clusters.get(name).is_some_and(|cluster| cluster.check.is_some());
        if !kept {
            watch.tasks.drain().for_each(|(endpoint, _)| release(&watch.counters, &endpoint));
        }
        kept
    });
    for (name, cluster) in spec.clusters.iter().filter(|(_, cluster)| cluster.check.is_some()) {
        let set = dns::endpoints(spec, answers, cluster).cloned().unwrap_or_default();
        let watch = watches.entry(name.clone()).or_insert_with(|| Watch {
            cluster: cluster.clone(),
            set: Arc::default(),
            counters: shared.counters(name),
            links: Links::new(cluster, &spec.tls),
            tasks: HashMap::new(),
        });
        let links = Links::new(cluster, &spec.tls);
        if !links.same(&watch.links) {
            // What is known stays known; only how it is asked is new.
            watch.tasks.clear();
            watch.links = links;
        }
        if !Arc::ptr_eq(&watch.cluster, cluster) || !Arc::ptr_eq(&watch.set, &set) || watch.tasks.is_empty() {
            (watch.cluster, watch.set) = (cluster.clone(), set);
            watch.renew(slots);
        }
    }
}

/// What is no longer checked is no longer failing its checks.
fn release(counters: &Counters, endpoint: &EndpointAddress) {
    if let Some(vital) = counters.vitals.find(endpoint) {
        counters.vitals.set_failing(&vital, false);
    }
}

impl Watch {
    /// Ends the tasks of what is gone or changed, and starts those that are wanted.
    fn renew(&mut self, slots: &Arc<Semaphore>) {
        let mut before = std::mem::take(&mut self.tasks);
        for endpoint in self.set.endpoints() {
            let Some(target) = target(&self.cluster, endpoint) else { continue };
            let kept = before.remove(&endpoint.address).filter(|(old, _)| *old == target);
            let task = kept.map(|(_, task)| task);
            let task = task.unwrap_or_else(|| {
                let link = self.links.to(&self.cluster, endpoint).clone();
                let target = target.clone();
                let watching = watch(target, link, self.counters.clone(), slots.clone());
                AbortOnDropHandle::new(tokio::spawn(watching))
            });
            self.tasks.insert(endpoint.address.clone(), (target, task));
        }
        before.into_keys().for_each(|endpoint| release(&self.counters, &endpoint));
    }
}

fn target(cluster: &Cluster, endpoint: &Endpoint) -> Option<Target> {
    if !cluster.checks(endpoint) {
        return None;
    }
    let mut address = endpoint.address.clone();
    if let EndpointAddress::Tcp(address) = &mut address {
        address.set_ip(endpoint.check.ip.unwrap_or(address.ip()));
        address.set_port(endpoint.check.port.unwrap_or(address.port()));
    }
    Some(Target {
        cluster: cluster.name.clone(),
        endpoint: endpoint.address.clone(),
        door: Door { address, hostname: endpoint.hostname.clone(), host: endpoint.check.host.clone() },
        check: cluster.check.clone()?,
        pardons: cluster.outlier.as_ref().is_some_and(|outlier| outlier.check_ends_ejection),
    })
}

/// Checks one endpoint again and again.
async fn watch(target: Target, link: Link, counters: Arc<Counters>, slots: Arc<Semaphore>) {
    let Target { cluster, endpoint, door, check, pardons } = target;
    let vitals = &counters.vitals;
    let vital = vitals.of(&endpoint, true);
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    let mut track = Track::new(vital.failing(), vital.awaited());
    let mut failing = vital.failing().then(|| Failing::new(&cluster));
    let counted = |finding: &'static str| metrics::counter!("weft_health_checks_total", "cluster" => cluster.to_string(), "result" => finding);
    let (passed, failed, unanswered) = (counted("passed"), counted("failed"), counted("unanswered"));
    sleep(Track::first_delay(&check, &mut rng)).await;
    loop {
        let slot = match slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) => {
                metrics::counter!("weft_health_checks_waited_total").increment(1);
                // The semaphore is never closed.
                let Ok(slot) = slots.acquire().await else { return };
                slot
            }
        };
        let asked = probe::ask(&check.probe, &door, &link);
        let finding = timeout(check.timeout, asked).await.unwrap_or(Finding::Unanswered);
        drop(slot);
        match finding {
            Finding::Passed => passed.increment(1),
            Finding::Failed => failed.increment(1),
            Finding::Unanswered => unanswered.increment(1),
        }
        let change = track.observe(&check, finding);
        match change {
            Change::Fails => {
                tracing::warn!(%cluster, %endpoint, ?finding, "endpoint fails its health checks");
                failing.get_or_insert_with(|| Failing::new(&cluster));
                vitals.set_failing(&vital, true);
            }
            Change::Passes => {
                tracing::info!(%cluster, %endpoint, "endpoint passes its health checks");
                failing = None;
                vitals.set_failing(&vital, false);
            }
            Change::None | Change::Pending => {}
        }
        if pardons && finding == Finding::Passed && !vital.failing() {
            vitals.pardon(&vital);
        }
        sleep(track.delay(&check, change, counters.used.load(Relaxed), &mut rng)).await;
    }
}

/// One more endpoint that fails, in the metrics, until dropped.
struct Failing(metrics::Gauge);

impl Failing {
    fn new(cluster: &Arc<str>) -> Self {
        let gauge = metrics::gauge!("weft_health_checks_failing", "cluster" => cluster.to_string());
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
