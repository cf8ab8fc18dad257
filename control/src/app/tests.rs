//! The whole control plane over loopback sockets.

use std::collections::BTreeMap;

use tonic::transport::Channel;
use weft_proto::xds::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use weft_proto::{
    admin::v1::{self as admin, admin_client::AdminClient},
    registry::v1::{self as wire, registry_client::RegistryClient, sync_request, sync_response},
};

use super::*;

const ROUTE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: api
spec:
  hosts: [api]
  http:
  - route:
    - destination:
        host: api
";

fn settings(folder: &tempfile::TempDir) -> Settings {
    Settings {
        xds_bind: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        tls_bind: None,
        trust_domain_aliases: Vec::new(),
        identity: crate::identity::Options {
            trust_domain: "cluster.local".to_owned(),
            leaf_life: Duration::from_secs(3600),
            folder: folder.path().join("data/identity"),
            supplied: None,
            kubernetes: None,
        },
        admin_bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: folder.path().join("data"),
        mesh_domain: "cluster.local".to_owned(),
        hold_down: Duration::from_secs(60),
        locality_lb: Default::default(),
        log: None,
        providers: Default::default(),
        jwks_hosts: Default::default(),
        outbound_policy: crate::model::OutboundPolicy::default(),
    }
}

async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn people(app: &App) -> AdminClient<Channel> {
    AdminClient::new(channel(app.admin_address()).await)
}

fn manifest(yaml: &str) -> admin::ApplyRequest {
    let manifest = admin::Manifest { yaml: yaml.to_owned(), origin: "route.yaml".to_owned() };
    admin::ApplyRequest { manifests: vec![manifest], ..Default::default() }
}

fn upsert(sequence: u64, object: wire::upsert::Object) -> wire::SyncRequest {
    let step = sync_request::Step::Upsert(wire::Upsert { object: Some(object) });
    wire::SyncRequest { sequence, step: Some(step) }
}

/// Tells one service with one endpoint, and waits for the acknowledgement.
async fn tell(app: &App) {
    let key = wire::ServiceKey { namespace: "default".to_owned(), name: "api".to_owned() };
    let service = wire::Service {
        key: Some(key.clone()),
        ports: vec![wire::Port {
            name: "http".to_owned(),
            number: 80,
            protocol: wire::Protocol::Http.into(),
        }],
        ..Default::default()
    };
    let endpoint = wire::Endpoint {
        id: "1".to_owned(),
        service: Some(key),
        address: "127.0.0.1".to_owned(),
        ports: BTreeMap::from([("http".to_owned(), 8080)]),
        ..Default::default()
    };
    let bad = wire::Endpoint { address: "not an address".to_owned(), ..endpoint.clone() };
    let hello = wire::Hello {
        source: "files/test".to_owned(),
        platform: "files".to_owned(),
        incarnation: "one".to_owned(),
        ..Default::default()
    };
    let step = |sequence, step| wire::SyncRequest { sequence, step: Some(step) };
    let story = vec![
        step(0, sync_request::Step::Hello(hello)),
        step(1, sync_request::Step::Begin(wire::Begin { epoch: 1 })),
        upsert(2, wire::upsert::Object::Service(service)),
        upsert(3, wire::upsert::Object::Endpoint(endpoint)),
        upsert(4, wire::upsert::Object::Endpoint(bad)),
        step(5, sync_request::Step::End(wire::End { epoch: 1, doubt: String::new() })),
    ];
    let mut client = RegistryClient::new(channel(app.xds_address().unwrap()).await);
    let mut answers = client.sync(tokio_stream::iter(story)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        seen.push(answer.step.unwrap());
    }
    assert!(matches!(seen[0], sync_response::Step::Welcome(wire::Welcome { resume_after: 0 })), "{seen:?}");
    assert!(matches!(&seen[1], sync_response::Step::Rejected(refused) if refused.sequence == 4), "{seen:?}");
    assert!(matches!(seen[2], sync_response::Step::Ack(wire::Ack { sequence: 5 })), "{seen:?}");
}

