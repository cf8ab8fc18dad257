//! Runs outlier detection: looks at endpoints as they are marked, sweeps each cluster at its interval, tells what was done.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{
        Counters,
        dns::{self, Answers},
        outlier::{Detector, Look, Verdict},
    },
    spec::{Cluster, EndpointSet, Outlier, Spec},
    worker::Shared,
};

/// One cluster under watch.
struct Watch {
    cluster: Arc<Cluster>,
    set: Arc<EndpointSet>,
    counters: Arc<Counters>,
    detector: Detector,
    /// When it is swept next.
    due: Instant,
}

type Watches = BTreeMap<Arc<str>, Watch>;

/// Detects until stopped.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let (mut specs, mut answers) = (shared.spec.clone(), shared.answers.clone());
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    let mut watches = Watches::new();
    // A sender that is gone leaves the last state under watch.
    let (mut specs_open, mut answers_open) = (true, true);
    loop {
        let spec = specs.borrow_and_update().clone();
        follow(&mut watches, &shared, &spec, &answers.borrow_and_update());
        loop {
            let due = watches.values().map(|watch| watch.due).min();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = specs.changed(), if specs_open => {
                    specs_open = changed.is_ok();
                    break;
                }
                changed = answers.changed(), if answers_open => {
                    answers_open = changed.is_ok();
                    break;
                }
                () = shared.look.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            for watch in watches.values_mut() {
                watch.look(&mut rng);
            }
        }
    }
}

/// Watches the clusters that ask for it, with the endpoints that they have now.
fn follow(watches: &mut Watches, shared: &Shared, spec: &Spec, answers: &Answers) {
    watches.retain(|name, watch| {
        let kept = spec.clusters.get(name).is_some_and(|cluster| cluster.outlier.is_some());
        if !kept {
            watch.detector.end(&watch.counters.vitals);
            gauge(name, 0);
        }
        kept
    });
    for (name, cluster) in &spec.clusters {
        let Some(config) = &cluster.outlier else { continue };
        let watch = watches.entry(name.clone()).or_insert_with(|| Watch {
            cluster: cluster.clone(),
            set: Arc::default(),
            counters: shared.counters(name),
            detector: Detector::default(),
            due: Instant::now() + config.interval,
        });
        watch.cluster = cluster.clone();
        // A shorter interval counts at once.
        watch.due = watch.due.min(Instant::now() + config.interval);
        let set = dns::endpoints(spec, answers, cluster).cloned().unwrap_or_default();
        if !Arc::ptr_eq(&watch.set, &set) {
            let vitals = &watch.counters.vitals;
            let endpoints = set.endpoints().map(|endpoint| {
                (endpoint.address.clone(), vitals.of(&endpoint.address, cluster.checks(endpoint)))
            });
            watch.detector.watch(endpoints);
            watch.set = set;
            gauge(name, watch.detector.ejected());
        }
    }
}

impl Watch {
    /// Looks at what was marked, and at everything when that is due.
    fn look(&mut self, rng: &mut impl Rng) {
        let Some(config) = &self.cluster.outlier else { return };
        let (now, vitals) = (Instant::now(), &self.counters.vitals);
        let mut look = Look { config, vitals, now, rng };
        let mut verdicts = Vec::new();
        if vitals.take_marked() {
            verdicts.extend(self.detector.look(&mut look));
        }
        if self.due <= now {
            self.due = now + config.interval;
            verdicts.extend(self.detector.sweep(&mut look));
        }
        if verdicts.is_empty() {
            return;
        }
        for verdict in &verdicts {
            tell(&self.cluster.name, config, verdict);
        }
        gauge(&self.cluster.name, self.detector.ejected());
    }
}

fn gauge(cluster: &Arc<str>, ejected: usize) {
    metrics::gauge!("weft_outlier_ejections_active", "cluster" => cluster.to_string()).set(ejected as f64);
}

fn tell(cluster: &Arc<str>, config: &Outlier, verdict: &Verdict) {
    let (name, reason) = match verdict {
        Verdict::Ejected(endpoint, reason) => {
            let reason = reason.word();
            tracing::warn!(%cluster, %endpoint, reason, "endpoint ejected");
            ("weft_outlier_ejections_total", reason)
        }
        Verdict::Spared(endpoint, reason) => {
            let reason = reason.word();
            tracing::info!(%cluster, %endpoint, reason, "endpoint would be ejected, were that enforced");
            ("weft_outlier_ejections_spared_total", reason)
        }
        Verdict::TooMany(endpoint, reason) => {
            let (reason, limit) = (reason.word(), config.ejections_max_percent);
            tracing::warn!(%cluster, %endpoint, reason, limit, "endpoint not ejected: too many are already");
            ("weft_outlier_ejections_overflow_total", reason)
        }
        Verdict::Returned(endpoint) => {
            tracing::info!(%cluster, %endpoint, "endpoint back from its ejection");
            return;
        }
    };
    metrics::counter!(name, "cluster" => cluster.to_string(), "reason" => reason).increment(1);
}
