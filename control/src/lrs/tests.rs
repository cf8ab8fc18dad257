//! The service over a real socket, on loopback.

use tokio::net::TcpListener;
use tonic::{Code, transport::Server};
use weft_proto::xds::envoy::{
    config::{
        core::v3::Node,
        endpoint::v3::{ClusterStats, UpstreamLocalityStats},
    },
    service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient,
};

use super::*;

type Client = LoadReportingServiceClient<tonic::transport::Channel>;

async fn start() -> (Traffic, CancellationToken, Client) {
    let traffic = Traffic::new(Instant::now());
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = LoadService::server(traffic.clone(), stop.clone(), TaskTracker::new());
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(crate::peer::incoming(listener)));
    (traffic, stop, Client::connect(format!("http://{address}")).await.unwrap())
}

fn hello(features: &[&str]) -> LoadStatsRequest {
    let client_features = features.iter().map(ToString::to_string).collect();
    let node = Node { id: "web-1".into(), cluster: "web".into(), client_features, ..Default::default() };
    LoadStatsRequest { node: Some(node), ..Default::default() }
}

fn report() -> LoadStatsRequest {
    let place = UpstreamLocalityStats {
        total_issued_requests: 10,
        total_successful_requests: 9,
        total_error_requests: 1,
        ..Default::default()
    };
    let stats = ClusterStats {
        cluster_name: "outbound|80||api.default.svc.cluster.local".into(),
        upstream_locality_stats: vec![place],
        ..Default::default()
    };
    LoadStatsRequest { cluster_stats: vec![stats], ..Default::default() }
}

#[tokio::test]
async fn a_client_that_does_not_say_who_it_is_or_what_it_can_is_refused() {
    let (_, _, mut client) = start().await;
    for (first, code) in
        [(LoadStatsRequest::default(), Code::InvalidArgument), (hello(&["other"]), Code::FailedPrecondition)]
    {
        let mut answers = client.stream_load_stats(tokio_stream::iter([first])).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn reports_that_come_too_fast_end_their_stream() {
    let (traffic, _, mut client) = start().await;
    let requests = tokio_stream::iter([hello(&[SEND_ALL]), report()]);
    let mut answers = client.stream_load_stats(requests).await.unwrap().into_inner();
    let asked = answers.message().await.unwrap().unwrap();
    assert!(asked.send_all_clusters);
    assert_eq!(asked.load_reporting_interval.unwrap().seconds, 5);
    assert_eq!(answers.message().await.unwrap_err().code(), Code::ResourceExhausted);
    assert!(traffic.flows(Instant::now(), INTERVAL, |_| true).is_empty());
}

#[tokio::test]
async fn a_report_in_time_is_taken_and_a_stop_ends_the_stream() {
    let (traffic, stop, mut client) = start().await;
    let (requests, queue) = mpsc::channel(4);
    requests.send(hello(&[SEND_ALL])).await.unwrap();
    let mut answers = client.stream_load_stats(ReceiverStream::new(queue)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    // The clock is the process's own: only what waits for it is moved on.
    tokio::time::pause();
    tokio::time::advance(INTERVAL).await;
    tokio::time::resume();
    requests.send(report()).await.unwrap();
    let flow = loop {
        let flows = traffic.flows(Instant::now(), INTERVAL, |_| true);
        match flows.into_values().next() {
            Some(flow) => break flow,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!((flow.sum.issued, flow.success()), (10, Some(0.9)));
    stop.cancel();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Unavailable);
}

#[test]
fn the_more_proxies_report_the_less_often_each_does() {
    assert_eq!(interval(1), INTERVAL);
    assert_eq!(interval(STREAMS_MAX), Duration::from_secs(41));
}
