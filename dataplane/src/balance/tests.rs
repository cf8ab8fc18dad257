//! Balancers keep their published bounds and never pick what may not be picked.

use std::{cell::RefCell, time::Duration};

use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::spec::{
    EndpointAddress, EndpointCheck, EndpointHealth, LeastRequest, LocalityEndpoints, Maglev, PeakEwma,
    RingFunction, RingHash, Workload,
};

const LEAST: LeastRequest = LeastRequest { choices: Some(2), bias: 1.0 };
const EWMA: PeakEwma = PeakEwma { half_life: Duration::from_secs(10), initial: Duration::from_millis(30) };

fn all() -> [Balancing; 7] {
    let ring = RingHash { size_min: 4096, size_max: 8 << 20, function: RingFunction::Xx, by_hostname: false };
    [
        Balancing::RoundRobin,
        Balancing::LeastRequest(LEAST),
        Balancing::LeastRequest(LeastRequest { choices: None, bias: 1.0 }),
        Balancing::Random,
        Balancing::PeakEwma(EWMA),
        Balancing::RingHash(ring),
        Balancing::Maglev(Maglev { table_size: 4_099, by_hostname: false }),
    ]
}

fn by(balancing: Balancing) -> Policy {
    Policy { balancing, slow_start: None, locality_weighted: false, panic_percent: 0 }
}

fn locality(priority: u32, weight: u32, weights: &[u32]) -> LocalityEndpoints {
    let unknown: Arc<str> = "unknown".into();
    let endpoint = |(port, weight): (usize, &u32)| {
        let address = ([10, priority as u8, weight.to_le_bytes()[0], 1], port as u16 + 1);
        Arc::new(Endpoint {
            tls_labels: Default::default(),
            address: EndpointAddress::Tcp(address.into()),
            weight: *weight,
            health: EndpointHealth::Admitting,
            hostname: "".into(),
            hash_key: None,
            check: EndpointCheck::default(),
            workload: Workload {
                name: unknown.clone(),
                namespace: unknown.clone(),
                service: unknown.clone(),
                revision: unknown.clone(),
                cluster: unknown.clone(),
            },
        })
    };
    let endpoints = weights.iter().enumerate().map(endpoint).collect();
    LocalityEndpoints { priority, weight, locality: "r/z/s".into(), endpoints }
}

/// A balancer with what it is told of its endpoints.
struct Bench {
    balancer: Balancer,
    rng: StdRng,
    now: Instant,
    active: RefCell<Vec<u32>>,
    tried: Vec<usize>,
    left: Vec<usize>,
}

struct View<'a>(&'a [u32], &'a [usize], &'a [usize]);

impl Gauges for View<'_> {
    fn active(&self, index: usize) -> u32 {
        self.0[index]
    }

    fn cost(&self, index: usize) -> f64 {
        f64::from(self.0[index])
    }

    fn tried(&self, index: usize) -> bool {
        self.1.contains(&index)
    }

    fn leaves(&self) -> bool {
        !self.2.is_empty()
    }

    fn left(&self, index: usize) -> bool {
        self.2.contains(&index)
    }
}

impl Bench {
    fn new(policy: Policy, localities: Vec<LocalityEndpoints>, standing: &[Standing]) -> Self {
        let set = EndpointSet { localities, ..EndpointSet::default() };
        let balancer = Balancer::new(policy, &set, |plan| Arc::new(plan.build()));
        let count = set.endpoints().count();
        let mut bench = Self {
            balancer,
            rng: StdRng::seed_from_u64(7),
            now: Instant::now(),
            active: RefCell::new(vec![0; count]),
            tried: Vec::new(),
            left: Vec::new(),
        };
        bench.stand(standing);
        bench
    }

    /// Endpoints beyond the list are healthy.
    fn stand(&mut self, standing: &[Standing]) {
        let (now, rng) = (self.now, &mut self.rng);
        let of = |index: usize| standing.get(index).copied().unwrap_or(Standing::Healthy);
        self.balancer.refresh(now, |index| State { standing: of(index), ready: now }, rng);
    }

    fn pick(&mut self) -> Option<usize> {
        let active = self.active.borrow();
        self.balancer.pick(self.now, None, &View(&active, &self.tried, &self.left), &mut self.rng)
    }

    fn counts(&mut self, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; self.active.borrow().len()];
        for _ in 0..picks {
            counts[self.pick().unwrap()] += 1;
        }
        counts
    }
}

