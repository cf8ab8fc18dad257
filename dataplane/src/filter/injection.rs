//! Faults that are made on purpose: a share of requests is held up, a share answered with a status.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use super::{Exchange, Verdict};
use crate::{
    fault::{Cause, Fault},
    router::{Dice, header_matches},
    spec::{Abort, Delay, Injection},
    worker::Shared,
};

/// All of a share.
const PPM: u32 = 1_000_000;

/// A request that is held up.
#[derive(Debug)]
pub(super) struct Hold {
    delay: Delay,
    abort: Option<Fault>,
    _active: Active,
}

/// Counts a fault of the process while it lasts.
#[derive(Debug)]
struct Active(Arc<Shared>);

pub(super) fn check(injection: &Injection, exchange: &mut Exchange<'_>) -> Verdict {
    if !injection.headers.is_empty() {
        let Some(view) = exchange.view() else { return Verdict::Pass };
        if !injection.headers.iter().all(|condition| header_matches(condition, &view)) {
            return Verdict::Pass;
        }
    }
    let (delay, abort) = exchange.serving.worker.with_rng(|rng| draw(injection, rng));
    if delay.is_none() && abort.is_none() {
        return Verdict::Pass;
    }
    let Some(active) = Active::new(&exchange.serving.worker.shared, injection.active_max) else {
        return Verdict::Pass;
    };
    let abort = abort.map(|Abort { status, grpc, .. }| Fault::from(Cause::Injected(status, grpc)));
    match (delay, abort) {
        (Some(delay), abort) => {
            exchange.record.flags.add("DI");
            Verdict::Hold(Hold { delay, abort, _active: active })
        }
        (None, Some(fault)) => Verdict::Fail(fault),
        (None, None) => Verdict::Pass,
    }
}

/// Which of the faults this request meets.
fn draw(injection: &Injection, dice: &mut impl Dice) -> (Option<Delay>, Option<Abort>) {
    let mut hit = |ppm: u32| ppm >= PPM || (ppm > 0 && dice.roll(PPM) < ppm);
    let delay = injection.delay.filter(|delay| hit(delay.ppm));
    (delay, injection.abort.filter(|abort| hit(abort.ppm)))
}

impl Hold {
    /// Waits, and then fails where the request met both faults.
    pub(super) async fn done(self) -> Result<(), Fault> {
        tokio::time::sleep(self.delay.time).await;
        self.abort.map_or(Ok(()), Err)
    }
}

impl Active {
    fn new(shared: &Arc<Shared>, max: Option<u32>) -> Option<Self> {
        let active = Self(shared.clone());
        let before = active.counter().fetch_add(1, Relaxed);
        if max.is_some_and(|max| before >= max) {
            shared.shaping.faults_skipped.fetch_add(1, Relaxed);
            return None;
        }
        Some(active)
    }

    fn counter(&self) -> &AtomicU32 {
        &self.0.shaping.faults
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.counter().fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn delays_and_aborts_are_drawn_apart_and_by_their_shares() {
        let of = |delay_ppm, abort_ppm| Injection {
            headers: Vec::new(),
            delay: Some(Delay { time: Duration::from_secs(1), ppm: delay_ppm }),
            abort: Some(Abort { status: StatusCode::BAD_GATEWAY, grpc: 14, ppm: abort_ppm }),
            active_max: None,
        };
        let mut rng = StdRng::seed_from_u64(1);
        for (delay_ppm, abort_ppm, delays, aborts) in
            [(PPM, 0, 1.0, 0.0), (0, PPM, 0.0, 1.0), (PPM, PPM, 1.0, 1.0), (250_000, 500_000, 0.25, 0.5)]
        {
            let (mut delayed, mut aborted) = (0, 0);
            for _ in 0..10_000 {
                let (delay, abort) = draw(&of(delay_ppm, abort_ppm), &mut rng);
                delayed += i32::from(delay.is_some());
                aborted += i32::from(abort.is_some());
            }
            let near = |count: i32, share: f64| (f64::from(count) / 10_000.0 - share).abs() < 0.02;
            assert!(near(delayed, delays) && near(aborted, aborts), "{delayed} {aborted}");
        }
    }
}
