//! TLS at gateways and to destinations, alike through `weft proxy` and Envoy.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use weft_proto::node::{NodeMetadata, Role};
use weft_tests::{
    backend::{Attempts, Backend, Seen},
    client::{Answer, Connection, Protocol, empty, get},
    mesh::{Mesh, Proxy, SYNC},
    program::free_ports,
    services::{Registered, files_yaml},
    tls::{Authority, Client, Issued, Terminator},
    wait::until,
};

const KINDS: [&str; 2] = ["weft", "envoy"];

async fn proxy(mesh: &Mesh, kind: &str, name: &str, metadata: &NodeMetadata) -> Proxy {
    match kind {
        "weft" => mesh.weft_proxy(name, metadata).await,
        _ => mesh.envoy(name, metadata).await,
    }
}

/// One edge proxy of each kind, with the addresses of its ports 443 and 80.
struct Edge {
    mesh: Mesh,
    proxies: Vec<(&'static str, SocketAddr, SocketAddr, Proxy)>,
    _backend: Backend,
}

impl Edge {
    async fn open(documents: &str) -> Self {
        let mut mesh = Mesh::start().await;
        let backend = Backend::http("web", "v1", Attempts::default()).await;
        let endpoints = vec![("v1".to_owned(), backend.address)];
        mesh.publish(
            "web.yaml",
            &files_yaml(&[Registered { name: "web".into(), protocol: "http", endpoints }]),
        );
        mesh.endpoints("web", 1, SYNC).await;
        mesh.apply(documents).await.unwrap();
        let mut proxies = Vec::new();
        for kind in KINDS {
            let [secure, plain] = free_ports();
            let metadata = NodeMetadata {
                role: Role::Gateway,
                workload: "edge".into(),
                labels: BTreeMap::from([("app".to_owned(), "edge".to_owned())]),
                gateway_bind: Some(secure.ip()),
                gateway_ports: BTreeMap::from([(443, secure.port()), (80, plain.port())]),
                ..NodeMetadata::default()
            };
            proxies.push((kind, secure, plain, proxy(&mesh, kind, kind, &metadata).await));
        }
        mesh.synced(KINDS.len(), SYNC).await;
        Self { mesh, proxies, _backend: backend }
    }
}

fn secret(name: &str, issued: &Issued, authority: Option<&Authority>) -> String {
    issued.secret("default", name, authority)
}

const GATEWAY: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {app: edge}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [web.test]
    tls: {httpsRedirect: true}
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [web.test, \"*.wild.test\"]
    tls: {mode: SIMPLE, credentialName: web}
  - port: {number: 443, name: mutual, protocol: HTTPS}
    hosts: [mutual.wild.test]
    tls: {mode: MUTUAL, credentialName: mutual}
  - port: {number: 443, name: optional, protocol: HTTPS}
    hosts: [optional.test]
    tls: {mode: OPTIONAL_MUTUAL, credentialName: optional}
  - port: {number: 443, name: through, protocol: TLS}
    hosts: [through.test]
    tls: {mode: PASSTHROUGH}
  - port: {number: 443, name: nobody, protocol: HTTPS}
    hosts: [nobody.test]
    tls: {mode: SIMPLE, credentialName: nobody}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web.test, \"*.wild.test\", optional.test]
  gateways: [edge]
  http: [{route: [{destination: {host: web}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: through}
spec:
  hosts: [through.test]
  gateways: [edge]
  tls: [{match: [{sniHosts: [through.test]}], route: [{destination: {host: through.test}}]}]
";

fn seen(answer: &Answer) -> Seen {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_serves_each_name_as_its_certificate_asks() {
    let (ca, partners, others) = (Authority::new("ca"), Authority::new("partners"), Authority::new("others"));
    let behind = Backend::http("through", "v1", Attempts::default()).await;
    let through = Terminator::start(&ca.issue("through.test"), behind.address).await;
    let entry = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: through}}\nspec:\n  hosts: [through.test]\n  \
         resolution: STATIC\n  ports: [{{number: 443, name: tls, protocol: TLS, targetPort: {}}}]\n  \
         endpoints: [{{address: 127.0.0.1}}]\n",
        through.address.port()
    );
    let documents = [
        secret("web", &ca.issue("web.test"), None),
        secret("mutual", &ca.issue("mutual.wild.test"), Some(&partners)),
        secret("optional", &ca.issue("optional.test"), Some(&partners)),
        entry,
        GATEWAY.to_owned(),
    ];
    let edge = Edge::open(&documents.concat()).await;
    let (good, bad) = (partners.issue("partner.test"), others.issue("partner.test"));
    for (kind, secure, plain, _proxy) in &edge.proxies {
        let ask = async |shown: Option<&Issued>, protocol, name: &str, host: &str| {
            Client::new(&ca, shown, protocol).get(*secure, name, host).await
        };
        for protocol in [Protocol::H1, Protocol::H2] {
            let answer = ask(None, protocol, "web.test", "web.test").await.unwrap();
            assert_eq!(answer.status, 200, "{kind}");
            assert_eq!(seen(&answer).headers["x-forwarded-proto"], ["https"], "{kind}");
            let answer = ask(Some(&good), protocol, "mutual.wild.test", "mutual.wild.test").await.unwrap();
            assert_eq!(answer.status, 200, "{kind}");
        }
        let h1 = Protocol::H1;
        // Nobody is served under a certificate of another name, nor without one that is asked for.
        assert!(ask(None, h1, "unknown.test", "web.test").await.is_err(), "{kind}");
        assert!(ask(None, h1, "nobody.test", "nobody.test").await.is_err(), "{kind}");
        assert!(ask(None, h1, "mutual.wild.test", "mutual.wild.test").await.is_err(), "{kind}");
        assert!(ask(Some(&bad), h1, "mutual.wild.test", "mutual.wild.test").await.is_err(), "{kind}");
        let misdirected = ask(None, h1, "web.test", "mutual.wild.test").await.unwrap();
        assert_eq!(misdirected.status, 421, "{kind}");
        assert_eq!(ask(None, h1, "optional.test", "optional.test").await.unwrap().status, 200, "{kind}");
        assert_eq!(
            ask(Some(&good), h1, "optional.test", "optional.test").await.unwrap().status,
            200,
            "{kind}"
        );
        assert!(ask(Some(&bad), h1, "optional.test", "optional.test").await.is_err(), "{kind}");
        let through = ask(None, h1, "through.test", "through.test").await.unwrap();
        assert_eq!(seen(&through).service, "through", "{kind}");

        let mut connection = Connection::open(*plain, h1).await.unwrap();
        let request = get(h1, "web.test", "/a?b").body(empty()).unwrap();
        let redirect = connection.send(request).await.unwrap();
        assert_eq!(redirect.status, 301, "{kind}");
        assert_eq!(redirect.header("location").as_deref(), Some("https://web.test/a?b"), "{kind}");
    }
    let shown = edge.mesh.command(&["get", "secret", "-o", "yaml"]);
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.contains("tls.key") && !shown.contains("PRIVATE KEY"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_exchanged_under_load_without_a_failed_request() {
    const CHANGES: usize = 20;
    let ca = Authority::new("ca");
    let gateway = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  selector: {app: edge}\n  \
        servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [web.test], tls: {mode: SIMPLE, credentialName: web}}]\n\
        ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web}\nspec:\n  hosts: [web.test]\n  \
        gateways: [edge]\n  http: [{route: [{destination: {host: web}}]}]\n";
    let edge = Edge::open(&format!("{}{gateway}", secret("web", &ca.issue("web.test"), None))).await;
    let changed = Arc::new(AtomicBool::new(false));
    let mut loads = tokio::task::JoinSet::new();
    for (kind, secure, _, _) in &edge.proxies {
        for protocol in [Protocol::H1, Protocol::H2] {
            let (client, changed) = (Client::new(&ca, None, protocol), changed.clone());
            let (kind, secure) = (*kind, *secure);
            loads.spawn(async move {
                let mut lasting = client.open(secure, "web.test").await.unwrap();
                let mut answered = 0;
                while !changed.load(Relaxed) {
                    let request = get(protocol, "web.test", "/").body(empty()).unwrap();
                    let old = lasting.send(request).await;
                    assert!(
                        old.is_ok_and(|answer| answer.status == 200),
                        "{kind} {protocol:?}: a live connection"
                    );
                    let new = client.get(secure, "web.test", "web.test").await;
                    assert!(
                        new.is_ok_and(|answer| answer.status == 200),
                        "{kind} {protocol:?}: a new connection"
                    );
                    answered += 2;
                }
                answered
            });
        }
    }
    for _ in 0..CHANGES {
        edge.mesh.apply(&secret("web", &ca.issue("web.test"), None)).await.unwrap();
        edge.mesh.synced(KINDS.len(), SYNC).await;
    }
    changed.store(true, Relaxed);
    let answered: usize = loads.join_all().await.into_iter().sum();
    // One of another authority shows that changes were taken.
    let other = Authority::new("other");
    edge.mesh.apply(&secret("web", &other.issue("web.test"), None)).await.unwrap();
    for (kind, secure, _, _) in &edge.proxies {
        let client = Client::new(&other, None, Protocol::H1);
        let shown = async || client.get(*secure, "web.test", "web.test").await;
        until(&format!("the last certificate at {kind}"), SYNC, shown).await;
    }
    println!("{answered} requests over {CHANGES} certificates");
}

fn entry(port: u16, protocol: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: outside}}\nspec:\n  hosts: [outside.test]\n  \
         location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, name: web, protocol: {protocol}, targetPort: {port}}}]\n  \
         endpoints: [{{address: 127.0.0.1}}]\n"
    )
}

