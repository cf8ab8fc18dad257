//! What is accepted of balancing, and what is refused with which field named.

use prost::{Message, Name};
use weft_proto::xds::envoy::config::{
    cluster::v3::{
        cluster::{
            CommonLbConfig, LeastRequestLbConfig, RoundRobinLbConfig, SlowStartConfig as LegacySlowStart,
        },
        load_balancing_policy::Policy,
    },
    core::v3::TypedExtensionConfig,
};

use super::*;

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn typed(policies: Vec<Any>) -> RawCluster {
    let policies = policies.into_iter().map(|any| Policy {
        typed_extension_config: Some(TypedExtensionConfig { name: "p".into(), typed_config: Some(any) }),
    });
    RawCluster {
        load_balancing_policy: Some(LoadBalancingPolicy { policies: policies.collect() }),
        ..Default::default()
    }
}

fn legacy(policy: LbPolicy, config: Option<LbConfig>) -> RawCluster {
    RawCluster { lb_policy: policy as i32, lb_config: config, ..Default::default() }
}

#[track_caller]
fn accepted(mut raw: RawCluster, balancing: Balancing) -> Picking {
    let picking = super::picking(&mut raw).unwrap();
    assert_eq!(picking.balancing, balancing);
    picking
}

#[track_caller]
fn refused(mut raw: RawCluster, field: &str) {
    assert_eq!(super::picking(&mut raw).unwrap_err().field, field);
}

const RING: RingHash =
    RingHash { size_min: 1024, size_max: 8 << 20, function: RingFunction::Xx, by_hostname: false };
const LEAST: LeastRequest = LeastRequest { choices: Some(2), bias: 1.0 };

#[test]
fn legacy_policies_have_envoys_defaults() {
    accepted(legacy(LbPolicy::RoundRobin, None), Balancing::RoundRobin);
    accepted(legacy(LbPolicy::Random, None), Balancing::Random);
    accepted(legacy(LbPolicy::LeastRequest, None), Balancing::LeastRequest(LEAST));
    accepted(legacy(LbPolicy::RingHash, None), Balancing::RingHash(RING));
    let maglev = Maglev { table_size: 65_537, by_hostname: false };
    accepted(legacy(LbPolicy::Maglev, None), Balancing::Maglev(maglev));
}

#[test]
fn legacy_configurations_are_taken_and_must_fit_their_policy() {
    let ring = RingHashLbConfig {
        minimum_ring_size: Some(UInt64Value { value: 7 }),
        hash_function: ring_hash_lb_config::HashFunction::MurmurHash2 as i32,
        maximum_ring_size: Some(UInt64Value { value: 70 }),
    };
    let config = Some(LbConfig::RingHashLbConfig(ring));
    let expected =
        RingHash { size_min: 7, size_max: 70, function: RingFunction::Murmur2, by_hostname: false };
    accepted(legacy(LbPolicy::RingHash, config.clone()), Balancing::RingHash(expected));
    refused(legacy(LbPolicy::Maglev, config), "lb_config");
    let mut hosts = legacy(LbPolicy::Maglev, None);
    let mut hashing = LegacyHashing { use_hostname_for_hashing: true, hash_balance_factor: None };
    let common =
        |hashing| CommonLbConfig { consistent_hashing_lb_config: Some(hashing), ..Default::default() };
    hosts.common_lb_config = Some(common(hashing));
    accepted(hosts.clone(), Balancing::Maglev(Maglev { table_size: 65_537, by_hostname: true }));
    hashing.hash_balance_factor = Some(UInt32Value { value: 150 });
    hosts.common_lb_config = Some(common(hashing));
    refused(hosts, "common_lb_config.consistent_hashing_lb_config.hash_balance_factor");
    refused(legacy(LbPolicy::ClusterProvided, None), "lb_policy");
}

#[test]
fn sizes_out_of_bounds_are_refused() {
    for (min, max, field) in [
        (0, 9, "ring_hash_lb_config.minimum_ring_size"),
        (1, (8 << 20) + 1, "ring_hash_lb_config.maximum_ring_size"),
        (20, 10, "ring_hash_lb_config.minimum_ring_size"),
    ] {
        let config = LbConfig::RingHashLbConfig(RingHashLbConfig {
            minimum_ring_size: Some(UInt64Value { value: min }),
            maximum_ring_size: Some(UInt64Value { value: max }),
            hash_function: 0,
        });
        refused(legacy(LbPolicy::RingHash, Some(config)), field);
    }
    for size in [0, 1, 8, 65_536, 5_000_029] {
        let config =
            LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: Some(UInt64Value { value: size }) });
        refused(legacy(LbPolicy::Maglev, Some(config)), "maglev_lb_config.table_size");
    }
    for count in [0, 1, CHOICES_MAX + 1] {
        let config =
            LeastRequestLbConfig { choice_count: Some(UInt32Value { value: count }), ..Default::default() };
        let raw = legacy(LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config)));
        refused(raw, "least_request_lb_config.choice_count");
    }
}