const PICKS: usize = 20_000;

#[track_caller]
fn near(count: usize, picks: usize, share: f64, tolerance: f64) {
    let found = count as f64 / picks as f64;
    assert!((found - share).abs() < tolerance, "{found} instead of {share}");
}

#[test]
fn shares_follow_weights_within_two_percent() {
    let weights = [1, 2, 7, 90];
    for balancing in all() {
        // Two choices of which the load decides make no shares by weight alone.
        if matches!(balancing, Balancing::PeakEwma(_)) {
            continue;
        }
        let mut bench = Bench::new(by(balancing), vec![locality(0, 0, &weights)], &[]);
        for (count, weight) in bench.counts(PICKS).into_iter().zip(weights) {
            near(count, PICKS, f64::from(weight) / 100.0, 0.02);
        }
    }
}

#[test]
fn what_may_not_be_picked_never_is() {
    use Standing::{Awaited, Degraded, Draining, Healthy, Unhealthy};
    let mut rng = StdRng::seed_from_u64(11);
    for balancing in all() {
        for round in 0..30 {
            let standing: Vec<_> = (0..12)
                .map(|_| [Healthy, Degraded, Unhealthy, Awaited, Draining][rng.random_range(0..5)])
                .collect();
            let localities =
                vec![locality(0, 3, &[1, 0, 5]), locality(0, 0, &[1; 4]), locality(1, 1, &[2; 5])];
            let policy = Policy {
                panic_percent: [0, 50][round % 2],
                locality_weighted: round % 3 == 0,
                ..by(balancing)
            };
            let mut bench = Bench::new(policy, localities, &standing);
            let in_panic = bench.balancer.in_panic();
            for _ in 0..200 {
                let Some(picked) = bench.pick() else { continue };
                assert_ne!(picked, 1, "an endpoint of weight 0");
                assert_ne!(standing[picked], Draining);
                assert!(in_panic || matches!(standing[picked], Healthy | Degraded), "{balancing:?}");
            }
        }
    }
}

#[test]
fn load_goes_to_the_next_priority_as_the_first_one_fails() {
    use Standing::Unhealthy;
    for balancing in all() {
        let localities = || vec![locality(0, 0, &[1; 4]), locality(1, 0, &[1; 4])];
        let mut bench = Bench::new(by(balancing), localities(), &[]);
        let first = |counts: Vec<usize>| counts[..4].iter().sum::<usize>();
        assert_eq!(first(bench.counts(1000)), 1000);
        bench.stand(&[Unhealthy; 2]);
        near(first(bench.counts(PICKS)), PICKS, 0.70, 0.02);
        bench.stand(&[Unhealthy; 3]);
        near(first(bench.counts(PICKS)), PICKS, 0.35, 0.02);
        bench.stand(&[Unhealthy; 4]);
        assert_eq!(first(bench.counts(1000)), 0);
        bench.stand(&[Unhealthy; 8]);
        assert_eq!(bench.pick(), None, "no panic without a threshold");
    }
}

#[test]
fn a_priority_that_only_drains_gives_way() {
    let localities = vec![locality(0, 0, &[1]), locality(1, 0, &[1]), locality(2, 0, &[1])];
    let policy = Policy { panic_percent: 50, ..by(Balancing::RoundRobin) };
    let mut bench = Bench::new(policy, localities, &[Standing::Draining]);
    assert_eq!(bench.counts(100), [0, 100, 0]);
}

#[test]
fn degraded_endpoints_take_what_is_too_much_for_the_healthy() {
    use Standing::{Degraded, Healthy};
    for balancing in all() {
        let standing = [Healthy, Degraded, Degraded, Degraded];
        let mut bench = Bench::new(by(balancing), vec![locality(0, 0, &[1; 4])], &standing);
        near(bench.counts(PICKS)[0], PICKS, 0.35, 0.02);
    }
}

#[test]
fn below_the_panic_threshold_health_is_disregarded_but_not_draining() {
    use Standing::{Draining, Healthy, Unhealthy};
    for balancing in all() {
        let policy = Policy { panic_percent: 50, ..by(balancing) };
        let standing = [Healthy, Unhealthy, Unhealthy, Draining];
        let mut bench = Bench::new(policy, vec![locality(0, 0, &[1; 4])], &standing);
        assert!(bench.balancer.in_panic());
        let counts = bench.counts(1000);
        assert!(counts[..3].iter().all(|count| *count > 200) && counts[3] == 0, "{balancing:?} {counts:?}");
    }
}

