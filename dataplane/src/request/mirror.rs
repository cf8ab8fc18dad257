//! Copies of requests for other clusters. Nobody waits for their answers, and nothing that happens to them is seen by the
//! request's caller.

use std::{rc::Rc, sync::atomic::Ordering::Relaxed, time::Duration};

use http::HeaderValue;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{
    outgoing::{Copy, Outgoing},
    record::grpc_status,
    speaks_http2,
};
use crate::{
    cluster::{Cluster, Counted, Tried},
    retry::Outcome,
    router::Dice,
    snapshot::Snapshot,
    spec::{Mirror, MirrorHost},
    worker::Worker,
};

/// Most copies under way on one worker.
pub const MIRRORS_MAX: usize = 1024;

/// Time for a copy and its answer where the route has no limit.
const TIME_MAX: Duration = Duration::from_secs(60);

/// All of a share.
const PPM: u32 = 1_000_000;

/// Sends a copy, if this request is among the share that is copied and the limits allow it.
pub(super) fn copy(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    mirror: &Mirror,
    outgoing: &Outgoing,
    limit: Option<Duration>,
) {
    let drawn = mirror.ppm >= PPM || worker.with_rng(|rng| rng.roll(PPM)) < mirror.ppm;
    let Some(cluster) = snapshot.cluster(&mirror.cluster).filter(|_| drawn) else { return };
    let slot = worker.mirror_slot();
    let active = Counted::new(&cluster.counters, |c| &c.requests, cluster.spec.limits.requests_max);
    let (Some(slot), Some(active)) = (slot, active) else {
        worker.shared.shaping.mirrors_refused.fetch_add(1, Relaxed);
        return;
    };
    let http2 = speaks_http2(cluster, outgoing.version);
    let Ok(copy) = outgoing.copy(host(&mirror.host, &outgoing.host), cluster, http2) else { return };
    worker.shared.shaping.mirrored.fetch_add(1, Relaxed);
    let (worker, cluster) = (worker.clone(), cluster.clone());
    worker.clone().tasks.spawn_local(async move {
        let _held = (slot, active);
        let done = timeout(limit.unwrap_or(TIME_MAX), send(&worker, &cluster, copy)).await;
        if done != Ok(true) {
            worker.shared.shaping.mirrors_broken.fetch_add(1, Relaxed);
        }
    });
}

/// Sends a copy and reads the answer to its end, which leaves the connection for others; whether there was one.
async fn send(worker: &Worker, cluster: &Cluster, copy: Copy) -> bool {
    let Ok(host) = worker.with_rng(|rng| cluster.pick(rng, None, Tried::default())) else { return false };
    let http2 = match copy.http2() {
        Some(http2) => http2,
        None => match host.agree(&cluster.counters).await {
            Ok(http2) => http2,
            Err(fault) => {
                cluster.note(&host, Outcome::Fault { fault, unsent: true });
                return false;
            }
        },
    };
    match host.send(&cluster.counters, http2, copy.request(http2)).await {
        Ok((response, lease)) => {
            let (status, grpc) = (response.status(), grpc_status(response.headers()));
            cluster.note(&host, Outcome::Response { status, grpc });
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return false;
                }
            }
            lease.give_back();
            true
        }
        Err(failed) => {
            cluster.note(&host, Outcome::Fault { fault: failed.fault, unsent: failed.unsent.is_some() });
            false
        }
    }
}

/// The host of a copy.
fn host(wanted: &MirrorHost, requested: &HeaderValue) -> HeaderValue {
    match wanted {
        MirrorHost::Same => requested.clone(),
        MirrorHost::Literal(host) => host.clone(),
        MirrorHost::Shadow => {
            let bytes = requested.as_bytes();
            let port = bytes
                .iter()
                .rposition(|b| *b == b':')
                .filter(|at| at + 1 < bytes.len() && bytes[at + 1..].iter().all(u8::is_ascii_digit));
            let (name, port) = bytes.split_at(port.unwrap_or(bytes.len()));
            HeaderValue::from_bytes(&[name, b"-shadow", port].concat()).unwrap_or_else(|_| requested.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_copy_is_the_requests_or_its_shadow_or_another() {
        let requested = HeaderValue::from_static("a.b:80");
        for (wanted, expected) in [
            (MirrorHost::Same, "a.b:80"),
            (MirrorHost::Shadow, "a.b-shadow:80"),
            (MirrorHost::Literal(HeaderValue::from_static("c")), "c"),
        ] {
            assert_eq!(host(&wanted, &requested), expected);
        }
        assert_eq!(host(&MirrorHost::Shadow, &HeaderValue::from_static("a")), "a-shadow");
    }
}
