//! Policies of access through `weft proxy` and Envoy: generated ones alike on both, peers known by their certificates,
//! connections that may not pass.

use std::{collections::BTreeMap, fmt::Write, net::SocketAddr};

use weft_proto::node::{Inbound, LocalWorkload, NodeMetadata, Role};
use weft_tests::{
    backend::{Attempts, Backend, tcp_exchange},
    client::{Connection, Protocol, empty, get},
    mesh::{Mesh, Proxy, SYNC, http_get},
    program::{free_port, free_ports},
    services::{Registered, files_yaml},
    tls::{Authority, Client},
    wait::listening,
};

const KINDS: [&str; 2] = ["weft", "envoy"];
/// Policies that are generated, and requests for each.
const POLICIES: usize = 40;
const REQUESTS: usize = 50;

async fn proxy(mesh: &Mesh, kind: &str, metadata: &NodeMetadata) -> Proxy {
    match kind {
        "weft" => mesh.weft_proxy(kind, metadata).await,
        _ => mesh.envoy(kind, metadata).await,
    }
}

/// Chance that is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % below
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// Some of the words, as YAML.
    fn list(&mut self, words: &[&str]) -> String {
        let count = 1 + self.below(3);
        let list: Vec<String> = (0..count).map(|_| format!("{:?}", self.of(words))).collect();
        list.join(", ")
    }
}

const METHODS: [&str; 4] = ["GET", "POST", "P*", "*T"];
const PATHS: [&str; 8] = ["/a", "/a/*", "*.x", "/a/{*}", "/{**}", "/b/{*}/c", "/a*", "*"];
const HOSTS: [&str; 5] = ["one.test", "*.test", "one.*", "two.test:80", "*"];
const WORDS: [&str; 5] = ["red", "re*", "*d", "blue", "*"];
const NETS: [&str; 4] = ["127.0.0.0/8", "192.0.2.0/24", "192.0.2.7", "203.0.113.0/24"];

fn operation(dice: &mut Dice) -> String {
    let not = |dice: &mut Dice| dice.below(4) == 0;
    let mut fields = Vec::new();
    for (plain, negated, words) in [
        ("methods", "notMethods", &METHODS[..]),
        ("paths", "notPaths", &PATHS),
        ("hosts", "notHosts", &HOSTS),
    ] {
        if dice.below(2) == 0 {
            let name = if not(dice) { negated } else { plain };
            fields.push(format!("{name}: [{}]", dice.list(words)));
        }
    }
    if fields.is_empty() {
        fields.push("ports: [\"9\"]".to_owned());
    }
    format!("{{operation: {{{}}}}}", fields.join(", "))
}

fn source(dice: &mut Dice) -> String {
    let name = dice.of(&["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"]);
    format!("{{source: {{{name}: [{}]}}}}", dice.list(&NETS))
}

fn condition(dice: &mut Dice) -> String {
    let key = dice.of(&["request.headers[x-color]", "request.headers[x-other]"]);
    let values = dice.of(&["values", "notValues"]);
    format!("{{key: {key:?}, {values}: [{}]}}", dice.list(&WORDS))
}

fn policy(dice: &mut Dice, name: &str) -> String {
    let action = dice.of(&["ALLOW", "DENY"]);
    let mut text = format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  action: {action}\n  rules:\n"
    );
    for _ in 0..1 + dice.below(3) {
        let mut parts = vec![format!("to: [{}]", operation(dice))];
        if dice.below(2) == 0 {
            parts.push(format!("from: [{}]", source(dice)));
        }
        if dice.below(2) == 0 {
            parts.push(format!("when: [{}]", condition(dice)));
        }
        writeln!(text, "  - {{{}}}", parts.join(", ")).expect("a string takes all");
    }
    text
}

