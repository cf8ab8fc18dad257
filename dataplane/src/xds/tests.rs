//! The client against a small control plane over loopback.

use std::{pin::Pin, sync::Mutex};

use futures::Stream;
use prost::{Message, Name};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use weft_proto::xds::{
    envoy::{
        config::{
            cluster::v3::{Cluster, cluster::LbPolicy},
            core::v3::Node,
        },
        service::discovery::v3::{
            DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
            aggregated_discovery_service_server::{
                AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
            },
        },
    },
    google::protobuf::Any,
};

use super::*;

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Hands every stream the next script of responses, and the requests to the test.
struct Plane {
    scripts: Mutex<Vec<Vec<DeltaDiscoveryResponse>>>,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Plane {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let mut incoming = request.into_inner();
        let requests = self.requests.clone();
        let script = self.scripts.lock().unwrap().pop();
        let ends = script.as_ref().is_none_or(Vec::is_empty);
        tokio::spawn(async move {
            while let Some(Ok(request)) = incoming.next().await {
                if requests.send(request).await.is_err() {
                    return;
                }
            }
        });
        let script = tokio_stream::iter(script.unwrap_or_default().into_iter().map(Ok));
        // A stream with nothing to say ends at once, another stays open.
        let stream: Responses<_> =
            if ends { Box::pin(script) } else { Box::pin(script.chain(tokio_stream::pending())) };
        Ok(Response::new(stream))
    }
}

fn clusters(resources: &[Cluster]) -> DeltaDiscoveryResponse {
    let wire = |cluster: &Cluster| Resource {
        name: cluster.name.clone(),
        version: "1".into(),
        resource: Some(Any { type_url: Cluster::type_url(), value: cluster.encode_to_vec() }),
        ..Default::default()
    };
    DeltaDiscoveryResponse {
        type_url: Cluster::type_url(),
        nonce: "first".into(),
        resources: resources.iter().map(wire).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_bad_resource_is_nacked_by_name_and_a_lost_stream_is_opened_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let good = Cluster { name: "good".into(), ..Default::default() };
    let bad =
        Cluster { name: "bad".into(), lb_policy: LbPolicy::ClusterProvided as i32, ..Default::default() };
    let (requests, mut seen) = mpsc::channel(64);
    // Taken from the end: the first stream dies at once, so the client must come again.
    let scripts = Mutex::new(vec![vec![clusters(&[good, bad])], Vec::new()]);
    let plane = Plane { scripts, requests };
    let server = Server::builder()
        .add_service(AggregatedDiscoveryServiceServer::new(plane))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let (spec, mut specs) = watch::channel(Arc::new(Spec::default()));
    let stop = CancellationToken::new();
    let client = Client {
        wants_names: false,
        dialer: Dialer { identity: None },
        addresses: vec![Endpoint::from_shared(address).unwrap()],
        node: Node { id: "proxy".into(), ..Default::default() },
        cache: None,
        loads: Arc::default(),
        spec,
        stop: stop.clone(),
    };
    let client = tokio::spawn(client.run(mpsc::channel(1).1));
    specs.changed().await.unwrap();
    assert!(specs.borrow().clusters.contains_key("good"));
    let nack = loop {
        let request = seen.recv().await.unwrap();
        if let Some(error) = request.error_detail {
            break (request.response_nonce, error.message);
        }
    };
    assert_eq!(nack.0, "first");
    assert!(nack.1.contains("\"bad\"") && nack.1.contains("lb_policy"), "{}", nack.1);
    stop.cancel();
    client.await.unwrap();
    server.abort();
}
