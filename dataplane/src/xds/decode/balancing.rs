//! How a cluster picks endpoints: `lb_policy` with `lb_config`, or `load_balancing_policy`, which takes their place.

use std::{mem::take, time::Duration};

use weft_proto::{
    extension::v1::PeakEwma as RawPeakEwma,
    xds::{
        envoy::{
            config::{
                cluster::v3::{
                    Cluster as RawCluster, LoadBalancingPolicy,
                    cluster::{
                        LbConfig, LbPolicy, MaglevLbConfig, RingHashLbConfig,
                        common_lb_config::ConsistentHashingLbConfig as LegacyHashing, ring_hash_lb_config,
                    },
                },
                core::v3::RuntimeDouble,
            },
            extensions::load_balancing_policies::{
                common::v3::{
                    ConsistentHashingLbConfig, LocalityLbConfig, SlowStartConfig,
                    locality_lb_config::LocalityConfigSpecifier,
                },
                least_request::v3::{LeastRequest as RawLeastRequest, least_request::SelectionMethod},
                maglev::v3::Maglev as RawMaglev,
                random::v3::Random,
                ring_hash::v3::{RingHash as RawRingHash, ring_hash},
                round_robin::v3::RoundRobin,
            },
            r#type::v3::Percent,
        },
        google::protobuf::{Any, Duration as ProtoDuration, UInt32Value, UInt64Value},
    },
};

use super::{At, Refusal, is, nothing_left, optional_duration, parse, pass_over, unknown_type, unpack};
use crate::spec::{Balancing, LeastRequest, Maglev, PeakEwma, RingFunction, RingHash, SlowStart};

/// Most random choices of one pick.
const CHOICES_MAX: u32 = 64;
/// Most points of a ring, Envoy's limit.
const RING_SIZE_MAX: u64 = 8 << 20;
/// Most slots of a Maglev table, Envoy's limit.
const TABLE_SIZE_MAX: u64 = 5_000_011;
/// Envoy's defaults.
const CHOICES: u32 = 2;
const RING_SIZE_MIN: u64 = 1024;
const TABLE_SIZE: u64 = 65_537;
const WEIGHT_MIN_PERCENT: f64 = 10.0;
/// Those of `weft.extension.v1.PeakEwma`.
const DECAY_MS: u32 = 10_000;
const INITIAL_MS: u32 = 30;
/// Our own policy's type.
const PEAK_EWMA: &str = "weft.extension.v1.PeakEwma";

/// What a cluster says of its balancing.
#[derive(Debug)]
pub(super) struct Picking {
    pub(super) balancing: Balancing,
    pub(super) slow_start: Option<SlowStart>,
    pub(super) locality_weighted: bool,
}

impl From<Balancing> for Picking {
    fn from(balancing: Balancing) -> Self {
        Self { balancing, slow_start: None, locality_weighted: false }
    }
}

/// Takes the balancing out of a cluster.
pub(super) fn picking(raw: &mut RawCluster) -> Result<Picking, Refusal> {
    let policy = take(&mut raw.lb_policy);
    if let Some(list) = raw.load_balancing_policy.take() {
        // By definition it takes the place of `lb_policy` and of its configuration.
        pass_over!(raw: lb_config);
        return typed_policy(list).at("load_balancing_policy");
    }
    let policy =
        LbPolicy::try_from(policy).map_err(|_| Refusal::new("lb_policy", format!("{policy} is unknown")))?;
    let hashing = raw.common_lb_config.as_mut().and_then(|c| c.consistent_hashing_lb_config.take());
    let by_hostname = hashing.map(by_hostname).transpose();
    let by_hostname = by_hostname.at("common_lb_config.consistent_hashing_lb_config")?.unwrap_or_default();
    legacy_policy(policy, raw.lb_config.take(), by_hostname)
}