fn rule(settings: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: outside}}\nspec:\n  host: outside.test\n  \
         trafficPolicy: {{tls: {{{settings}}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_a_destination_is_begun_and_its_server_verified() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let behind = Backend::http("outside", "v1", Attempts::default()).await;
    let outside = Terminator::start(&ca.issue("outside.test"), behind.address).await;
    let mesh = Mesh::start().await;
    let file = |name: &str, authority: &Authority| {
        let path = mesh.dir.path().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        path.display().to_string()
    };
    let (good, bad) = (file("good.pem", &ca), file("bad.pem", &other));
    let trusting = |path: &str, more: &str| format!("mode: SIMPLE, caCertificates: {path}{more}");
    mesh.apply(&format!("{}{}", entry(outside.address.port(), "HTTP"), rule(&trusting(&good, ""))))
        .await
        .unwrap();
    let mut doors = Vec::new();
    for kind in KINDS {
        let [door] = free_ports();
        let metadata =
            NodeMetadata { outbound_http: Some(door), workload: "client".into(), ..NodeMetadata::default() };
        doors.push((kind, door, proxy(&mesh, kind, kind, &metadata).await));
    }
    for (settings, protocol, expected) in [
        (trusting(&good, ""), "HTTP", Some("HTTP/2.0")),
        (trusting(&good, ""), "GRPC", Some("HTTP/2.0")),
        (trusting(&bad, ""), "HTTP", None),
        (trusting(&good, ", sni: other.test"), "HTTP", None),
        (trusting(&good, ", sni: other.test, subjectAltNames: [outside.test]"), "HTTP", Some("HTTP/2.0")),
        (trusting(&good, ", subjectAltNames: [other.test]"), "HTTP", None),
        ("mode: SIMPLE".to_owned(), "HTTP", None),
        ("mode: SIMPLE, insecureSkipVerify: true".to_owned(), "HTTP", Some("HTTP/2.0")),
    ] {
        mesh.apply(&format!("{}{}", entry(outside.address.port(), protocol), rule(&settings))).await.unwrap();
        mesh.synced(KINDS.len(), SYNC).await;
        for (kind, door, _proxy) in &doors {
            let ask = async || {
                let mut connection =
                    Connection::open(*door, Protocol::H1).await.map_err(|error| error.to_string())?;
                let request = get(Protocol::H1, "outside.test", "/").body(empty()).unwrap();
                let answer = connection.send(request).await.map_err(|error| error.to_string())?;
                let found = (answer.status == 200).then(|| seen(&answer).protocol);
                if found.as_deref() == expected { Ok(()) } else { Err(format!("{answer:?}")) }
            };
            until(&format!("{expected:?} by {settings:?} of {protocol} at {kind}"), SYNC, ask).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_egress_gateway_sends_on_what_leaves_the_mesh_and_begins_its_tls() {
    let ca = Authority::new("ca");
    let behind = Backend::http("outside", "v1", Attempts::default()).await;
    let outside = Terminator::start(&ca.issue("outside.test"), behind.address).await;
    let mut mesh = Mesh::start().await;
    let path = mesh.dir.path().join("ca.pem");
    std::fs::write(&path, ca.pem()).unwrap();
    let ports: [SocketAddr; 2] = free_ports();
    let endpoints = |at: SocketAddr| vec![("v1".to_owned(), at)];
    let services: Vec<_> = KINDS
        .iter()
        .zip(ports)
        .map(|(kind, at)| Registered {
            name: format!("egress-{kind}"),
            protocol: "http",
            endpoints: endpoints(at),
        })
        .collect();
    mesh.publish("egress.yaml", &files_yaml(&services));
    for kind in KINDS {
        mesh.endpoints(&format!("egress-{kind}"), 1, SYNC).await;
    }
    let tls = format!("mode: SIMPLE, caCertificates: {}", path.display());
    let mut proxies = Vec::new();
    for (kind, at) in KINDS.iter().zip(ports) {
        let documents = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: egress}}\nspec:\n  selector: {{app: egress-{kind}}}\n  \
             servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [outside.test]}}]\n\
             ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: outside}}\nspec:\n  hosts: [outside.test]\n  \
             gateways: [mesh, egress]\n  http:\n  - match: [{{gateways: [mesh], port: 80}}]\n    \
             route: [{{destination: {{host: egress-{kind}, port: {{number: 80}}}}}}]\n  \
             - match: [{{gateways: [egress], port: 80}}]\n    headers: {{request: {{set: {{x-by: {kind}}}}}}}\n    \
             route: [{{destination: {{host: outside.test, port: {{number: 80}}}}}}]\n"
        );
        mesh.apply(&format!("{}{}{documents}", entry(outside.address.port(), "HTTP"), rule(&tls)))
            .await
            .unwrap();
        let gateway = NodeMetadata {
            role: Role::Gateway,
            workload: "egress".into(),
            labels: BTreeMap::from([("app".to_owned(), format!("egress-{kind}"))]),
            gateway_bind: Some(at.ip()),
            gateway_ports: BTreeMap::from([(80, at.port())]),
            ..NodeMetadata::default()
        };
        proxies.push(proxy(&mesh, kind, &format!("egress-{kind}"), &gateway).await);
        let [door] = free_ports();
        let sidecar =
            NodeMetadata { outbound_http: Some(door), workload: "client".into(), ..NodeMetadata::default() };
        proxies.push(proxy(&mesh, kind, &format!("sidecar-{kind}"), &sidecar).await);
        mesh.synced(proxies.len(), SYNC).await;
        let mut connection = Connection::open(door, Protocol::H1).await.unwrap();
        let request = get(Protocol::H1, "outside.test", "/").body(empty()).unwrap();
        let answer = connection.send(request).await.unwrap();
        assert_eq!(answer.status, 200, "{kind}: {answer:?}");
        let found = seen(&answer);
        assert_eq!((found.host.as_str(), &found.headers["x-by"][0]), ("outside.test", &(*kind).to_owned()));
        assert_eq!(found.protocol, "HTTP/2.0", "{kind}");
    }
}
