//! What the process knows of the health of a cluster's endpoints: written beside the workers, read by every pick.
//!
//! Workers hold one [`Vital`] for each endpoint and look at one number, the epoch, to learn that anything changed.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU8, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::tally::{Seen, Suspicion, Tally};
use crate::{
    balance::Standing,
    spec::{EndpointAddress, EndpointHealth, Outlier},
};

/// Ejected by outlier detection.
const EJECTED: u8 = 1;
/// Failed its active health check, or has not passed the first one.
const FAILING: u8 = 2;
/// Has not been checked yet: with the one above it is out until it is, without it is in until it is.
const AWAITED: u8 = 4;

/// The health of one cluster's endpoints.
#[derive(Debug)]
pub struct Vitals {
    origin: Instant,
    /// Goes up with every change; read by each pick.
    epoch: AtomicU64,
    /// Whether any endpoint was marked since the last look.
    marked: AtomicBool,
    /// Whether any endpoint was checked yet.
    checked: AtomicBool,
    /// Wakes who looks after marks.
    wake: Arc<Notify>,
    members: Mutex<HashMap<EndpointAddress, Arc<Vital>>>,
}

/// The health of one endpoint.
#[derive(Debug)]
pub struct Vital {
    flags: AtomicU8,
    /// Since when it is ready for traffic, milliseconds since the cluster's origin.
    ready_ms: AtomicU64,
    /// What requests met there.
    pub tally: Tally,
}