fn legacy_policy(policy: LbPolicy, config: Option<LbConfig>, by_hostname: bool) -> Result<Picking, Refusal> {
    match (policy, config) {
        (LbPolicy::RoundRobin, None) => Ok(Balancing::RoundRobin.into()),
        (LbPolicy::RoundRobin, Some(LbConfig::RoundRobinLbConfig(mut config))) => {
            let slow_start = config.slow_start_config.take();
            let slow_start = slow_start.map(|raw| {
                slow_start_of(raw.slow_start_window, raw.aggression, raw.min_weight_percent)
                    .at("slow_start_config")
            });
            Ok(Picking {
                slow_start: slow_start.transpose().at("round_robin_lb_config")?,
                ..Balancing::RoundRobin.into()
            })
        }
        (LbPolicy::LeastRequest, None) => least_request(None, None, false).map(Picking::from),
        (LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(mut config))) => {
            let at = "least_request_lb_config";
            let slow_start = config.slow_start_config.take();
            let slow_start = slow_start.map(|raw| {
                slow_start_of(raw.slow_start_window, raw.aggression, raw.min_weight_percent)
                    .at("slow_start_config")
            });
            let (choices, bias) = (config.choice_count.take(), config.active_request_bias.take());
            Ok(Picking {
                slow_start: slow_start.transpose().at(at)?,
                ..least_request(choices, bias, false).at(at)?.into()
            })
        }
        (LbPolicy::Random, None) => Ok(Balancing::Random.into()),
        (LbPolicy::RingHash, config @ (None | Some(LbConfig::RingHashLbConfig(_)))) => {
            let RingHashLbConfig { minimum_ring_size, hash_function, maximum_ring_size } = match config {
                Some(LbConfig::RingHashLbConfig(config)) => config,
                _ => RingHashLbConfig::default(),
            };
            let function = match ring_hash_lb_config::HashFunction::try_from(hash_function) {
                Ok(ring_hash_lb_config::HashFunction::XxHash) => RingFunction::Xx,
                Ok(ring_hash_lb_config::HashFunction::MurmurHash2) => RingFunction::Murmur2,
                Err(_) => return Err(Refusal::new("ring_hash_lb_config.hash_function", "an unknown value")),
            };
            let ring = ring(minimum_ring_size, maximum_ring_size, function, by_hostname);
            Ok(ring.at("ring_hash_lb_config")?.into())
        }
        (LbPolicy::Maglev, config @ (None | Some(LbConfig::MaglevLbConfig(_)))) => {
            let size = match config {
                Some(LbConfig::MaglevLbConfig(MaglevLbConfig { table_size })) => table_size,
                _ => None,
            };
            Ok(maglev(size, by_hostname).at("maglev_lb_config")?.into())
        }
        (LbPolicy::ClusterProvided | LbPolicy::LoadBalancingPolicyConfig, _) => {
            Err(Refusal::new("lb_policy", format!("{} is not supported by this proxy", policy.as_str_name())))
        }
        (policy, Some(_)) => {
            Err(Refusal::new("lb_config", format!("does not belong to lb_policy {}", policy.as_str_name())))
        }
    }
}

/// The first policy that this proxy knows, as the protocol has it.
fn typed_policy(list: LoadBalancingPolicy) -> Result<Picking, Refusal> {
    let mut unknown = None;
    for (i, policy) in list.policies.into_iter().enumerate() {
        let any = policy.typed_extension_config.and_then(|config| config.typed_config).unwrap_or_default();
        match known_policy(&any).at_index("policies", i)? {
            Some(found) => return Ok(found),
            None => unknown = unknown.or(Some(any)),
        }
    }
    Err(unknown.map_or_else(|| Refusal::new("policies", "empty"), |any| unknown_type(&any)))
}