async fn wait_for_service(client: &mut AdminClient<Channel>) -> admin::ServiceView {
    let mut statuses = client.watch(admin::StatusRequest::default()).await.unwrap().into_inner();
    loop {
        let request = admin::ServicesRequest { name: "api".to_owned(), ..Default::default() };
        let services = client.services(request).await.unwrap().into_inner().services;
        if let Some(service) = services.into_iter().next() {
            return service;
        }
        statuses.message().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn facts_and_documents_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(settings(&folder)).await.unwrap();
    let mut client = people(&app).await;
    tell(&app).await;
    let service = wait_for_service(&mut client).await;
    assert_eq!(service.endpoints[0].id, "files/test/1");
    let applied = client.apply(manifest(ROUTE)).await.unwrap().into_inner();
    assert_eq!(applied.problems, []);
    assert_eq!(applied.applied[0].action, "created");
    app.stop().await;
    let before = applied.revision;

    let app = App::start(settings(&folder)).await.unwrap();
    let mut client = people(&app).await;
    let status = client.status(admin::StatusRequest::default()).await.unwrap().into_inner();
    assert_eq!((status.sources[0].state.as_str(), status.sources[0].endpoints), ("stale", 1));
    assert_eq!(wait_for_service(&mut client).await.endpoints.len(), 1);
    let mut updates = client.watch(admin::StatusRequest::default()).await.unwrap().into_inner();
    let mut revision = status.revision;
    while revision == 0 {
        revision = updates.message().await.unwrap().unwrap().revision;
    }
    assert!(revision > before, "{revision} after {before}");
    drop(updates);
    let wanted =
        admin::GetRequest { kind: "virtualservice".to_owned(), name: "api".to_owned(), ..Default::default() };
    assert_eq!(client.get(wanted).await.unwrap().into_inner().owner, "api");
    app.stop().await;
}

#[tokio::test]
async fn a_broken_document_is_refused_whole_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(settings(&folder)).await.unwrap();
    let mut client = people(&app).await;
    let broken =
        format!("{ROUTE}---\n{}", ROUTE.replace("name: api", "name: other").replace("hosts", "hostss"));
    let refused = client.apply(manifest(&broken)).await.unwrap().into_inner();
    assert!(refused.applied.is_empty() && !refused.problems.is_empty(), "{refused:?}");
    assert!(refused.problems[0].line > 10, "{refused:?}");
    let listed = client.list(admin::ListRequest::default()).await.unwrap().into_inner();
    assert!(listed.documents.is_empty());
    app.stop().await;
}

#[tokio::test]
async fn the_younger_of_two_documents_for_one_host_is_told_of_the_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(settings(&folder)).await.unwrap();
    let mut client = people(&app).await;
    client.apply(manifest(ROUTE)).await.unwrap();
    let younger = ROUTE.replace("name: api\n", "name: younger\n");
    let answer = client.apply(manifest(&younger)).await.unwrap().into_inner();
    let conflict = "conflict: VirtualService/default/api routes \"api\" already, and it wins";
    assert!(answer.problems.iter().any(|problem| problem.message == conflict), "{answer:?}");
    // An update does not make it older.
    let again = younger.replace("hosts: [api]", "hosts: [api, api.default]");
    client.apply(manifest(&again)).await.unwrap();
    let listed = client.list(admin::ListRequest::default()).await.unwrap().into_inner().documents;
    let conflicts = |name: &str| {
        let document = listed.iter().find(|document| document.name == name).unwrap();
        document.problems.iter().filter(|problem| problem.message.starts_with("conflict")).count()
    };
    assert_eq!((conflicts("api"), conflicts("younger")), (0, 2));
    app.stop().await;
}

#[tokio::test]
async fn both_sides_of_a_conflict_have_it_in_their_status() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(settings(&folder)).await.unwrap();
    let mut client = people(&app).await;
    tell(&app).await;
    wait_for_service(&mut client).await;
    client.apply(manifest(ROUTE)).await.unwrap();
    let younger = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: younger}
spec:
  parentRefs: [{group: '', kind: Service, name: api}]
  rules: [{backendRefs: [{name: api, port: 80}]}]
";
    client.apply(manifest(younger)).await.unwrap();
    let mut said = Vec::new();
    for (kind, name) in [("VirtualService", "api"), ("httproute", "younger")] {
        let wanted = admin::GetRequest { kind: kind.into(), name: name.into(), ..Default::default() };
        let status = client.get(wanted).await.unwrap().into_inner().status.unwrap();
        let parents = status.parents.into_iter().flat_map(|parent| parent.conditions);
        let all = status.conditions.into_iter().chain(parents);
        said.extend(
            all.filter(|it| !it.good).map(|it| format!("{}: {} {}", it.r#type, it.reason, it.message)),
        );
    }
    let message =
        "conflict: VirtualService/default/api routes requests to service default/api too, and it wins";
    assert_eq!(
        said,
        [
            "Conflicted: Overrules HTTPRoute/default/younger claims the same; this one has it".to_owned(),
            format!("Accepted: Overruled {message}"),
            format!("Conflicted: Overruled {message}"),
        ]
    );
    app.stop().await;
}

#[tokio::test]
async fn a_stale_version_conflicts_and_a_deleted_document_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(settings(&folder)).await.unwrap();
    let mut client = people(&app).await;
    let first = client.apply(manifest(ROUTE)).await.unwrap().into_inner();
    assert!(first.revision > 0);
    let mut late = manifest(&ROUTE.replace("hosts: [api]", "hosts: [api, other]"));
    late.expected_versions = [("VirtualService/default/api".to_owned(), 99)].into();
    assert_eq!(client.apply(late).await.unwrap_err().code(), tonic::Code::Aborted);
    let gone = admin::DeleteRequest {
        kind: "VirtualService".to_owned(),
        name: "api".to_owned(),
        ..Default::default()
    };
    let deleted = client.delete(gone.clone()).await.unwrap().into_inner();
    assert!(deleted.revision > first.revision);
    assert_eq!(client.delete(gone).await.unwrap_err().code(), tonic::Code::NotFound);
    app.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_option() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings { admin_bind: taken.local_addr().unwrap(), ..settings(&folder) };
    let Err(error) = App::start(settings).await else { panic!("the port is taken") };
    assert!(error.to_string().contains("--admin-bind"), "{error}");
}