#[test]
fn no_endpoint_gives_none() {
    for balancing in all() {
        for localities in [Vec::new(), vec![locality(0, 0, &[])], vec![locality(0, 1, &[0])]] {
            for panic_percent in [0, 50] {
                let policy = Policy { panic_percent, locality_weighted: true, ..by(balancing) };
                assert_eq!(Bench::new(policy, localities.clone(), &[]).pick(), None);
            }
        }
    }
}

#[test]
fn localities_share_by_their_own_weights() {
    for balancing in all() {
        let policy = Policy { locality_weighted: true, ..by(balancing) };
        let localities = || vec![locality(0, 80, &[1]), locality(0, 20, &[2, 2, 2]), locality(0, 0, &[3; 9])];
        let mut bench = Bench::new(policy, localities(), &[]);
        let counts = bench.counts(PICKS);
        near(counts[0], PICKS, 0.80, 0.02);
        assert_eq!(counts[4..].iter().sum::<usize>(), 0, "a locality without weight gets nothing");
    }
}

#[test]
fn a_locality_that_fails_gives_up_its_share_beyond_its_overprovisioning() {
    use Standing::{Healthy, Unhealthy};
    let policy = Policy { locality_weighted: true, ..by(Balancing::RoundRobin) };
    let localities = || vec![locality(0, 1, &[1; 10]), locality(0, 1, &[1; 10])];
    let standing = |failed: usize| -> Vec<_> {
        (0..10).map(|index| if index < failed { Unhealthy } else { Healthy }).collect()
    };
    let mut bench = Bench::new(policy, localities(), &[]);
    // Two of ten may fail unnoticed; with five of ten the effective weight is 0.7.
    for (failed, share) in [(2, 0.5), (5, 0.7 / 1.7), (10, 0.0)] {
        bench.stand(&standing(failed));
        let counts = bench.counts(10_000);
        near(counts[..10].iter().sum(), 10_000, share, 0.001);
    }
}

#[test]
fn localities_without_any_weight_are_one_flat_set() {
    let policy = Policy { locality_weighted: true, ..by(Balancing::RoundRobin) };
    let mut bench = Bench::new(policy, vec![locality(0, 0, &[1]), locality(0, 0, &[1; 3])], &[]);
    assert_eq!(bench.counts(100), [25; 4]);
}

#[test]
fn least_request_prefers_the_idle_endpoint() {
    let two = || vec![locality(0, 0, &[1, 1])];
    let mut bench = Bench::new(by(Balancing::LeastRequest(LEAST)), two(), &[]);
    bench.active.borrow_mut()[0] = 9;
    let busy = bench.counts(1000)[0];
    assert!((200..300).contains(&busy), "both draws fall on the busy one a quarter of the time: {busy}");
    for (choices, expected) in [(Some(8), 0..20), (None, 0..1)] {
        let config = LeastRequest { choices, bias: 1.0 };
        let mut bench = Bench::new(by(Balancing::LeastRequest(config)), two(), &[]);
        bench.active.borrow_mut()[0] = 9;
        assert!(expected.contains(&bench.counts(1000)[0]));
    }
}

#[test]
fn where_weights_differ_active_requests_divide_them() {
    for (bias, share) in [(1.0, 2.0 / (2.0 + 1.0)), (2.0, 1.0 / (1.0 + 1.0)), (0.0, 4.0 / (4.0 + 1.0))] {
        let config = LeastRequest { choices: Some(2), bias };
        let mut bench = Bench::new(by(Balancing::LeastRequest(config)), vec![locality(0, 0, &[4, 1])], &[]);
        bench.active.borrow_mut()[0] = 1;
        near(bench.counts(PICKS)[0], PICKS, share, 0.01);
    }
}

#[test]
fn two_choices_keep_the_greatest_load_low() {
    const HOSTS: usize = 1000;
    for balancing in [Balancing::LeastRequest(LEAST), Balancing::PeakEwma(EWMA)] {
        let mut bench = Bench::new(by(balancing), vec![locality(0, 0, &[1; HOSTS])], &[]);
        for _ in 0..HOSTS {
            let picked = bench.pick().unwrap();
            bench.active.borrow_mut()[picked] += 1;
        }
        // log2 ln 1000 is 2.8 above the mean of 1, give or take a constant; one random choice gives 5 or 6 (Azar et al.,
        // "Balanced Allocations").
        let most = *bench.active.borrow().iter().max().unwrap();
        assert!(most <= 4, "{balancing:?}: {most}");
    }
}