impl Default for Vitals {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Vitals {
    /// Of no endpoints yet. `wake` is told when one should be looked at.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self {
            origin: Instant::now(),
            epoch: AtomicU64::new(1),
            marked: AtomicBool::new(false),
            checked: AtomicBool::new(false),
            wake,
            members: Mutex::default(),
        }
    }

    /// Changes when any endpoint's health does. Never zero.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }

    /// The endpoint at an address. One that is new and `checked` is unhealthy until it passes its first health check; where
    /// none was checked yet, or where it served before, it serves until it fails: what just begins to check can know no
    /// better.
    pub fn of(&self, address: &EndpointAddress, checked: bool) -> Arc<Vital> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vital) = members.get(address) {
            return vital.clone();
        }
        let vital = Arc::new(Vital {
            flags: AtomicU8::new(match (checked, self.checked.load(Relaxed)) {
                (true, true) => FAILING | AWAITED,
                (true, false) => AWAITED,
                (false, _) => 0,
            }),
            ready_ms: AtomicU64::new(self.now_ms()),
            tally: Tally::default(),
        });
        members.insert(address.clone(), vital.clone());
        vital
    }

    /// The endpoint at an address, if any.
    pub fn find(&self, address: &EndpointAddress) -> Option<Arc<Vital>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }

    /// Counts what an attempt met.
    pub fn note(&self, vital: &Vital, config: &Outlier, seen: Seen) {
        if vital.tally.note(config, seen) {
            self.mark();
        }
    }

    /// Asks for the end of an ejection, as a health check passed.
    pub fn pardon(&self, vital: &Vital) {
        if vital.ejected() && vital.tally.suspect(Suspicion::Pardon) {
            self.mark();
        }
    }

    fn mark(&self) {
        self.marked.store(true, Release);
        self.wake.notify_one();
    }

    /// Whether any endpoint was marked since the last call.
    pub fn take_marked(&self) -> bool {
        self.marked.load(Relaxed) && self.marked.swap(false, Acquire)
    }

    /// Forgets the endpoints that nobody holds.
    pub fn prune(&self) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|_, vital| Arc::strong_count(vital) > 1);
    }

    /// Ejects an endpoint or takes it back.
    pub fn set_ejected(&self, vital: &Vital, ejected: bool) {
        self.change(vital, if ejected { EJECTED } else { 0 }, EJECTED);
    }

    /// Takes in what active health checks found. An endpoint that begins to pass is new to traffic.
    pub fn set_failing(&self, vital: &Vital, failing: bool) {
        self.checked.store(true, Relaxed);
        if !failing && vital.has(FAILING) {
            vital.ready_ms.store(self.now_ms(), Relaxed);
        }
        self.change(vital, if failing { FAILING } else { 0 }, FAILING | AWAITED);
    }

    fn change(&self, vital: &Vital, flags: u8, mask: u8) {
        let next = |old: u8| Some((old & !mask) | flags).filter(|new| *new != old);
        if vital.flags.fetch_update(Relaxed, Relaxed, next).is_ok() {
            // Whoever sees the new epoch sees the flags too.
            self.epoch.fetch_add(1, Release);
        }
    }

    /// Since when an endpoint is ready for traffic.
    pub fn ready(&self, vital: &Vital) -> Instant {
        self.origin + Duration::from_millis(vital.ready_ms.load(Relaxed))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Vital {
    /// How the endpoint stands, with what the control plane says. `awaited_count` is false where an endpoint counts only
    /// after its first health check.
    pub fn standing(&self, health: EndpointHealth, awaited_count: bool) -> Standing {
        match health {
            EndpointHealth::Draining => Standing::Draining,
            EndpointHealth::Unhealthy => Standing::Unhealthy,
            _ if self.has(AWAITED) && self.has(FAILING) && !awaited_count => Standing::Awaited,
            _ if self.has(FAILING | EJECTED) => Standing::Unhealthy,
            EndpointHealth::Degraded => Standing::Degraded,
            EndpointHealth::Admitting => Standing::Healthy,
        }
    }

    /// Whether outlier detection has ejected it.
    pub fn ejected(&self) -> bool {
        self.has(EJECTED)
    }

    /// Whether its first check is awaited.
    pub fn awaited(&self) -> bool {
        self.has(AWAITED)
    }

    /// Whether active health checks find it failing.
    pub fn failing(&self) -> bool {
        self.has(FAILING)
    }

    fn has(&self, flags: u8) -> bool {
        self.flags.load(Relaxed) & flags != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> EndpointAddress {
        EndpointAddress::Tcp(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn only_a_change_moves_the_epoch() {
        let vitals = Vitals::default();
        let vital = vitals.of(&address(1), false);
        let epoch = vitals.epoch();
        vitals.set_ejected(&vital, false);
        vitals.set_failing(&vital, false);
        assert_eq!(vitals.epoch(), epoch);
        vitals.set_ejected(&vital, true);
        vitals.set_ejected(&vital, true);
        vitals.set_failing(&vital, true);
        assert_eq!(vitals.epoch(), epoch + 2);
        vitals.set_ejected(&vital, false);
        assert_eq!(vitals.epoch(), epoch + 3);
        assert!(!vital.ejected() && vital.failing());
    }

    #[test]
    fn a_checked_endpoint_that_is_new_awaits_its_first_check() {
        let vitals = Vitals::default();
        let standing = |vital: &Vital, count| vital.standing(EndpointHealth::Admitting, count);
        let first = vitals.of(&address(3), true);
        assert_eq!(
            (standing(&first, false), first.awaited()),
            (Standing::Healthy, true),
            "nothing is known yet"
        );
        vitals.set_failing(&first, true);
        assert_eq!((standing(&first, false), first.awaited()), (Standing::Unhealthy, false));
        let (new, served) = (vitals.of(&address(1), true), vitals.of(&address(2), false));
        assert_eq!(standing(&new, true), Standing::Unhealthy);
        assert_eq!(standing(&new, false), Standing::Awaited);
        vitals.set_failing(&new, false);
        assert_eq!(standing(&new, false), Standing::Healthy);
        assert!(Arc::ptr_eq(&served, &vitals.of(&address(2), true)));
        assert_eq!(standing(&served, true), Standing::Healthy);
    }

    #[test]
    fn the_control_planes_word_comes_first() {
        let vitals = Vitals::default();
        let vital = vitals.of(&address(1), false);
        vitals.set_ejected(&vital, true);
        assert_eq!(vital.standing(EndpointHealth::Draining, true), Standing::Draining);
        assert_eq!(vital.standing(EndpointHealth::Degraded, true), Standing::Unhealthy);
        vitals.set_ejected(&vital, false);
        assert_eq!(vital.standing(EndpointHealth::Degraded, true), Standing::Degraded);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_new_again_when_it_passes_after_it_failed() {
        let vitals = Vitals::default();
        let vital = vitals.of(&address(1), false);
        let first = vitals.ready(&vital);
        tokio::time::advance(Duration::from_secs(5)).await;
        vitals.set_failing(&vital, false);
        assert_eq!(vitals.ready(&vital), first);
        vitals.set_failing(&vital, true);
        vitals.set_failing(&vital, false);
        assert_eq!(vitals.ready(&vital), first + Duration::from_secs(5));
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let vitals = Vitals::default();
        let held = vitals.of(&address(1), false);
        drop(vitals.of(&address(2), false));
        vitals.prune();
        let members = vitals.members.lock().unwrap();
        assert_eq!(members.len(), 1);
        assert!(Arc::ptr_eq(&held, &members[&address(1)]));
    }
}
