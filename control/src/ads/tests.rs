//! The server over a real socket, on loopback.

use std::sync::Arc;

use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Server};
use weft_proto::{
    node::NodeMetadata,
    xds::{
        envoy::{
            config::core::v3::Node,
            service::discovery::v3::{
                DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
                aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
            },
        },
        google::{
            protobuf::{Struct, Value, value},
            rpc,
        },
    },
};

use super::{AdsServer, Publisher, Tracker, World};
use crate::resource::{Asked, Kind, Resource, ResourceSet};

struct Fixed(u64, Arc<ResourceSet>);

impl World for Fixed {
    fn revision(&self) -> u64 {
        self.0
    }

    fn resources(&self, _node: &NodeMetadata, _asked: &Asked) -> Arc<ResourceSet> {
        self.1.clone()
    }
}

fn world(revision: u64) -> Arc<Fixed> {
    let mut set = ResourceSet::default();
    let documents = Arc::from([Arc::from("VirtualService/default/a")]);
    let resource = Resource::new(Kind::Cluster, "a".into(), revision, vec![1, 2, 3], documents);
    set.insert(Kind::Cluster, Arc::new(resource));
    Arc::new(Fixed(revision, Arc::new(set)))
}

type Client = AggregatedDiscoveryServiceClient<tonic::transport::Channel>;

async fn start() -> (Publisher, Tracker, Client) {
    start_with(super::STREAMS_MAX).await
}

async fn start_with(streams_max: usize) -> (Publisher, Tracker, Client) {
    let tracker = Tracker::default();
    let publisher = Publisher::new(tracker.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let places = Arc::new(tokio::sync::Semaphore::new(streams_max));
    let service = AdsServer { places, ..AdsServer::new(&publisher) };
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(crate::peer::incoming(listener)));
    let client = AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await.unwrap();
    (publisher, tracker, client)
}

fn hello(metadata: Option<Struct>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: "web-1".into(), user_agent_name: "weft".into(), metadata, ..Node::default() }),
        type_url: Kind::Cluster.type_url().into(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn answer(response: &DeltaDiscoveryResponse, error: Option<&str>) -> DeltaDiscoveryRequest {
    let error_detail = error.map(|text| rpc::Status { message: text.into(), ..rpc::Status::default() });
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail,
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn a_proxy_is_followed_from_its_first_request_to_its_leaving() {
    let (publisher, tracker, mut client) = start().await;
    let (requests, queue) = mpsc::channel(8);
    requests.send(hello(None)).await.unwrap();
    let mut responses =
        client.delta_aggregated_resources(ReceiverStream::new(queue)).await.unwrap().into_inner();

    // Nothing is told before the first world is known.
    publisher.publish(world(1));
    let first = responses.message().await.unwrap().unwrap();
    assert_eq!((first.resources.len(), first.resources[0].name.as_str()), (1, "a"));
    assert_eq!(first.resources[0].resource.as_ref().unwrap().value, [1, 2, 3]);
    let mut changes = tracker.changes();
    requests.send(answer(&first, None)).await.unwrap();
    changes.wait_for(|_| tracker.live_revision() == 1).await.unwrap();
    let proxy = tracker.proxies().remove(0);
    assert_eq!(
        (&*proxy.id, &*proxy.kind, &*proxy.state, &*proxy.protocol),
        ("web-1", "weft", "synced", "delta")
    );

    publisher.publish(world(2));
    let second = responses.message().await.unwrap().unwrap();
    requests.send(answer(&second, Some("a: no"))).await.unwrap();
    changes.wait_for(|_| tracker.proxies()[0].state == "rejected").await.unwrap();
    let rejection = tracker.proxies()[0].rejections.remove(0);
    assert_eq!(
        (&*rejection.message, rejection.documents),
        ("a: no", vec!["VirtualService/default/a".to_owned()])
    );
    assert_eq!(tracker.live_revision(), 1);

    drop((requests, responses));
    changes.wait_for(|_| tracker.proxies().is_empty()).await.unwrap();
}

#[tokio::test]
async fn metadata_that_cannot_be_read_is_refused_by_the_name_of_its_field() {
    let (publisher, _, mut client) = start().await;
    publisher.publish(world(1));
    let role = Value { kind: Some(value::Kind::StringValue("king".into())) };
    let bad = Struct { fields: [("ROLE".to_owned(), role)].into() };
    let requests = tokio_stream::iter([hello(Some(bad))]);
    let mut responses = client.delta_aggregated_resources(requests).await.unwrap().into_inner();
    let status = responses.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("ROLE"), "{}", status.message());
}

#[tokio::test]
async fn stopping_ends_streams_so_that_clients_go_elsewhere() {
    let (publisher, _, mut client) = start().await;
    publisher.publish(world(1));
    let (requests, queue) = mpsc::channel(8);
    let node = hello(None).node;
    let first =
        DiscoveryRequest { node, type_url: Kind::Cluster.type_url().into(), ..DiscoveryRequest::default() };
    requests.send(first).await.unwrap();
    let mut responses =
        client.stream_aggregated_resources(ReceiverStream::new(queue)).await.unwrap().into_inner();
    assert_eq!(responses.message().await.unwrap().unwrap().resources.len(), 1);
    publisher.stop();
    assert_eq!(responses.message().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_stream_past_the_limit_is_refused_until_another_ends() {
    let (publisher, tracker, mut client) = start_with(1).await;
    publisher.publish(world(1));
    let (requests, queue) = mpsc::channel(8);
    requests.send(hello(None)).await.unwrap();
    let mut first = client.delta_aggregated_resources(ReceiverStream::new(queue)).await.unwrap().into_inner();
    first.message().await.unwrap().unwrap();
    let again = || tokio_stream::iter([hello(None)]);
    let mut second = client.delta_aggregated_resources(again()).await.unwrap().into_inner();
    assert_eq!(second.message().await.unwrap_err().code(), Code::ResourceExhausted);
    drop((requests, first));
    let mut changes = tracker.changes();
    changes.wait_for(|_| tracker.proxies().is_empty()).await.unwrap();
    // The place is given back a moment after the proxy is gone from the list.
    loop {
        let mut third = client.delta_aggregated_resources(again()).await.unwrap().into_inner();
        if third.message().await.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
    }
}