/// One request over a connection of its own.
async fn fetch(address: SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut peer = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: weft\r\nconnection: close\r\n\r\n");
    peer.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn probes_and_scrapers_are_answered_beside_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(settings(&folder)).await.unwrap();
    tell(&app).await;
    let mut client = people(&app).await;
    wait_for_service(&mut client).await;
    let applied = client.apply(manifest(ROUTE)).await.unwrap().into_inner();
    assert!(applied.revision > 0);
    let admin = app.admin_address();
    assert!(fetch(admin, "/healthz").await.ends_with("ok\n"));
    assert!(fetch(admin, "/metrics").await.contains("weft_source_endpoints{source=\"files/test\"} 1"));
    assert!(fetch(admin, "/api/v1/status").await.contains("\"name\":\"files/test\""));
    assert!(fetch(admin, "/api/v1/documents?kind=virtualservice").await.contains("\"owner\":\"api\""));
    assert!(fetch(admin, "/api/v1/documents?kind=Gateway").await.ends_with("[]"));
    assert!(fetch(admin, "/api/v1/config_dump").await.contains("\"mesh_domain\":\"cluster.local\""));
    assert!(fetch(admin, "/nowhere").await.starts_with("HTTP/1.1 "));
    app.stop().await;
}

#[tokio::test]
async fn only_a_known_source_can_be_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(settings(&folder)).await.unwrap();
    tell(&app).await;
    let mut client = people(&app).await;
    let confirm = |source: &str| admin::ConfirmSourceRequest { source: source.to_owned() };
    assert_eq!(client.confirm_source(confirm("files/test")).await.unwrap().into_inner().removed, 0);
    assert_eq!(client.confirm_source(confirm("nobody")).await.unwrap_err().code(), tonic::Code::NotFound);
    app.stop().await;
}

/// Subscribes to every cluster, acknowledges what comes, and answers when `name` is there.
async fn wait_for_cluster(app: &App, name: &str) -> (tokio::sync::mpsc::Sender<DeltaDiscoveryRequest>, u64) {
    let (requests, outgoing) = tokio::sync::mpsc::channel(8);
    let metadata = NodeMetadata {
        outbound_http: Some(SocketAddr::from(([127, 0, 0, 1], 15080))),
        ..NodeMetadata::default()
    };
    let node = Node { id: "web-1".to_owned(), metadata: Some(metadata.to_struct()), ..Node::default() };
    let type_url = crate::resource::Kind::Cluster.type_url().to_owned();
    let first = DeltaDiscoveryRequest { node: Some(node), type_url: type_url.clone(), ..Default::default() };
    requests.send(first).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel(app.xds_address().unwrap()).await);
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let mut answers = client.delta_aggregated_resources(outgoing).await.unwrap().into_inner();
    let mut pushes = 0;
    loop {
        let push: DeltaDiscoveryResponse = answers.message().await.unwrap().unwrap();
        pushes += 1;
        let ack = DeltaDiscoveryRequest {
            type_url: type_url.clone(),
            response_nonce: push.nonce,
            ..Default::default()
        };
        requests.send(ack).await.unwrap();
        if push.resources.iter().any(|resource| resource.name == name) {
            return (requests, pushes);
        }
    }
}

#[tokio::test]
async fn a_fact_reaches_a_proxy_and_its_acknowledgement_reaches_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(settings(&folder)).await.unwrap();
    let mut client = people(&app).await;
    tell(&app).await;
    let cluster = weft_proto::node::cluster_name(80, "", "api.default.svc.cluster.local");
    let (stream, pushes) = wait_for_cluster(&app, &cluster).await;
    assert!(pushes >= 1);
    let mut statuses = client.watch(admin::StatusRequest::default()).await.unwrap().into_inner();
    loop {
        let status = statuses.message().await.unwrap().unwrap();
        let synced = status.proxies.iter().any(|proxy| proxy.id == "web-1" && proxy.state == "synced");
        if synced && status.live_revision == status.revision {
            break;
        }
    }
    drop(stream);
    app.stop().await;
}
