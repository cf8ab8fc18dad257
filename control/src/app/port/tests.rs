//! Peers that die, or live and do not read, on connections in memory and a paused clock.

use std::sync::Arc;

use tokio::{
    io::DuplexStream,
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use weft_proto::{
    node::NodeMetadata,
    xds::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
};

use super::*;
use crate::{
    ads::{ANSWER_TIMEOUT, Publisher, Tracker, World},
    identity::access::Caller,
    peer::{Places, STALL_TIMEOUT},
    registry::Options,
    resource::{Asked, Kind, Resource, ResourceSet},
};

/// Bytes that a wire holds in each direction.
const WIRE_BYTES: usize = 16 << 10;

struct Fixed(u64, Arc<ResourceSet>);

impl World for Fixed {
    fn revision(&self) -> u64 {
        self.0
    }

    fn resources(&self, _: &NodeMetadata, _: &Asked) -> Arc<ResourceSet> {
        self.1.clone()
    }
}

/// A world with one cluster of some bytes.
fn world(revision: u64, bytes: usize) -> Arc<Fixed> {
    let mut set = ResourceSet::default();
    let resource = Resource::new(Kind::Cluster, "a".into(), revision, vec![0; bytes], Arc::from([]));
    set.insert(Kind::Cluster, Arc::new(resource));
    Arc::new(Fixed(revision, Arc::new(set)))
}

/// A proxy whose wire can be broken without either end being told.
struct Proxy {
    tracker: Tracker,
    publisher: Publisher,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    broken: CancellationToken,
    places: Places,
}

/// Carries bytes until it breaks, and then holds both ends as they are.
fn wire(mut one: DuplexStream, mut other: DuplexStream) -> CancellationToken {
    let broken = CancellationToken::new();
    let breaks = broken.clone().cancelled_owned();
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut one, &mut other) => {}
            () = breaks => std::future::pending().await,
        }
    });
    broken
}

async fn channel(end: DuplexStream) -> Channel {
    let mut end = Some(hyper_util::rt::TokioIo::new(end));
    let connect = tower::service_fn(move |_| {
        let end = end.take().ok_or_else(|| io::Error::other("there is one connection"));
        std::future::ready(end)
    });
    Endpoint::from_static("http://weft").connect_with_connector(connect).await.unwrap()
}

async fn connect() -> Proxy {
    let tracker = Tracker::default();
    let publisher = Publisher::new(tracker.clone());
    let options = Options { mesh_domain: "mesh".to_owned(), hold_down: Duration::ZERO, file: None };
    let registry = Registry::open(options).unwrap();
    let (ours, near) = tokio::io::duplex(WIRE_BYTES);
    let (far, theirs) = tokio::io::duplex(WIRE_BYTES);
    let broken = wire(near, far);
    let places = Places::default();
    let incoming = futures::stream::iter(places.admit(ours, None, Caller::Unasked).map(Ok));
    let incoming = futures::StreamExt::chain(incoming, futures::stream::pending());
    tokio::spawn(serve(
        incoming,
        Services {
            ads: AdsServer::new(&publisher),
            traffic: Traffic::new(tokio::time::Instant::now()),
            registry,
            identity: None,
        },
        CancellationToken::new(),
        TaskTracker::new(),
    ));
    publisher.publish(world(1, 10));
    let mut client = AggregatedDiscoveryServiceClient::new(channel(theirs).await);
    let (requests, queue) = mpsc::channel(8);
    let hello = DeltaDiscoveryRequest {
        node: Some(Node { id: "web-1".into(), ..Node::default() }),
        type_url: Kind::Cluster.type_url().into(),
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(hello).await.unwrap();
    let mut responses =
        client.delta_aggregated_resources(ReceiverStream::new(queue)).await.unwrap().into_inner();
    let first = responses.message().await.unwrap().unwrap();
    let type_url = first.type_url;
    let ack =
        DeltaDiscoveryRequest { type_url, response_nonce: first.nonce, ..DeltaDiscoveryRequest::default() };
    requests.send(ack).await.unwrap();
    let mut changes = tracker.changes();
    changes.wait_for(|_| tracker.proxies()[0].acked_revision == 1).await.unwrap();
    Proxy { tracker, publisher, requests, responses, broken, places }
}

impl Proxy {
    /// The same, for a proxy that is to be lost.
    async fn lost_in_time(&self) -> Duration {
        timeout(Duration::from_secs(3600), self.lost_after()).await.expect("the proxy is still known")
    }

    /// How long it takes from now until the proxy is no longer known.
    async fn lost_after(&self) -> Duration {
        let start = Instant::now();
        assert_eq!(self.tracker.proxies().len(), 1);
        let mut changes = self.tracker.changes();
        changes.wait_for(|_| self.tracker.proxies().is_empty()).await.unwrap();
        start.elapsed()
    }
}

fn metrics() -> String {
    crate::telemetry::install().map(|handle| handle.render()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_dead_proxy_is_dropped_when_it_does_not_answer_the_keepalive() {
    let proxy = connect().await;
    proxy.broken.cancel();
    let lost = proxy.lost_in_time().await;
    assert!(lost <= KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT + Duration::from_secs(1), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_dies_while_it_is_written_to_is_dropped_too() {
    let proxy = connect().await;
    proxy.broken.cancel();
    // More than the wire holds: not even a goodbye can be written, and so the connection would wait for ever.
    proxy.publisher.publish(world(2, 10 * WIRE_BYTES));
    let start = Instant::now();
    proxy.lost_in_time().await;
    while proxy.places.open() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(start.elapsed() <= STALL_TIMEOUT + Duration::from_secs(1), "the connection is still open");
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_lives_and_does_not_read_loses_its_connection() {
    metrics();
    let proxy = connect().await;
    // More than its window takes. The connection answers pings all the while.
    proxy.publisher.publish(world(2, 4 << 20));
    let lost = proxy.lost_in_time().await;
    assert!(lost >= ANSWER_TIMEOUT && lost <= ANSWER_TIMEOUT + Duration::from_secs(1), "{lost:?}");
    assert!(metrics().contains("weft_xds_stalled_total{what=\"stream\"}"));
    drop((proxy.requests, proxy.responses));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_idle_and_alive_is_kept() {
    let proxy = connect().await;
    let lost = timeout(Duration::from_secs(3600), proxy.lost_after()).await;
    assert!(lost.is_err());
}