#[test]
fn a_retry_avoids_the_endpoints_that_were_tried() {
    for balancing in all() {
        let localities = vec![locality(0, 1, &[1, 1]), locality(0, 1, &[1])];
        let policy = Policy { locality_weighted: true, ..by(balancing) };
        let mut bench = Bench::new(policy, localities, &[]);
        for tried in [vec![0], vec![0, 1], vec![2, 0]] {
            bench.tried.clone_from(&tried);
            for _ in 0..100 {
                let picked = bench.pick().unwrap();
                assert!(!tried.contains(&picked), "{balancing:?}");
            }
        }
        bench.tried = vec![0, 1, 2];
        assert!(bench.pick().is_some(), "where all were tried, any");
    }
}

#[test]
fn a_retry_leaves_the_priorities_that_were_tried_while_there_are_others() {
    for balancing in all() {
        let localities = vec![locality(0, 0, &[1, 1]), locality(1, 0, &[1, 1]), locality(2, 0, &[1])];
        let mut bench = Bench::new(by(balancing), localities, &[]);
        bench.left = vec![0];
        let counts = bench.counts(20);
        assert_eq!(counts[2] + counts[3], 20, "{balancing:?}");
        bench.left = vec![1, 2];
        assert_eq!(bench.counts(20)[4], 20, "{balancing:?}");
        bench.left = vec![0, 2, 4];
        let counts = bench.counts(20);
        assert_eq!(counts[0] + counts[1], 20, "{balancing:?}: where all were left, as if none were");
    }
}

#[test]
fn a_retry_goes_to_the_next_priority_where_all_of_the_first_were_tried() {
    use Standing::{Draining, Healthy};
    for balancing in all() {
        for first in [vec![1], vec![1, 1]] {
            let tried = first.len();
            let localities = vec![locality(0, 0, &first), locality(1, 0, &[1, 1]), locality(2, 0, &[1])];
            let mut standing = vec![Healthy; tried];
            standing.push(Draining);
            let mut bench = Bench::new(by(balancing), localities, &standing);
            bench.tried = (0..tried - 1).collect();
            assert_eq!(bench.counts(20)[tried - 1], 20, "{balancing:?}: one of the first is left");
            bench.tried = (0..tried).collect();
            assert_eq!(bench.counts(20)[tried + 1], 20, "{balancing:?}");
            bench.tried.push(tried + 1);
            assert_eq!(bench.counts(20)[tried + 2], 20, "{balancing:?}");
        }
    }
}

#[test]
fn a_hash_goes_to_the_same_endpoint_until_that_one_fails() {
    for balancing in &all()[5..] {
        let mut bench = Bench::new(by(*balancing), vec![locality(0, 0, &[1; 8])], &[]);
        let mut pick = |standing: &[Standing], hash| {
            bench.stand(standing);
            let active = bench.active.borrow();
            bench.balancer.pick(bench.now, Some(hash), &View(&active, &[], &[]), &mut bench.rng).unwrap()
        };
        for hash in (0..100u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let home = pick(&[], hash);
            assert_eq!(pick(&[], hash), home);
            let mut failed = vec![Standing::Healthy; 8];
            failed[home] = Standing::Unhealthy;
            assert_ne!(pick(&failed, hash), home);
            assert_eq!(pick(&[], hash), home, "it has its keys back");
        }
    }
}

#[test]
fn an_endpoint_that_is_new_gets_its_share_little_by_little() {
    let slow_start = SlowStart { window: Duration::from_secs(100), aggression: 1.0, weight_min: 0.1 };
    for balancing in [Balancing::RoundRobin, Balancing::LeastRequest(LEAST)] {
        let policy = Policy { slow_start: Some(slow_start), ..by(balancing) };
        let mut bench = Bench::new(policy, vec![locality(0, 0, &[1, 1])], &[]);
        let old = bench.now;
        let start = old + Duration::from_secs(1000);
        let ready = |index| State { standing: Standing::Healthy, ready: [old, start][index] };
        bench.balancer.refresh(start, ready, &mut bench.rng);
        for (seconds, part) in [(0, 0.1), (50, 0.5), (100, 1.0), (500, 1.0)] {
            bench.now = start + Duration::from_secs(seconds);
            near(bench.counts(10_000)[1], 10_000, part / (1.0 + part), 0.015);
        }
    }
}
