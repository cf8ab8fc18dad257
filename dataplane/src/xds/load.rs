//! Load reports (`envoy.service.load_stats.v3`): beside every discovery stream, the control plane that asks is told now and
//! then what went where. One that does not ask, or does not know the service, is told nothing.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};
use weft_proto::{
    latency,
    xds::{
        envoy::{
            config::{
                core::v3::{Locality, Node},
                endpoint::v3::{
                    ClusterStats, EndpointLoadMetricStats, UpstreamLocalityStats,
                    cluster_stats::DroppedRequests,
                },
            },
            service::load_stats::v3::{
                LoadStatsRequest, LoadStatsResponse,
                load_reporting_service_client::LoadReportingServiceClient,
            },
        },
        google::protobuf,
    },
};

use crate::telemetry::load::{ClusterTaken, Dropped, Loads, Taken};

/// Bounds of the time between two reports, whatever the control plane asks for.
const INTERVAL_MIN: Duration = Duration::from_millis(500);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Time between two reports where the control plane does not say.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
/// Pauses before a stream that broke is opened again.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Says that we take `send_all_clusters`.
const SEND_ALL: &str = "envoy.lrs.supports_send_all_clusters";

/// Reports over `channel` for ever; ends where the control plane does not know the service.
pub(super) async fn run(channel: Channel, mut node: Node, loads: Arc<Loads>) {
    node.client_features.push(SEND_ALL.to_owned());
    let mut client = LoadReportingServiceClient::new(channel);
    let mut backoff = BACKOFF_MIN;
    loop {
        match converse(&mut client, &node, &loads).await {
            Ok(()) => backoff = BACKOFF_MIN,
            Err(status) if status.code() == Code::Unimplemented => return,
            Err(status) => {
                tracing::debug!(reason = status.message(), "load is not reported");
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
        tokio::time::sleep(backoff).await;
    }
}

/// What the control plane asked for.
struct Asked {
    interval: Duration,
    /// None is every cluster.
    clusters: Option<HashSet<String>>,
}

impl From<LoadStatsResponse> for Asked {
    fn from(asked: LoadStatsResponse) -> Self {
        let interval = asked.load_reporting_interval.and_then(|interval| {
            let protobuf::Duration { seconds, nanos, .. } = interval;
            Duration::try_from(prost_types::Duration { seconds, nanos }).ok()
        });
        Self {
            interval: interval.unwrap_or(INTERVAL_DEFAULT).clamp(INTERVAL_MIN, INTERVAL_MAX),
            clusters: (!asked.send_all_clusters).then(|| asked.clusters.into_iter().collect()),
        }
    }
}

async fn converse(
    client: &mut LoadReportingServiceClient<Channel>,
    node: &Node,
    loads: &Loads,
) -> Result<(), Status> {
    let (reports, outgoing) = mpsc::channel(1);
    let hello = LoadStatsRequest { node: Some(node.clone()), cluster_stats: Vec::new() };
    let _ = reports.try_send(hello); // An empty queue has room.
    let mut answers = client.stream_load_stats(ReceiverStream::new(outgoing)).await?.into_inner();
    let Some(first) = answers.message().await? else { return Ok(()) };
    let mut asked = Asked::from(first);
    loads.take(); // What was before belongs to no report's time.
    let mut since = Instant::now();
    loop {
        tokio::select! {
            answer = answers.message() => match answer? {
                Some(answer) => asked = answer.into(),
                None => return Ok(()),
            },
            () = tokio::time::sleep_until((since + asked.interval).into()) => {
                // One that still has not read the last report gets a fuller one later.
                let Ok(place) = reports.try_reserve() else {
                    tokio::time::sleep(asked.interval).await;
                    continue;
                };
                let now = Instant::now();
                place.send(report(loads, &asked, now - since));
                since = now;
            }
        }
    }
}

fn report(loads: &Loads, asked: &Asked, over: Duration) -> LoadStatsRequest {
    let wanted = |name: &str| asked.clusters.as_ref().is_none_or(|clusters| clusters.contains(name));
    let taken = loads.take().into_iter().filter(|(name, _)| wanted(name));
    let cluster_stats = taken.map(|(name, taken)| cluster_stats(&name, taken, over)).collect();
    LoadStatsRequest { node: None, cluster_stats }
}

fn cluster_stats(name: &str, taken: ClusterTaken, over: Duration) -> ClusterStats {
    let dropped = Dropped::ALL.into_iter().zip(taken.dropped).filter(|(_, count)| *count > 0);
    let dropped_requests = dropped
        .map(|(why, dropped_count)| DroppedRequests { category: why.category().to_owned(), dropped_count });
    ClusterStats {
        cluster_name: name.to_owned(),
        total_dropped_requests: taken.dropped.iter().sum(),
        dropped_requests: dropped_requests.collect(),
        load_report_interval: Some(protobuf::Duration {
            seconds: i64::try_from(over.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(over.subsec_nanos()).unwrap_or(0),
        }),
        upstream_locality_stats: taken
            .places
            .into_iter()
            .map(|((locality, priority), taken)| locality_stats(&locality, priority, taken))
            .collect(),
        ..ClusterStats::default()
    }
}

fn locality_stats(locality: &str, priority: u32, taken: Taken) -> UpstreamLocalityStats {
    let mut parts = locality.split('/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    let locality = Locality { region: part(), zone: part(), sub_zone: part() };
    let load_metric_stats = taken.latency.into_iter().map(|(bucket, count)| {
        let (begin, end) = latency::bounds_us(bucket);
        EndpointLoadMetricStats {
            metric_name: latency::metric_name(bucket),
            num_requests_finished_with_metric: count,
            // At most: the sum is not kept.
            total_metric_value: count as f64 * end.unwrap_or(begin) as f64,
        }
    });
    UpstreamLocalityStats {
        locality: Some(locality),
        priority,
        total_successful_requests: taken.good,
        total_requests_in_progress: taken.active,
        total_error_requests: taken.failed,
        total_issued_requests: taken.issued,
        load_metric_stats: load_metric_stats.collect(),
        ..UpstreamLocalityStats::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::load::{Attempt, Ending, LoadCell, Place};

    #[test]
    fn a_report_says_what_happened_in_the_clusters_that_were_asked_for() {
        let loads = Loads::default();
        let worker = loads.worker();
        let mut cells = Vec::new();
        for cluster in ["a", "b"] {
            let cell = LoadCell::new(Place { cluster: cluster.into(), locality: "r/z".into(), priority: 2 });
            let now = tokio::time::Instant::now();
            Attempt::start(cell.get(&worker), now).end(Ending::Good, Some(now));
            cells.push(cell);
        }
        let drops = worker.drops(&"a".into());
        drops.count(Dropped::Overflow);
        let asked = LoadStatsResponse { clusters: vec!["a".into()], ..Default::default() };
        let report = report(&loads, &asked.into(), Duration::from_secs(5));
        let [stats] = &report.cluster_stats[..] else { panic!("{report:?}") };
        assert_eq!((&*stats.cluster_name, stats.total_dropped_requests), ("a", 1));
        assert_eq!(stats.dropped_requests[0].category, "overflow");
        assert_eq!(stats.load_report_interval.map(|over| over.seconds), Some(5));
        let place = &stats.upstream_locality_stats[0];
        let locality = place.locality.clone().unwrap();
        assert_eq!((&*locality.region, &*locality.zone, &*locality.sub_zone), ("r", "z", ""));
        assert_eq!((place.total_issued_requests, place.total_successful_requests, place.priority), (1, 1, 2));
        assert_eq!(latency::bucket_of_metric(&place.load_metric_stats[0].metric_name), Some(0));
    }

    #[test]
    fn no_interval_is_too_short_or_too_long() {
        let asked = |interval: Option<protobuf::Duration>| {
            let load_reporting_interval = interval;
            Asked::from(LoadStatsResponse { load_reporting_interval, ..Default::default() }).interval
        };
        let seconds = |seconds| Some(protobuf::Duration { seconds, nanos: 0 });
        assert_eq!(asked(None), INTERVAL_DEFAULT);
        assert_eq!(asked(seconds(0)), INTERVAL_MIN);
        assert_eq!(asked(seconds(-5)), INTERVAL_DEFAULT);
        assert_eq!(asked(seconds(i64::MAX)), INTERVAL_MAX);
    }
}
