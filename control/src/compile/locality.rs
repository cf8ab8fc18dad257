//! How a service's endpoints are arranged for a proxy by where it is: in priorities by distance, or in shares by place.
//!
//! Istio's rules: load fails over by distance only where something tells that endpoints fail (outlier detection, health
//! checks), and does so unless a document says otherwise; `distribute` needs no such thing. A proxy that does not say
//! where it is sees all endpoints alike.

use std::{collections::BTreeMap, sync::Arc};

use weft_proto::node::NodeMetadata;

use super::ir::{Endpoint, LocalityEndpoints};
use crate::{
    documents::{
        LocalityLb,
        locality::{Distribute, PriorityLabel},
    },
    model::{self, Locality},
};

/// Labels that say where an endpoint or a proxy is, with and without being written on it.
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const CLUSTER: &str = "topology.istio.io/cluster";
const NETWORK: &str = "topology.istio.io/network";

/// Where a proxy is, as far as it matters to a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Vantage {
    locality: Locality,
    /// The proxy's labels that count.
    labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// How endpoints are arranged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrangement<'a> {
    /// Alike for everybody.
    Flat,
    /// In priorities.
    Failover(&'a LocalityLb),
    /// In one priority, localities with shares.
    Distribute(&'a [Distribute]),
}

impl Vantage {
    /// Of a proxy, with the labels that count.
    pub(crate) fn of(node: &NodeMetadata, labels: &[Arc<str>]) -> Self {
        let [region, zone, subzone] = node.locality.each_ref().map(|part| Arc::from(part.as_str()));
        let locality = Locality { region, zone, subzone };
        let value = |key: &Arc<str>| {
            let given = node.labels.get(&**key).map(|value| Arc::from(value.as_str()));
            Some((key.clone(), given.or_else(|| place(key, &locality))?))
        };
        let labels = labels.iter().filter_map(value).collect();
        Self { locality, labels }
    }

    fn knows_its_place(&self) -> bool {
        self.locality != Locality::default()
    }
}

impl<'a> Arrangement<'a> {
    /// What a setting means. `watched` is whether anything tells that endpoints fail.
    pub(crate) fn of(setting: &'a LocalityLb, watched: bool) -> Self {
        match setting {
            LocalityLb { enabled: false, .. } => Self::Flat,
            LocalityLb { distribute, .. } if !distribute.is_empty() => Self::Distribute(distribute),
            _ if watched => Self::Failover(setting),
            _ => Self::Flat,
        }
    }

    /// Whether localities share load by their weights.
    pub(crate) fn weighted(&self) -> bool {
        matches!(self, Self::Distribute(_))
    }

    /// The labels of a proxy that count; none where every proxy sees these endpoints alike.
    pub(crate) fn looks_at(&self, service: &model::Service) -> Option<Vec<Arc<str>>> {
        let mut localities = service.endpoints.values().map(|endpoint| &endpoint.locality);
        let first = localities.next()?;
        match self {
            Self::Flat => None,
            Self::Distribute(_) => Some(Vec::new()),
            Self::Failover(setting) if !setting.failover_priority.is_empty() => {
                Some(setting.failover_priority.iter().map(|label| label.key.clone()).collect())
            }
            Self::Failover(_) => localities.any(|other| other != first).then(Vec::new),
        }
    }

    /// Arranges endpoints for who sees them from `vantage`; none is anybody.
    pub(crate) fn arrange(
        &self,
        endpoints: Vec<(&model::Endpoint, Endpoint)>,
        vantage: Option<&Vantage>,
    ) -> Vec<LocalityEndpoints> {
        match (self, vantage) {
            (Self::Failover(setting), Some(vantage)) if !setting.failover_priority.is_empty() => {
                grouped(endpoints, |endpoint| by_labels(&setting.failover_priority, vantage, endpoint))
            }
            (Self::Failover(setting), Some(vantage)) if vantage.knows_its_place() => {
                grouped(endpoints, |endpoint| by_distance(setting, &vantage.locality, &endpoint.locality))
            }
            (Self::Distribute(rules), Some(vantage)) => {
                let rule = rules.iter().find(|rule| rule.from.takes(&vantage.locality));
                let flat = grouped(endpoints, |_| 0);
                match rule {
                    Some(rule) => shared(flat, rule),
                    None => flat,
                }
            }
            (Self::Flat | Self::Failover(_) | Self::Distribute(_), _) => grouped(endpoints, |_| 0),
        }
    }
}

/// By priority and locality; priorities in use are numbered from 0 without a gap, as Envoy wants them.
fn grouped(
    endpoints: Vec<(&model::Endpoint, Endpoint)>,
    rank: impl Fn(&model::Endpoint) -> usize,
) -> Vec<LocalityEndpoints> {
    let mut ranks: BTreeMap<usize, BTreeMap<Locality, Vec<Endpoint>>> = BTreeMap::new();
    for (endpoint, compiled) in endpoints {
        let localities = ranks.entry(rank(endpoint)).or_default();
        localities.entry(endpoint.locality.clone()).or_default().push(compiled);
    }
    let level = |(priority, localities): (u32, BTreeMap<Locality, Vec<Endpoint>>)| {
        localities.into_iter().map(move |(locality, endpoints)| {
            // Its share is that of its endpoints.
            let weight = endpoints.iter().fold(0u32, |sum, endpoint| sum.saturating_add(endpoint.weight));
            LocalityEndpoints { priority, locality, weight: weight.max(1), endpoints }
        })
    };
    (0..).zip(ranks.into_values()).flat_map(level).collect()
}

/// Istio's order: the same subzone, zone, region, the region that takes over, any other.
fn by_distance(setting: &LocalityLb, from: &Locality, to: &Locality) -> usize {
    if from.region == to.region {
        return match (from.zone == to.zone, from.subzone == to.subzone) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
    }
    match setting.failover.iter().find(|(failing, _)| *failing == from.region) {
        Some((_, takes_over)) if *takes_over != to.region => 4,
        _ => 3,
    }
}

/// The fewer of the labels, from the first on, an endpoint shares with the proxy, the later it is used.
fn by_labels(labels: &[PriorityLabel], vantage: &Vantage, endpoint: &model::Endpoint) -> usize {
    let shared = |label: &&PriorityLabel| {
        let wanted = label.value.as_ref().or_else(|| vantage.labels.get(&label.key));
        let given = endpoint.labels.get(&label.key).cloned();
        let given = given.or_else(|| place(&label.key, &endpoint.locality)).or_else(|| {
            let part = match &*label.key {
                CLUSTER => &endpoint.cluster,
                NETWORK => &endpoint.network,
                _ => return None,
            };
            (!part.is_empty()).then(|| part.clone())
        });
        wanted == given.as_ref()
    };
    labels.len() - labels.iter().take_while(shared).count()
}

/// What a label says of a place.
fn place(key: &str, locality: &Locality) -> Option<Arc<str>> {
    let part = match key {
        REGION => &locality.region,
        ZONE => &locality.zone,
        SUBZONE => &locality.subzone,
        _ => return None,
    };
    (!part.is_empty()).then(|| part.clone())
}

/// Localities with the shares of a rule, in hundredths of a percent; what the rule does not name gets nothing, ever.
fn shared(localities: Vec<LocalityEndpoints>, rule: &Distribute) -> Vec<LocalityEndpoints> {
    let target = |locality: &Locality| rule.to.iter().position(|(place, _)| place.takes(locality));
    let mut totals = vec![0u64; rule.to.len()];
    for of in &localities {
        if let Some(target) = target(&of.locality) {
            totals[target] += u64::from(of.weight);
        }
    }
    let weigh = |mut of: LocalityEndpoints| {
        let target = target(&of.locality)?;
        let share = u64::from(rule.to[target].1) * 100 * u64::from(of.weight);
        of.weight = u32::try_from(share.div_ceil(totals[target])).unwrap_or(u32::MAX);
        Some(of)
    };
    localities.into_iter().filter_map(weigh).collect()
}