#[test]
fn typed_policies_take_the_place_of_legacy_ones() {
    let mut raw = typed(vec![any(&RawRingHash::default())]);
    raw.lb_policy = LbPolicy::Maglev as i32;
    accepted(raw, Balancing::RingHash(RING));
    let least = RawLeastRequest {
        choice_count: Some(UInt32Value { value: 3 }),
        active_request_bias: Some(RuntimeDouble { default_value: 0.5, runtime_key: "k".into() }),
        ..Default::default()
    };
    let expected = LeastRequest { choices: Some(3), bias: 0.5 };
    accepted(typed(vec![any(&least)]), Balancing::LeastRequest(expected));
    let scan = RawLeastRequest { selection_method: SelectionMethod::FullScan as i32, ..Default::default() };
    let expected = LeastRequest { choices: None, bias: 1.0 };
    accepted(typed(vec![any(&scan)]), Balancing::LeastRequest(expected));
    let bias = RuntimeDouble { default_value: -1.0, runtime_key: String::new() };
    let least = RawLeastRequest { active_request_bias: Some(bias), ..Default::default() };
    refused(typed(vec![any(&least)]), "load_balancing_policy.policies[0].active_request_bias");
    refused(typed(vec![]), "load_balancing_policy.policies");
}

#[test]
fn the_first_known_policy_counts_and_ours_is_among_them() {
    let ours = RawPeakEwma { decay_ms: 0, initial_ms: 7 };
    let ours = Any { type_url: format!("type.googleapis.com/{PEAK_EWMA}"), value: ours.encode_to_vec() };
    let strange = Any { type_url: "type.googleapis.com/a.b.Strange".into(), value: Vec::new() };
    let expected = PeakEwma { half_life: Duration::from_secs(10), initial: Duration::from_millis(7) };
    let both = typed(vec![strange.clone(), ours, any(&Random::default())]);
    accepted(both, Balancing::PeakEwma(expected));
    refused(typed(vec![strange]), "load_balancing_policy");
}

#[test]
fn slow_start_is_taken_from_both_forms() {
    let window = Some(ProtoDuration { seconds: 60, nanos: 0 });
    let raw = SlowStartConfig { slow_start_window: window, ..Default::default() };
    let round = RoundRobin { slow_start_config: Some(raw.clone()), ..Default::default() };
    let picking = accepted(typed(vec![any(&round)]), Balancing::RoundRobin);
    let expected = SlowStart { window: Duration::from_secs(60), aggression: 1.0, weight_min: 0.1 };
    assert_eq!(picking.slow_start, Some(expected));
    let aggression = Some(RuntimeDouble { default_value: 2.0, runtime_key: String::new() });
    let min_weight_percent = Some(Percent { value: 25.0 });
    let old = LegacySlowStart { slow_start_window: window, aggression, min_weight_percent };
    let config = LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(old) });
    let picking = accepted(legacy(LbPolicy::RoundRobin, Some(config)), Balancing::RoundRobin);
    let expected = SlowStart { aggression: 2.0, weight_min: 0.25, ..expected };
    assert_eq!(picking.slow_start, Some(expected));
    let none = SlowStartConfig { slow_start_window: None, ..raw };
    let round = RoundRobin { slow_start_config: Some(none), ..Default::default() };
    let field = "load_balancing_policy.policies[0].slow_start_config.slow_start_window";
    refused(typed(vec![any(&round)]), field);
}

#[test]
fn what_hashing_lacks_is_named() {
    let hashing = ConsistentHashingLbConfig {
        hash_balance_factor: Some(UInt32Value { value: 150 }),
        ..Default::default()
    };
    let maglev = RawMaglev { consistent_hashing_lb_config: Some(hashing), ..Default::default() };
    let field = "load_balancing_policy.policies[0].consistent_hashing_lb_config.hash_balance_factor";
    refused(typed(vec![any(&maglev)]), field);
}
