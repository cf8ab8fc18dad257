//! Traffic as the admin API shows it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use weft_proto::admin::v1 as wire;

use super::Admin;
use crate::{
    canary::versions_of_subsets,
    documents::hosts::Hosts,
    model::ServiceKey,
    traffic::{Edge, Flow},
};

/// How far to look back where nobody says.
const WINDOW_DEFAULT: Duration = Duration::from_secs(60);

/// A caller's window.
pub(super) fn window(seconds: u32) -> Duration {
    if seconds == 0 { WINDOW_DEFAULT } else { Duration::from_secs(u64::from(seconds)) }
}

/// What happened, for people.
pub(super) fn flow(flow: &Flow) -> wire::Flow {
    let quantile =
        |share: f64| flow.sum.latencies.quantile(share).map(|latency| latency.as_secs_f64() * 1000.0);
    wire::Flow {
        requests_per_second: flow.rate(),
        errors_per_second: flow.error_rate(),
        success: flow.success(),
        p50_ms: quantile(0.5),
        p90_ms: quantile(0.9),
        p99_ms: quantile(0.99),
        requests: flow.ended(),
        dropped: flow.sum.dropped,
        active: flow.active,
    }
}

impl Admin {
    /// The edges that a request chooses.
    pub(super) fn traffic(&self, request: &wire::TrafficRequest) -> wire::TrafficResponse {
        let view = self.desk.registry().view();
        let set = self.desk.in_force(&self.desk.store().snapshot(), &view).set;
        let versions = versions_of_subsets(&set, &Hosts::of_mesh(&view.mesh));
        let services: HashMap<&str, &ServiceKey> =
            view.mesh.services.values().map(|service| (&*service.host, &service.key)).collect();
        let chosen = |edge: &Edge| {
            let key = services.get(&*edge.host);
            (request.namespace.is_empty() || key.is_some_and(|key| *key.namespace == *request.namespace))
                && (request.service.is_empty() || key.is_some_and(|key| *key.name == *request.service))
        };
        let flows = self.traffic.flows(Instant::now(), window(request.window_seconds), chosen);
        let shown = |edge: &Edge, flow: &Flow| {
            let key = services.get(&*edge.host);
            let version = versions.get(&(edge.host.clone(), edge.subset.clone())).unwrap_or(&edge.subset);
            wire::Edge {
                source_namespace: edge.source_namespace.to_string(),
                source_workload: edge.source_workload.to_string(),
                namespace: key.map(|key| key.namespace.to_string()).unwrap_or_default(),
                service: key.map(|key| key.name.to_string()).unwrap_or_default(),
                host: edge.host.to_string(),
                port: u32::from(edge.port),
                subset: edge.subset.to_string(),
                version: version.to_string(),
                flow: Some(self::flow(flow)),
            }
        };
        let edges = flows.iter().map(|(edge, flow)| shown(edge, flow)).collect();
        let mut sums: BTreeMap<Edge, Flow> = BTreeMap::new();
        let nobody: Arc<str> = "".into();
        for (edge, flow) in &flows {
            let (source_namespace, source_workload) = (nobody.clone(), nobody.clone());
            sums.entry(Edge { source_namespace, source_workload, ..edge.clone() }).or_default().add(flow);
        }
        let destinations = sums.iter().map(|(edge, flow)| shown(edge, flow)).collect();
        wire::TrafficResponse { edges, destinations }
    }
}
