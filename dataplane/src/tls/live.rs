//! Between what the control plane asks for and what runs: gives each configuration its TLS contexts, and makes them anew
//! when a certificate on disk or the proxy's own identity changes.

use std::sync::Arc;

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    contexts::{self, Contexts},
    files::{Disk, INTERVAL},
    store::{Missing, Secrets},
};
use crate::{
    identity::{Current, Svid},
    spec::Spec,
};

/// Passes on every configuration of `asked`, with its contexts, until stopped. Files that are new to one are read before it
/// is passed on, so that no connection comes too early.
pub async fn run(
    mut asked: watch::Receiver<Arc<Spec>>,
    live: watch::Sender<Arc<Spec>>,
    mut identity: Option<Current>,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut disk = Disk::default();
    let mut current = Arc::new(Contexts::default());
    let mut complaints = Vec::new();
    let mut open = true;
    loop {
        let again = tokio::select! {
            () = stop.cancelled() => return,
            changed = asked.changed(), if open => {
                open = changed.is_ok();
                false
            }
            () = changed(&mut identity) => true,
            _ = tick.tick(), if !disk.is_empty() => true,
        };
        let spec = asked.borrow_and_update().clone();
        if !contexts::any(&spec) {
            if !again {
                current = Arc::default();
                live.send_replace(spec);
            }
            continue;
        }
        disk.read(contexts::files(&spec), again).await;
        let secrets =
            Secrets { named: spec.secrets.clone(), files: disk.files().clone(), own: own(&identity) };
        let next = current.next(&spec, &secrets);
        complain(&next, &mut complaints);
        if !next.same(&current) {
            current = Arc::new(next);
        } else if again {
            continue;
        }
        live.send_replace(Arc::new(Spec { tls: current.clone(), ..Spec::clone(&spec) }));
    }
}

/// Waits for another identity.
async fn changed(identity: &mut Option<Current>) {
    let changed = match identity {
        Some(current) => current.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending().await
    }
}

fn own(identity: &Option<Current>) -> Option<Arc<Svid>> {
    identity.as_ref()?.borrow().clone()
}

/// Says once what is missing.
fn complain(contexts: &Contexts, complaints: &mut Vec<Missing>) {
    let missing: Vec<Missing> = contexts.missing().cloned().collect();
    for problem in missing.iter().filter(|problem| !complaints.contains(problem)) {
        warn!(%problem, "connections that need it are refused");
    }
    metrics::gauge!("weft_tls_contexts_incomplete").set(missing.len() as f64);
    *complaints = missing;
}
