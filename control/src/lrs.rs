//! `envoy.service.load_stats.v3.LoadReportingService`: proxies report their traffic, each in a stream of its own. Bounded
//! like discovery: in streams, in the size of a report, and in reports a second.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};
use weft_proto::xds::{
    envoy::service::load_stats::v3::{
        LoadStatsRequest, LoadStatsResponse,
        load_reporting_service_server::{LoadReportingService, LoadReportingServiceServer},
    },
    google::protobuf,
};

use crate::{
    identity::access::Caller,
    peer::PeerInfo,
    traffic::{Reporter, Traffic},
};
use read::Source;

mod read;
#[cfg(test)]
mod tests;

/// Report streams at once; more are refused.
pub const STREAMS_MAX: usize = 16_384;
/// Largest report, in bytes: some 10,000 clusters with traffic.
pub const REPORT_BYTES_MAX: usize = 4 << 20;
/// Time between two reports of a proxy, while these are few.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Reports a second that proxies are asked for together; more of them report less often.
pub const REPORTS_PER_SECOND: usize = 400;
/// How long a new stream may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(15);
/// A proxy that has missed this many reports is gone.
const MISSED_MAX: u32 = 4;
/// What a client says that can report every cluster without a list of them.
const SEND_ALL: &str = "envoy.lrs.supports_send_all_clusters";

/// The service.
pub struct LoadService {
    traffic: Traffic,
    stop: CancellationToken,
    streams: TaskTracker,
    places: Arc<Semaphore>,
}

impl LoadService {
    /// The tonic service, with its limits. Streams end when `stop` is cancelled, and `streams` waits for them.
    pub fn server(
        traffic: Traffic,
        stop: CancellationToken,
        streams: TaskTracker,
    ) -> LoadReportingServiceServer<Self> {
        metrics::describe_counter!("weft_load_reports_total", "Load reports taken.");
        metrics::describe_counter!(
            "weft_load_refused_streams_total",
            "Load report streams refused or ended."
        );
        metrics::describe_gauge!(
            "weft_traffic_edges",
            "Edges between workloads and services that are known."
        );
        metrics::describe_counter!(
            "weft_traffic_refused_edges_total",
            "Reports of an edge that were not kept because too many are known."
        );
        let places = Arc::new(Semaphore::new(STREAMS_MAX));
        LoadReportingServiceServer::new(Self { traffic, stop, streams, places })
            .max_decoding_message_size(REPORT_BYTES_MAX)
    }
}

type Answer = Result<LoadStatsResponse, Status>;

#[tonic::async_trait]
impl LoadReportingService for LoadService {
    type StreamLoadStatsStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            metrics::counter!("weft_load_refused_streams_total").increment(1);
            Status::resource_exhausted(format!("{STREAMS_MAX} load report streams are open already"))
        })?;
        let interval = interval(STREAMS_MAX - self.places.available_permits());
        // Two answers at most: what is asked for, and why the stream ended.
        let (answers, receiver) = mpsc::channel(2);
        let reporter = self.traffic.reporter();
        let peer = request.extensions().get::<PeerInfo>();
        let caller = peer.map_or(Caller::Unproven, |peer| peer.caller.clone());
        let stop = self.stop.clone();
        let mut reports = request.into_inner();
        self.streams.spawn(async move {
            let _place = place;
            let ended = tokio::select! {
                ended = listen(&mut reports, &answers, (reporter, caller), interval) => ended,
                () = stop.cancelled() => Err(Status::unavailable("the control plane is stopping")),
            };
            if let Err(status) = ended {
                metrics::counter!("weft_load_refused_streams_total").increment(1);
                // The peer may be gone already; then nobody is left to tell.
                let _ = answers.try_send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Time between two reports of one proxy when so many report.
fn interval(streams: usize) -> Duration {
    Duration::from_secs(streams.div_ceil(REPORTS_PER_SECOND) as u64).max(INTERVAL)
}

/// One stream from its first message to its end.
async fn listen(
    reports: &mut Streaming<LoadStatsRequest>,
    answers: &mpsc::Sender<Answer>,
    (mut reporter, caller): (Reporter, Caller),
    interval: Duration,
) -> Result<(), Status> {
    let hello = timeout(HELLO_TIMEOUT, reports.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no load report came"))??;
    let Some(hello) = hello else { return Ok(()) };
    let node = hello
        .node
        .filter(|node| !node.id.is_empty())
        .ok_or_else(|| Status::invalid_argument("node.id: missing in the first load report; set it"))?;
    if !node.client_features.iter().any(|feature| feature == SEND_ALL) {
        return Err(Status::failed_precondition(format!(
            "node.client_features: {SEND_ALL} is missing; a client without it is not served"
        )));
    }
    let source = Source::of(node, &caller)?;
    let asked = LoadStatsResponse {
        send_all_clusters: true,
        load_reporting_interval: Some(protobuf::Duration {
            seconds: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
            nanos: 0,
        }),
        ..LoadStatsResponse::default()
    };
    if answers.send(Ok(asked)).await.is_err() {
        return Ok(());
    }
    let mut last = Instant::now();
    loop {
        let report = timeout(interval * MISSED_MAX, reports.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no load report came for too long"))??;
        let Some(report) = report else { return Ok(()) };
        let now = Instant::now();
        if now.duration_since(last) < interval / 2 {
            return Err(Status::resource_exhausted(format!(
                "a load report came too early; one in {interval:?} was asked for"
            )));
        }
        reporter.report(last, now, source.edges(report));
        metrics::counter!("weft_load_reports_total").increment(1);
        last = now;
    }
}