/// A request as a text that tells it, and its parts.
fn request(dice: &mut Dice) -> (String, String, Vec<(&'static str, String)>) {
    let method = dice.of(&["GET", "POST", "PUT", "DELETE"]).to_owned();
    let path =
        dice.of(&["/a", "/a/b", "/ab", "/b/x/c", "/b/x/y/c", "/q.x", "/a/", "/", "/a/b?c=.x"]).to_owned();
    let host = dice.of(&["one.test", "two.test:80", "a.two.test", "ONE.test", "other"]);
    let mut headers = vec![("host", host.to_owned())];
    for name in ["x-color", "x-other"] {
        if dice.below(2) == 0 {
            headers.push((name, dice.of(&["red", "blue", "reed", "d", "Red"]).to_owned()));
        }
    }
    if dice.below(2) == 0 {
        headers.push(("x-forwarded-for", dice.of(&["192.0.2.7", "203.0.113.1, 192.0.2.9"]).to_owned()));
    }
    (method, path, headers)
}

async fn ask(door: SocketAddr, (method, path, headers): &(String, String, Vec<(&str, String)>)) -> u16 {
    let mut connection = Connection::open(door, Protocol::H1).await.expect("the proxy listens");
    let mut request = get(Protocol::H1, &headers[0].1, path).method(method.as_str());
    for (name, value) in &headers[1..] {
        request = request.header(*name, value);
    }
    let answer = connection.send(request.body(empty()).expect("a request")).await;
    answer.expect("there is an answer").status.as_u16()
}

/// An inbound port of a workload that has its own name as a label.
fn inbound(metadata: &mut NodeMetadata, name: &str, app: SocketAddr, protocol: &str) -> SocketAddr {
    let bind = free_port();
    let labels = BTreeMap::from([("app".to_owned(), name.to_owned())]);
    metadata.workloads.push(LocalWorkload { name: name.to_owned(), labels, ..LocalWorkload::default() });
    metadata.inbound.push(Inbound {
        bind: Some(bind.into()),
        service: name.to_owned(),
        port: 80,
        app: app.into(),
        protocol: protocol.to_owned(),
        workload: name.to_owned(),
    });
    bind
}

fn node() -> NodeMetadata {
    NodeMetadata { namespace: "default".into(), workload: "w".into(), ..NodeMetadata::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_policies_mean_the_same_to_both_proxies() {
    let mesh = Mesh::start().await;
    let backend = Backend::http("web", "v1", Attempts::default()).await;
    let mut dice = Dice(7);
    let documents: Vec<String> = (0..POLICIES).map(|i| policy(&mut dice, &format!("w{i}"))).collect();
    mesh.apply(&documents.concat()).await.unwrap();
    let (mut doors, mut proxies) = (Vec::new(), Vec::new());
    for kind in KINDS {
        let mut metadata = node();
        let binds = (0..POLICIES).map(|i| inbound(&mut metadata, &format!("w{i}"), backend.address, "http"));
        doors.push(binds.collect::<Vec<_>>());
        proxies.push(proxy(&mesh, kind, &metadata).await);
    }
    mesh.synced(KINDS.len(), SYNC).await;
    let (mut allowed, mut wrong) = (0, String::new());
    for (i, text) in documents.iter().enumerate() {
        for _ in 0..REQUESTS {
            let request = request(&mut dice);
            let (ours, theirs) = tokio::join!(ask(doors[0][i], &request), ask(doors[1][i], &request));
            allowed += usize::from(ours == 200);
            if ours != theirs {
                writeln!(wrong, "{request:?}: weft {ours}, envoy {theirs}\n{text}")
                    .expect("a string takes all");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let all = POLICIES * REQUESTS;
    println!("{allowed} of {all} requests were allowed");
    assert!((all / 5..all * 4 / 5).contains(&allowed), "too few of one kind: {allowed}");
}

const BYTES: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: near}
spec:
  selector: {matchLabels: {app: near}}
  rules: [{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: far}
spec:
  selector: {matchLabels: {app: far}}
  rules: [{from: [{source: {ipBlocks: [192.0.2.0/24]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: denied}
spec:
  selector: {matchLabels: {app: denied}}
  action: DENY
  rules: [{from: [{source: {notIpBlocks: [192.0.2.0/24]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers}
spec:
  selector: {matchLabels: {app: readers}}
  rules: [{to: [{operation: {methods: [GET]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: writers}
spec:
  selector: {matchLabels: {app: writers}}
  action: DENY
  rules: [{to: [{operation: {methods: [POST]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: watched, annotations: {istio.io/dry-run: \"true\"}}
spec:
  selector: {matchLabels: {app: watched}}
  action: DENY
  rules: [{}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s31_connections_pass_only_where_what_is_known_of_them_lets_them() {
    let mesh = Mesh::start().await;
    let backend = Backend::tcp("v1").await;
    mesh.apply(BYTES).await.unwrap();
    for kind in KINDS {
        let mut metadata = node();
        let cases = [
            ("nobody", true),
            ("near", true),
            ("far", false),
            ("denied", false),
            // A rule for requests allows nothing here, and denies everything.
            ("readers", false),
            ("writers", false),
            ("watched", true),
        ];
        let doors =
            cases.map(|(name, passes)| (name, passes, inbound(&mut metadata, name, backend.address, "tcp")));
        let proxy = proxy(&mesh, kind, &metadata).await;
        mesh.synced(1, SYNC).await;
        for (name, passes, door) in doors {
            listening(name, door).await;
            let echo = tcp_exchange(door, "hello").await.map(|(_, echo)| echo).unwrap_or_default();
            assert_eq!(!echo.is_empty(), passes, "{kind}: {name}: {echo:?}");
        }
        if kind == "weft" {
            let (_, metrics) = http_get(proxy.admin, "/metrics").await.unwrap();
            for (decision, policy) in [
                ("denied", "none"),
                ("denied", "ns[default]-policy[denied]-rule[0]"),
                ("denied", "ns[default]-policy[writers]-rule[0]"),
                ("would_deny", "ns[default]-policy[watched]-rule[0]"),
            ] {
                let series = format!("decision=\"{decision}\",policy=\"{policy}\"");
                assert!(metrics.contains(&series), "{series} in\n{metrics}");
            }
        }
    }
}

const GATEWAY: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {app: edge}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [web.test]
    tls: {mode: OPTIONAL_MUTUAL, credentialName: web}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web.test]
  gateways: [edge]
  http: [{route: [{destination: {host: web}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: friends}
spec:
  selector: {matchLabels: {app: edge}}
  rules:
  - from:
    - source: {principals: [cluster.local/ns/a/sa/web]}
    - source: {namespaces: [team], notPrincipals: [cluster.local/ns/team/sa/bad]}
    - source: {serviceAccounts: [ops/bot]}
    - source: {principals: [other.org/ns/a/sa/friend]}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s22_a_peer_is_who_its_certificate_says_letter_by_letter() {
    let (ca, others) = (Authority::new("ca"), Authority::new("others"));
    let mut mesh = Mesh::start().await;
    let backend = Backend::http("web", "v1", Attempts::default()).await;
    let endpoints = vec![("v1".to_owned(), backend.address)];
    mesh.publish("web.yaml", &files_yaml(&[Registered { name: "web".into(), protocol: "http", endpoints }]));
    mesh.endpoints("web", 1, SYNC).await;
    let own = ca.issue("web.test");
    let indent = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: web}}\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}  ca.crt: |\n{}",
        indent(&own.chain),
        indent(&own.key),
        indent(&ca.pem())
    );
    mesh.apply(&[GATEWAY, &secret].concat()).await.unwrap();
    for kind in KINDS {
        let [secure] = free_ports();
        let metadata = NodeMetadata {
            role: Role::Gateway,
            labels: BTreeMap::from([("app".to_owned(), "edge".to_owned())]),
            gateway_bind: Some(secure.ip()),
            gateway_ports: BTreeMap::from([(443, secure.port())]),
            ..node()
        };
        let _proxy = proxy(&mesh, kind, &metadata).await;
        mesh.synced(1, SYNC).await;
        listening("the gateway", secure).await;
        for (id, status) in [
            ("spiffe://cluster.local/ns/a/sa/web", 200),
            ("spiffe://cluster.local/ns/a/sa/webx", 403),
            ("spiffe://cluster.local/ns/a/sa/we", 403),
            ("spiffe://cluster.locals/ns/a/sa/web", 403),
            ("spiffe://cluster-local/ns/a/sa/web", 403),
            ("spiffe://cluster.local/ns/team/sa/x", 200),
            ("spiffe://cluster.local/ns/team/sa/bad", 403),
            ("spiffe://cluster.local/ns/teams/sa/x", 403),
            ("spiffe://other.org/ns/team/sa/x", 403),
            ("spiffe://cluster.local/ns/ops/sa/bot", 200),
            ("spiffe://other.org/ns/ops/sa/bot", 403),
            ("spiffe://other.org/ns/a/sa/friend", 200),
        ] {
            let client = Client::new(&ca, Some(&ca.issue_identity(id)), Protocol::H1);
            let answer = client.get(secure, "web.test", "web.test").await.unwrap();
            assert_eq!(answer.status, status, "{kind}: {id}");
        }
        let nobody = Client::new(&ca, None, Protocol::H1).get(secure, "web.test", "web.test").await.unwrap();
        assert_eq!((nobody.status.as_u16(), &nobody.body[..]), (403, &b"RBAC: access denied"[..]), "{kind}");
        let stranger = others.issue_identity("spiffe://cluster.local/ns/a/sa/web");
        let stranger = Client::new(&ca, Some(&stranger), Protocol::H1);
        assert!(stranger.get(secure, "web.test", "web.test").await.is_err(), "{kind}");
    }
}