fn known_policy(any: &Any) -> Result<Option<Picking>, Refusal> {
    let picking = if is::<RoundRobin>(any) {
        let mut config = unpack::<RoundRobin>(any)?;
        let slow_start = slow_start(config.slow_start_config.take())?;
        let locality_weighted = locality_weighted(config.locality_lb_config.take())?;
        nothing_left(&config)?;
        Picking { balancing: Balancing::RoundRobin, slow_start, locality_weighted }
    } else if is::<RawLeastRequest>(any) {
        let mut config = unpack::<RawLeastRequest>(any)?;
        let all = match SelectionMethod::try_from(take(&mut config.selection_method)) {
            Ok(SelectionMethod::NChoices) => false,
            Ok(SelectionMethod::FullScan) => true,
            Err(_) => return Err(Refusal::new("selection_method", "an unknown value")),
        };
        let (choices, bias) = (config.choice_count.take(), config.active_request_bias.take());
        let slow_start = slow_start(config.slow_start_config.take())?;
        let locality_weighted = locality_weighted(config.locality_lb_config.take())?;
        nothing_left(&config)?;
        Picking { balancing: least_request(choices, bias, all)?, slow_start, locality_weighted }
    } else if is::<Random>(any) {
        let mut config = unpack::<Random>(any)?;
        let locality_weighted = locality_weighted(config.locality_lb_config.take())?;
        nothing_left(&config)?;
        Picking { locality_weighted, ..Balancing::Random.into() }
    } else if is::<RawRingHash>(any) {
        typed_ring(unpack(any)?)?
    } else if is::<RawMaglev>(any) {
        let mut config = unpack::<RawMaglev>(any)?;
        let by_hostname = hashing(config.consistent_hashing_lb_config.take())?;
        let locality_weighted = config.locality_weighted_lb_config.take().is_some();
        Picking { locality_weighted, ..maglev(config.table_size, by_hostname)?.into() }
    } else if any.type_url.rsplit('/').next() == Some(PEAK_EWMA) {
        let RawPeakEwma { decay_ms, initial_ms } = parse(&any.value)?;
        let ms = |value, default| Duration::from_millis(u64::from(if value == 0 { default } else { value }));
        let (half_life, initial) = (ms(decay_ms, DECAY_MS), ms(initial_ms, INITIAL_MS));
        Balancing::PeakEwma(PeakEwma { half_life, initial }).into()
    } else {
        return Ok(None);
    };
    Ok(Some(picking))
}

fn typed_ring(mut config: RawRingHash) -> Result<Picking, Refusal> {
    let function = match ring_hash::HashFunction::try_from(take(&mut config.hash_function)) {
        Ok(ring_hash::HashFunction::DefaultHash | ring_hash::HashFunction::XxHash) => RingFunction::Xx,
        Ok(ring_hash::HashFunction::MurmurHash2) => RingFunction::Murmur2,
        Err(_) => return Err(Refusal::new("hash_function", "an unknown value")),
    };
    let by_hostname =
        hashing(config.consistent_hashing_lb_config.take())? | take(&mut config.use_hostname_for_hashing);
    let (min, max) = (config.minimum_ring_size.take(), config.maximum_ring_size.take());
    let locality_weighted = config.locality_weighted_lb_config.take().is_some();
    nothing_left(&config)?;
    Ok(Picking { locality_weighted, ..ring(min, max, function, by_hostname)?.into() })
}

fn least_request(
    choices: Option<UInt32Value>,
    bias: Option<RuntimeDouble>,
    all: bool,
) -> Result<Balancing, Refusal> {
    let choices = choices.map_or(CHOICES, |choices| choices.value);
    if !(2..=CHOICES_MAX).contains(&choices) {
        return Err(Refusal::new("choice_count", format!("{choices} is not between 2 and {CHOICES_MAX}")));
    }
    // A runtime key has no runtime here.
    let bias = bias.map_or(1.0, |bias| bias.default_value);
    if !bias.is_finite() || bias < 0.0 {
        return Err(Refusal::new("active_request_bias", format!("{bias} is below zero")));
    }
    Ok(Balancing::LeastRequest(LeastRequest { choices: (!all).then_some(choices), bias }))
}

