//! A load report as edges: the clusters of services that a proxy calls, whatever localities they are in. Pure.

use std::{collections::BTreeMap, sync::Arc};

use tonic::Status;
use weft_proto::{
    latency::bucket_of_metric,
    node::{NodeMetadata, parse_cluster_name},
    xds::envoy::{
        config::{
            core::v3::Node,
            endpoint::v3::{ClusterStats, UpstreamLocalityStats},
        },
        service::load_stats::v3::LoadStatsRequest,
    },
};

use crate::{
    identity::access::Caller,
    traffic::{Edge, Sample},
};

/// Whose traffic a stream reports.
#[derive(Clone, Debug)]
pub(super) struct Source {
    namespace: Arc<str>,
    workload: Arc<str>,
}

impl Source {
    /// By the node's metadata; a node that names no workload is its cluster, else its id.
    pub(super) fn of(node: Node, caller: &Caller) -> Result<Self, Status> {
        let metadata = node.metadata.as_ref().map(NodeMetadata::from_struct).transpose();
        let mut metadata = metadata
            .map_err(|error| Status::invalid_argument(error.to_string()))?
            .unwrap_or_else(|| NodeMetadata { namespace: "default".to_owned(), ..NodeMetadata::default() });
        caller.claim(&mut metadata)?;
        let names = [metadata.workload, node.cluster, node.id];
        let workload = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        Ok(Self { namespace: metadata.namespace.into(), workload: workload.into() })
    }

    /// What happened on each edge, and how much is under way.
    pub(super) fn edges(&self, report: LoadStatsRequest) -> BTreeMap<Edge, (Sample, u64)> {
        let mut edges: BTreeMap<Edge, (Sample, u64)> = BTreeMap::new();
        for stats in report.cluster_stats {
            // What leads to no service, such as the way to the workload itself, is no edge.
            let Some((port, subset, host)) = parse_cluster_name(&stats.cluster_name) else { continue };
            let edge = Edge {
                source_namespace: self.namespace.clone(),
                source_workload: self.workload.clone(),
                host: host.into(),
                port,
                subset: subset.into(),
            };
            let (sample, active) = edges.entry(edge).or_default();
            *active = active.saturating_add(add(sample, &stats));
        }
        edges
    }
}

fn add(sample: &mut Sample, stats: &ClusterStats) -> u64 {
    sample.dropped = sample.dropped.saturating_add(stats.total_dropped_requests);
    let mut active: u64 = 0;
    for place in &stats.upstream_locality_stats {
        let UpstreamLocalityStats { total_issued_requests, total_successful_requests, .. } = place;
        sample.issued = sample.issued.saturating_add(*total_issued_requests);
        sample.good = sample.good.saturating_add(*total_successful_requests);
        sample.failed = sample.failed.saturating_add(place.total_error_requests);
        active = active.saturating_add(place.total_requests_in_progress);
        for metric in &place.load_metric_stats {
            if let Some(bucket) = bucket_of_metric(&metric.metric_name) {
                sample.latencies.count(bucket, metric.num_requests_finished_with_metric);
            }
        }
    }
    active
}

#[cfg(test)]
mod tests {
    use weft_proto::{latency::metric_name, xds::envoy::config::endpoint::v3::EndpointLoadMetricStats};

    use super::*;

    #[test]
    fn localities_of_a_cluster_are_one_edge_and_other_clusters_are_none() {
        let metric = |name: String, count| EndpointLoadMetricStats {
            metric_name: name,
            num_requests_finished_with_metric: count,
            ..Default::default()
        };
        let place = |issued| UpstreamLocalityStats {
            total_issued_requests: issued,
            total_successful_requests: 3,
            total_error_requests: 1,
            total_requests_in_progress: 2,
            load_metric_stats: vec![metric(metric_name(4), 4), metric("named_metrics.queue".into(), 9)],
            ..Default::default()
        };
        let stats = |name: &str| ClusterStats {
            cluster_name: name.to_owned(),
            upstream_locality_stats: vec![place(5), place(u64::MAX)],
            total_dropped_requests: 7,
            ..Default::default()
        };
        let metadata =
            NodeMetadata { workload: "web".into(), namespace: "shop".into(), ..Default::default() };
        let node = Node { id: "web-1".into(), metadata: Some(metadata.to_struct()), ..Default::default() };
        let cluster_stats =
            vec![stats("outbound|80|v1|api.default"), stats("inbound|80||"), stats("control")];
        let report = LoadStatsRequest { cluster_stats, ..Default::default() };
        let edges = Source::of(node, &Caller::Unasked).unwrap().edges(report);
        let (edge, (sample, active)) = edges.first_key_value().unwrap();
        assert_eq!((edges.len(), &*edge.source_workload, &*edge.source_namespace), (1, "web", "shop"));
        assert_eq!((&*edge.host, edge.port, &*edge.subset), ("api.default", 80, "v1"));
        assert_eq!((sample.issued, sample.good, sample.failed, sample.dropped), (u64::MAX, 6, 2, 7));
        assert_eq!((*active, sample.latencies.quantile(1.0).is_some()), (4, true));
    }

    #[test]
    fn a_node_without_a_workload_has_a_name_all_the_same() {
        for (cluster, expected) in [("batch", "batch"), ("", "id-1")] {
            let node = Node { id: "id-1".into(), cluster: cluster.into(), ..Default::default() };
            let source = Source::of(node, &Caller::Unasked).unwrap();
            assert_eq!((&*source.workload, &*source.namespace), (expected, "default"));
        }
    }
}
