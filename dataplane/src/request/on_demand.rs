//! Requests for hosts that their route table lacks and can ask for: held, within limits, until the control plane has told.
//!
//! A held request has its head in memory and nothing of its body but what the connection's window lets in.

use std::{
    pin::pin,
    rc::Rc,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use http::HeaderValue;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    fault::{Cause, Fault},
    router::Router,
    snapshot::Snapshot,
    spec::{RouteAction, VirtualHost},
    worker::Worker,
};

/// Most requests of the process that are held at once; more are refused.
const HELD_MAX: usize = 1024;

/// How long a request is held.
const HOLD_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest host that is asked for: a name in full with its port.
const HOST_BYTES_MAX: usize = 260;

/// Requests that wait to be told of their hosts, over all workers.
#[derive(Debug)]
pub struct OnDemand {
    names: mpsc::Sender<String>,
    waiting: AtomicUsize,
    refused: AtomicU64,
}

impl OnDemand {
    /// None waiting, and where the names come out that are to be asked for.
    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (names, asked) = mpsc::channel(HELD_MAX);
        (Self { names, waiting: AtomicUsize::new(0), refused: AtomicU64::new(0) }, asked)
    }

    /// Requests that are held now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Requests that were refused because too many were held.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn take_place(&self) -> Option<Place<'_>> {
        if self.waiting.fetch_add(1, Relaxed) < HELD_MAX {
            return Some(Place(self));
        }
        self.waiting.fetch_sub(1, Relaxed);
        None
    }
}

/// Counts a held request.
struct Place<'a>(&'a OnDemand);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// The first snapshot that knows a host which `router` does not, or knows that there is none; nothing where there is nothing
/// to wait for.
pub async fn told(
    worker: &Worker,
    router: &Router,
    host: &HeaderValue,
) -> Result<Option<Rc<Snapshot>>, Fault> {
    let table = router.config();
    let Some(host) = host.to_str().ok().filter(|host| host.len() <= HOST_BYTES_MAX) else { return Ok(None) };
    if !table.on_demand || router.virtual_host(host).is_some() {
        return Ok(None);
    }
    let name = format!("{}/{host}", table.name);
    if worker.snapshot().is_absent(&name) {
        return Ok(None);
    }
    let shared = &worker.shared.on_demand;
    let place = shared.take_place().filter(|_| shared.names.try_send(name.clone()).is_ok());
    let Some(_place) = place else {
        shared.refused.fetch_add(1, Relaxed);
        return Err(Cause::TooManyUntold.into());
    };
    let deadline = Instant::now() + HOLD_TIMEOUT;
    loop {
        let applied = worker.applied();
        let snapshot = worker.snapshot();
        let found = snapshot.router(&table.name).and_then(|router| router.virtual_host(host));
        let ready = found.is_some_and(|found| has_endpoints(found, &snapshot));
        let known = found.is_some();
        if ready || snapshot.is_absent(&name) {
            return Ok(Some(snapshot));
        }
        match timeout_at(deadline, pin!(applied)).await {
            Ok(()) => {}
            // Endpoints that did not come are the cluster's trouble, and are answered as such.
            Err(_) if known => return Ok(Some(snapshot)),
            Err(_) => return Err(Cause::NotTold.into()),
        }
    }
}

/// Whether the endpoints have come of everything that a host leads to.
fn has_endpoints(host: &VirtualHost, snapshot: &Snapshot) -> bool {
    let forwards = host.routes.iter().filter_map(|route| match &route.action {
        RouteAction::Forward(forward) => Some(forward),
        RouteAction::Redirect(_) | RouteAction::Direct(_) => None,
    });
    let mut clusters = forwards.flat_map(|forward| &forward.clusters);
    clusters.all(|cluster| snapshot.has_endpoints(&cluster.name))
}