fn ring(
    min: Option<UInt64Value>,
    max: Option<UInt64Value>,
    function: RingFunction,
    by_hostname: bool,
) -> Result<Balancing, Refusal> {
    let size_min = min.map_or(RING_SIZE_MIN, |min| min.value);
    let size_max = max.map_or(RING_SIZE_MAX, |max| max.value);
    let size = |value, field| {
        let problem = format!("{value} is not between 1 and {RING_SIZE_MAX}");
        if (1..=RING_SIZE_MAX).contains(&value) { Ok(()) } else { Err(Refusal::new(field, problem)) }
    };
    size(size_min, "minimum_ring_size")?;
    size(size_max, "maximum_ring_size")?;
    if size_min > size_max {
        let problem = format!("{size_min} is more than maximum_ring_size, {size_max}");
        return Err(Refusal::new("minimum_ring_size", problem));
    }
    Ok(Balancing::RingHash(RingHash { size_min, size_max, function, by_hostname }))
}

fn maglev(size: Option<UInt64Value>, by_hostname: bool) -> Result<Balancing, Refusal> {
    let table_size = size.map_or(TABLE_SIZE, |size| size.value);
    if table_size > TABLE_SIZE_MAX {
        let problem = format!("{table_size}; at most {TABLE_SIZE_MAX} is taken");
        return Err(Refusal::new("table_size", problem));
    }
    if !prime(table_size) {
        return Err(Refusal::new("table_size", format!("{table_size} is no prime number")));
    }
    Ok(Balancing::Maglev(Maglev { table_size, by_hostname }))
}

fn prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// Whether endpoints are told apart by host name.
fn by_hostname(mut raw: LegacyHashing) -> Result<bool, Refusal> {
    let by_hostname = take(&mut raw.use_hostname_for_hashing);
    nothing_left(&raw)?;
    Ok(by_hostname)
}

fn hashing(raw: Option<ConsistentHashingLbConfig>) -> Result<bool, Refusal> {
    let mut raw = raw.unwrap_or_default();
    let by_hostname = take(&mut raw.use_hostname_for_hashing);
    nothing_left(&raw).at("consistent_hashing_lb_config")?;
    Ok(by_hostname)
}

fn locality_weighted(raw: Option<LocalityLbConfig>) -> Result<bool, Refusal> {
    match raw.and_then(|config| config.locality_config_specifier) {
        None => Ok(false),
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => Ok(true),
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            Err(Refusal::new("locality_lb_config.zone_aware_lb_config", "not supported by this proxy"))
        }
    }
}

fn slow_start(raw: Option<SlowStartConfig>) -> Result<Option<SlowStart>, Refusal> {
    raw.map(|raw| slow_start_of(raw.slow_start_window, raw.aggression, raw.min_weight_percent))
        .transpose()
        .at("slow_start_config")
}

fn slow_start_of(
    window: Option<ProtoDuration>,
    aggression: Option<RuntimeDouble>,
    weight_min: Option<Percent>,
) -> Result<SlowStart, Refusal> {
    let window = optional_duration(window, "slow_start_window")?
        .filter(|window| !window.is_zero())
        .ok_or_else(|| Refusal::new("slow_start_window", "must be above zero"))?;
    let aggression = aggression.map_or(1.0, |aggression| aggression.default_value);
    if !aggression.is_finite() || aggression <= 0.0 {
        return Err(Refusal::new("aggression", format!("{aggression} is not above zero")));
    }
    let weight_min = weight_min.map_or(WEIGHT_MIN_PERCENT, |percent| percent.value);
    if !(0.0..=100.0).contains(&weight_min) {
        return Err(Refusal::new("min_weight_percent", format!("{weight_min} is not between 0 and 100")));
    }
    Ok(SlowStart { window, aggression, weight_min: weight_min / 100.0 })
}

#[cfg(test)]
mod tests;
