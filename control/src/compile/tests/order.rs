//! Make before break: in which order a change reaches a proxy.

use super::*;
use crate::ads::session::{Names, Protocol as Form, Request, Response, Session};

const SPLIT: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a]
  http: [{route: [{destination: {host: a, subset: v2}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, subsets: [{name: v2, labels: {version: v2}}]}
";

fn ask(kind: Kind, nonce: String, subscribe: &[&str]) -> Request {
    let subscribe = subscribe.iter().map(ToString::to_string).collect();
    let names = Names::Change { subscribe, unsubscribe: Vec::new(), initial: Default::default() };
    Request { kind, nonce, error: None, names }
}

/// Acknowledges everything; answers a line for each response.
fn settle(session: &mut Session, mut sent: Vec<Response>) -> Vec<String> {
    let mut lines = Vec::new();
    while !sent.is_empty() {
        let response = sent.remove(0);
        let mut line = format!("{:?}", response.kind);
        response.resources.iter().for_each(|resource| line += &format!(" {}", resource.name));
        response.removed.iter().for_each(|name| line += &format!(" -{name}"));
        lines.push(line.replace(".default.svc.cluster.local", ""));
        sent.extend(session.handle_request(ask(response.kind, response.nonce.to_string(), &[])).unwrap());
    }
    assert!(session.is_settled());
    lines
}

#[test]
fn clusters_and_endpoints_come_before_the_routes_that_name_them_and_leave_after() {
    let mut compiler = Compiler::default();
    let services = [service("a", &[(80, Protocol::Http)], &["v1", "v2"])];
    let plain = compiler.update(mesh(&services), documents(""));
    let mut session = Session::new(Form::Delta, plain.resources(&sidecar()), 1);
    let mut sent = Vec::new();
    for kind in [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes] {
        sent.extend(session.handle_request(ask(kind, String::new(), &["*"])).unwrap());
    }
    let first = [
        "Cluster outbound|80||a",
        "Endpoints outbound|80||a",
        "Listener outbound-http",
        "Routes outbound-http",
    ];
    assert_eq!(settle(&mut session, sent), first);

    let split = compiler.update(mesh(&services), documents(SPLIT));
    let sent = session.handle_world(split.resources(&sidecar()), 2);
    let there = ["Cluster outbound|80|v2|a", "Endpoints outbound|80|v2|a", "Routes outbound-http"];
    assert_eq!(settle(&mut session, sent), there);

    let back = compiler.update(mesh(&services), documents(""));
    let sent = session.handle_world(back.resources(&sidecar()), 3);
    let away = ["Routes outbound-http", "Endpoints -outbound|80|v2|a", "Cluster -outbound|80|v2|a"];
    assert_eq!(settle(&mut session, sent), away);
}
