//! Listeners and routes of the Gateway API for connections: TLS by name and certificate, and bytes, alike through
//! `weft proxy` and Envoy.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use weft_proto::node::{NodeMetadata, Role, Upstream};
use weft_tests::{
    backend::{Attempts, Backend, Seen, tcp_exchange},
    client::{Answer, Protocol},
    mesh::{Mesh, Proxy, SYNC},
    program::free_ports,
    services::{Registered, files_yaml},
    tls::{Authority, Client, Terminator},
    wait::until,
};

const GATEWAY: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: weft
  tls:
    frontend:
      default: {}
      perPort: [{port: 8443, tls: {validation: {caCertificateRefs: [{group: \"\", kind: ConfigMap, name: partners}]}}}]
  listeners:
  - {name: web, port: 443, protocol: HTTPS, hostname: web.test, tls: {certificateRefs: [{name: web}]}}
  - {name: wild, port: 443, protocol: HTTPS, hostname: \"*.wild.test\", tls: {certificateRefs: [{name: wild, namespace: other}]}}
  - {name: mutual, port: 443, protocol: HTTPS, hostname: mutual.wild.test, tls: {certificateRefs: [{name: mutual}], options: {gateway.istio.io/tls-terminate-mode: MUTUAL}}}
  - {name: nobody, port: 443, protocol: HTTPS, hostname: nobody.wild.test, tls: {certificateRefs: [{name: nobody}]}}
  - {name: through, port: 443, protocol: TLS, hostname: \"*.through.test\", tls: {mode: Passthrough}}
  - {name: clients, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: web}]}}
  - {name: bytes, port: 5432, protocol: TCP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: through}
spec:
  parentRefs: [{name: edge}]
  hostnames: [a.through.test]
  rules: [{backendRefs: [{name: through, port: 9000}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: bytes}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: bytes, port: 9000, weight: 3}, {name: nobody, port: 9000}]}]
";

const GRANT: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: certificates, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}]
  to: [{group: \"\", kind: Secret}]
";

/// Connections that measure a split.
const CONNECTIONS: usize = 200;

fn service_of(answer: &Answer) -> String {
    let seen: Seen = serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    seen.service
}

/// A ConfigMap of authorities.
fn authorities(name: &str, of: &Authority) -> String {
    let lines: String = of.pem().lines().map(|line| format!("    {line}\n")).collect();
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  ca.crt: |\n{lines}")
}

/// One edge proxy of each kind, with the addresses of its ports 443, 8443 and 5432.
async fn proxies(mesh: &Mesh) -> Vec<(&'static str, [SocketAddr; 3], Proxy)> {
    let mut proxies = Vec::new();
    for kind in ["weft", "envoy"] {
        let ports: [SocketAddr; 3] = free_ports();
        let [secure, clients, bytes] = ports;
        let metadata = NodeMetadata {
            role: Role::Gateway,
            namespace: "default".into(),
            workload: "edge".into(),
            gateway_bind: Some(secure.ip()),
            gateway_ports: BTreeMap::from([
                (443, secure.port()),
                (8443, clients.port()),
                (5432, bytes.port()),
            ]),
            ..NodeMetadata::default()
        };
        let proxy = match kind {
            "weft" => mesh.weft_proxy(kind, &metadata).await,
            _ => mesh.envoy(kind, &metadata).await,
        };
        proxies.push((kind, ports, proxy));
    }
    mesh.synced(proxies.len(), SYNC).await;
    proxies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_serve_each_name_with_its_certificate_and_connections_by_their_routes() {
    let (ca, partners) = (Authority::new("ca"), Authority::new("partners"));
    let mut mesh = Mesh::start().await;
    let web = Backend::http("web", "v1", Attempts::default()).await;
    let behind = Backend::http("through", "v1", Attempts::default()).await;
    let through = Terminator::start(&ca.issue("a.through.test"), behind.address).await;
    let bytes = Backend::tcp("v1").await;
    let registered =
        [("web", "http", web.address), ("through", "tcp", through.address), ("bytes", "tcp", bytes.address)]
            .map(|(name, protocol, address)| Registered {
                name: name.into(),
                protocol,
                endpoints: vec![("v1".to_owned(), address)],
            });
    mesh.publish("services.yaml", &files_yaml(&registered));
    for service in &registered {
        mesh.endpoints(&service.name, 1, SYNC).await;
    }
    let documents = [
        ca.issue("web.test").secret("default", "web", None),
        ca.issue("*.wild.test").secret("other", "wild", None),
        ca.issue("mutual.wild.test").secret("default", "mutual", Some(&partners)),
        authorities("partners", &partners),
        GRANT.to_owned(),
        GATEWAY.to_owned(),
    ];
    mesh.apply(&documents.concat()).await.unwrap();
    let proxies = proxies(&mesh).await;
    let partner = partners.issue("partner.test");
    for (kind, [secure, clients, bytes], _proxy) in &proxies {
        for protocol in [Protocol::H1, Protocol::H2] {
            let (plain, known) =
                (Client::new(&ca, None, protocol), Client::new(&ca, Some(&partner), protocol));
            for (client, name, host, expected) in [
                (&plain, "web.test", "web.test", Some(200)),
                (&plain, "a.wild.test", "b.wild.test", Some(200)),
                (&known, "mutual.wild.test", "mutual.wild.test", Some(200)),
                // Names of others are not answered for, whether they have routes or not; nobody's are not found.
                (&plain, "web.test", "a.wild.test", Some(421)),
                (&plain, "a.wild.test", "mutual.wild.test", Some(421)),
                (&plain, "web.test", "nobody.wild.test", Some(421)),
                (&plain, "web.test", "elsewhere.test", Some(404)),
                // Without a certificate to show or be shown, and without a name, nobody is served.
                (&plain, "mutual.wild.test", "mutual.wild.test", None),
                (&plain, "nobody.wild.test", "nobody.wild.test", None),
                (&plain, "elsewhere.test", "web.test", None),
                (&plain, "b.through.test", "b.through.test", None),
            ] {
                let answer = client.get(*secure, name, host).await;
                let status = answer.as_ref().ok().map(|answer| answer.status.as_u16());
                assert_eq!(status, expected, "{kind} {protocol:?}: {host} by {name}: {answer:?}");
            }
        }
        let client = Client::new(&ca, None, Protocol::H1);
        let known = Client::new(&ca, Some(&partner), Protocol::H1);
        assert_eq!(known.get(*clients, "web.test", "web.test").await.unwrap().status, 200, "{kind}");
        assert!(client.get(*clients, "web.test", "web.test").await.is_err(), "{kind}");
        let answer = client.get(*secure, "a.through.test", "a.through.test").await.unwrap();
        assert_eq!(service_of(&answer), "through", "{kind}");

        let mut served = 0;
        for _ in 0..CONNECTIONS {
            let found = tcp_exchange(*bytes, "ping").await;
            served += usize::from(found.is_ok_and(|found| found == ("v1".to_owned(), "ping".to_owned())));
        }
        // Six standard deviations about three quarters.
        assert!((113..=187).contains(&served), "{kind}: {served} of {CONNECTIONS}");
    }

    let removed = mesh.command(&["delete", "referencegrant", "certificates", "-n", "other"]);
    assert_eq!(removed.status.code(), Some(0), "{}", String::from_utf8_lossy(&removed.stderr));
    for (kind, [secure, ..], _proxy) in &proxies {
        let client = Client::new(&ca, None, Protocol::H1);
        until(&format!("{kind} to lose the certificate"), SYNC, async || {
            match client.get(*secure, "a.wild.test", "a.wild.test").await {
                Ok(answer) => Err(format!("{answer:?}")),
                Err(_) => Ok(()),
            }
        })
        .await;
        assert_eq!(client.get(*secure, "web.test", "web.test").await.unwrap().status, 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_from_within_the_mesh_go_where_the_routes_of_a_service_say() {
    let ca = Authority::new("ca");
    let mut mesh = Mesh::start().await;
    let (usual, other) = (Backend::tcp("usual").await, Backend::tcp("other").await);
    let web = Backend::http("web", "v1", Attempts::default()).await;
    let named = Terminator::start(&ca.issue("a.test"), web.address).await;
    let registered =
        [("db", usual.address), ("other", other.address), ("named", named.address)].map(|(name, address)| {
            Registered { name: name.into(), protocol: "tcp", endpoints: vec![("v1".to_owned(), address)] }
        });
    mesh.publish("services.yaml", &files_yaml(&registered));
    for service in &registered {
        mesh.endpoints(&service.name, 1, SYNC).await;
    }
    let mut doors = Vec::new();
    for kind in ["weft", "envoy"] {
        let [door] = free_ports();
        let upstream = Upstream { bind: door.into(), service: "db".into(), port: 9000 };
        let metadata = NodeMetadata {
            namespace: "default".into(),
            workload: "client".into(),
            upstreams: vec![upstream],
            ..NodeMetadata::default()
        };
        let proxy = match kind {
            "weft" => mesh.weft_proxy(kind, &metadata).await,
            _ => mesh.envoy(kind, &metadata).await,
        };
        doors.push((kind, door, proxy));
    }
    mesh.synced(doors.len(), SYNC).await;
    for (kind, door, _) in &doors {
        assert_eq!(greeting(*door).await.unwrap(), "usual", "{kind}");
    }
    mesh.apply(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: db}\nspec:\n  \
         parentRefs: [{group: \"\", kind: Service, name: db}]\n  rules: [{backendRefs: [{name: other, port: 9000}]}]\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {name: db}\nspec:\n  \
         parentRefs: [{group: \"\", kind: Service, name: db}]\n  hostnames: [a.test]\n  \
         rules: [{backendRefs: [{name: named, port: 9000}]}]\n",
    )
    .await
    .unwrap();
    let client = Client::new(&ca, None, Protocol::H1);
    for (kind, door, _) in &doors {
        until(&format!("the route at {kind}"), SYNC, async || {
            match client.get(*door, "a.test", "a.test").await {
                Ok(answer) if service_of(&answer) == "web" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert_eq!(greeting(*door).await.unwrap(), "other", "{kind}");
    }
}

/// Who greets a client that says enough to be told from TLS, and does not end before it is answered.
async fn greeting(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"no client hello").await?;
    let mut greeting = String::new();
    BufReader::new(stream).read_line(&mut greeting).await?;
    Ok(greeting.trim_end().to_owned())
}
