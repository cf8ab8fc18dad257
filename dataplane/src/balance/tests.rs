//! Balancers keep their published bounds and never pick what does not admit requests.

use std::sync::Arc;

use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::spec::{Endpoint, EndpointAddress, LocalityEndpoints, Workload};

fn endpoint(weight: u32, health: EndpointHealth) -> Arc<Endpoint> {
    let unknown: Arc<str> = "unknown".into();
    Arc::new(Endpoint {
        address: EndpointAddress::Tcp(([127, 0, 0, 1], 1).into()),
        weight,
        health,
        workload: Workload {
            name: unknown.clone(),
            namespace: unknown.clone(),
            service: unknown.clone(),
            revision: unknown.clone(),
            cluster: unknown,
        },
    })
}

fn locality(priority: u32, weight: u32, endpoints: Vec<Arc<Endpoint>>) -> LocalityEndpoints {
    LocalityEndpoints { priority, weight, locality: "r/z/s".into(), endpoints }
}

fn by(balancing: Balancing) -> Policy {
    Policy { balancing, locality_weighted: false, panic_percent: 0 }
}

const ALL: [Balancing; 3] = [Balancing::RoundRobin, Balancing::LeastRequest, Balancing::Random];

#[test]
fn shares_follow_weights_within_two_percent() {
    const PICKS: usize = 200_000;
    for balancing in ALL {
        let weights = [1, 2, 7, 90];
        let set = EndpointSet {
            localities: vec![locality(
                0,
                0,
                weights.iter().map(|w| endpoint(*w, EndpointHealth::Admitting)).collect(),
            )],
        };
        let rng = &mut StdRng::seed_from_u64(7);
        let (mut balancer, places) = Balancer::new(by(balancing), &set, rng);
        let mut counts = vec![0usize; places.len()];
        for _ in 0..PICKS {
            counts[balancer.pick(rng, |_| 0).unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip(weights) {
            let share = *count as f64 / PICKS as f64;
            assert!((share - f64::from(weight) / 100.0).abs() < 0.02, "{balancing:?} {counts:?}");
        }
    }
}

#[test]
fn draining_and_unhealthy_endpoints_are_never_picked() {
    for balancing in ALL {
        let set = EndpointSet {
            localities: vec![locality(
                0,
                0,
                vec![
                    endpoint(1, EndpointHealth::Draining),
                    endpoint(1, EndpointHealth::Admitting),
                    endpoint(5, EndpointHealth::Unhealthy),
                    endpoint(3, EndpointHealth::Admitting),
                ],
            )],
        };
        let rng = &mut StdRng::seed_from_u64(7);
        let (mut balancer, places) = Balancer::new(by(balancing), &set, rng);
        assert_eq!(places, [(0, 1), (0, 3)]);
        for _ in 0..1000 {
            assert!(balancer.pick(rng, |_| 0).unwrap() < 2);
        }
    }
}

#[test]
fn the_next_priority_serves_when_the_first_has_nothing_to_offer() {
    let set = EndpointSet {
        localities: vec![
            locality(0, 0, vec![endpoint(1, EndpointHealth::Unhealthy)]),
            locality(1, 0, vec![endpoint(1, EndpointHealth::Admitting)]),
            locality(2, 0, vec![endpoint(1, EndpointHealth::Admitting)]),
        ],
    };
    let (_, places) = Balancer::new(by(Balancing::RoundRobin), &set, &mut StdRng::seed_from_u64(7));
    assert_eq!(places, [(1, 0)]);
}

#[test]
fn no_endpoint_gives_none() {
    for balancing in ALL {
        let rng = &mut StdRng::seed_from_u64(7);
        let (mut balancer, _) = Balancer::new(by(balancing), &EndpointSet::default(), rng);
        assert_eq!(balancer.pick(rng, |_| 0), None);
    }
}

#[test]
fn localities_share_by_their_own_weights() {
    let one = |weight| locality(0, weight, vec![endpoint(1, EndpointHealth::Admitting)]);
    let set = EndpointSet { localities: vec![one(80), one(20)] };
    let rng = &mut StdRng::seed_from_u64(7);
    let policy = Policy { locality_weighted: true, ..by(Balancing::RoundRobin) };
    let (mut balancer, _) = Balancer::new(policy, &set, rng);
    let first = (0..1000).filter(|_| balancer.pick(rng, |_| 0) == Some(0)).count();
    assert!((795..=805).contains(&first), "{first}");
}

#[test]
fn least_request_prefers_the_idle_endpoint() {
    let set = EndpointSet {
        localities: vec![locality(
            0,
            0,
            vec![endpoint(1, EndpointHealth::Admitting), endpoint(1, EndpointHealth::Admitting)],
        )],
    };
    let rng = &mut StdRng::seed_from_u64(7);
    let (mut balancer, _) = Balancer::new(by(Balancing::LeastRequest), &set, rng);
    let busy = (0..1000).filter(|_| balancer.pick(rng, |i| [9, 0][i]) == Some(0)).count();
    assert!((200..300).contains(&busy), "both draws fall on the busy one a quarter of the time: {busy}");
}

#[test]
fn a_retry_avoids_the_endpoint_that_failed() {
    let set = EndpointSet {
        localities: vec![locality(
            0,
            0,
            vec![endpoint(1, EndpointHealth::Admitting), endpoint(1, EndpointHealth::Admitting)],
        )],
    };
    let rng = &mut StdRng::seed_from_u64(7);
    let (mut balancer, _) = Balancer::new(by(Balancing::RoundRobin), &set, rng);
    for _ in 0..10 {
        assert_eq!(balancer.pick_other(rng, |_| 0, |i| i == 0), Some(1));
    }
}

#[test]
fn below_the_panic_threshold_health_is_disregarded() {
    let set = EndpointSet {
        localities: vec![locality(
            0,
            0,
            vec![
                endpoint(1, EndpointHealth::Admitting),
                endpoint(1, EndpointHealth::Unhealthy),
                endpoint(1, EndpointHealth::Unhealthy),
            ],
        )],
    };
    let policy = Policy { panic_percent: 50, ..by(Balancing::RoundRobin) };
    let (_, places) = Balancer::new(policy, &set, &mut StdRng::seed_from_u64(7));
    assert_eq!(places.len(), 3);
}
