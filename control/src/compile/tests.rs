//! What compile promises beyond the golden files: sharing, scopes, stable versions.

use std::collections::BTreeMap;

use super::*;
use crate::{
    documents::{self, DocumentSet},
    model::*,
    resource::{Kind, Resource},
};

mod golden;
mod incremental;
mod mtls;
mod mutated;
mod order;
mod secrets;

fn service(name: &str, ports: &[(u16, Protocol)], versions: &[&str]) -> Arc<Service> {
    let host: Arc<str> = format!("{name}.default.svc.cluster.local").into();
    let ports: Vec<Port> = ports
        .iter()
        .map(|(number, protocol)| Port {
            name: format!("p{number}").into(),
            number: *number,
            protocol: *protocol,
        })
        .collect();
    let endpoint = |(i, version): (usize, &&str)| {
        let id: Arc<str> = format!("test/{name}-{i}").into();
        let endpoint = Endpoint {
            id: id.clone(),
            address: format!("10.0.0.{}", i + 1).into(),
            ports: ports.iter().map(|port| (port.name.clone(), port.number + 8000)).collect(),
            weight: 1,
            health: Health::Healthy,
            locality: Locality::default(),
            labels: [("version".into(), Arc::<str>::from(*version))].into(),
            identity: "".into(),
            workload: format!("{name}-{version}").into(),
            cluster: "dc1".into(),
            mtls: false,
            network: "".into(),
            stale: false,
        };
        (id, Arc::new(endpoint))
    };
    Arc::new(Service {
        key: ServiceKey::new("default", name),
        hosts: vec![name.into(), format!("{name}.default").into(), host.clone()],
        host,
        endpoints: Arc::new(versions.iter().enumerate().map(endpoint).collect()),
        ports,
        resolution: Resolution::Static,
        export_to: ExportTo::Everywhere,
        virtual_ip: None,
        addresses: Vec::new(),
        certificate_names: Vec::new(),
        sources: vec!["test".into()],
        conflicts: Vec::new(),
    })
}

fn mesh(services: &[Arc<Service>]) -> Arc<Mesh> {
    let services = services.iter().map(|service| (service.key.clone(), service.clone())).collect();
    Arc::new(Mesh { services, revision: 1, ..Mesh::default() })
}

fn documents(yaml: &str) -> Arc<DocumentSet> {
    let (documents, problems) = documents::parse(yaml, "test.yaml", 1);
    assert_eq!(problems, []);
    Arc::new(documents.into_iter().collect())
}

fn sidecar() -> NodeMetadata {
    NodeMetadata {
        namespace: "default".into(),
        outbound_http: Some("127.0.0.1:15080".parse().unwrap()),
        ..Default::default()
    }
}

const RULE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
";

#[test]
fn a_service_is_compiled_for_every_port_and_subset() {
    let mut compiler = Compiler::default();
    let mesh = mesh(&[service("reviews", &[(80, Protocol::Http)], &["v1", "v2"])]);
    let world = compiler.update(mesh, documents(RULE));
    let set = world.resources(&sidecar());
    let names: Vec<&str> = set.of(Kind::Cluster).map(|resource| &*resource.name).collect();
    let host = "reviews.default.svc.cluster.local";
    let expected =
        [format!("outbound|80|v1|{host}"), format!("outbound|80|v2|{host}"), format!("outbound|80||{host}")];
    assert_eq!(names, expected);
    assert_eq!(set.of(Kind::Endpoints).count(), 3);
    assert_eq!((set.of(Kind::Listener).count(), set.of(Kind::Routes).count()), (1, 1));
}

fn upstream(service: &str) -> NodeMetadata {
    let bind = "127.0.0.1:9001".parse().unwrap();
    let upstream = weft_proto::node::Upstream { bind, service: service.into(), port: 0 };
    NodeMetadata { upstreams: vec![upstream], outbound_http: None, ..sidecar() }
}

#[test]
fn a_proxy_with_declared_upstreams_receives_only_what_they_reach() {
    let mut compiler = Compiler::default();
    let services = ["a", "b", "c"].map(|name| service(name, &[(80, Protocol::Http)], &["v1"]));
    let world = compiler.update(mesh(&services), documents(""));
    let set = world.resources(&upstream("b"));
    let names: Vec<&str> = set.of(Kind::Cluster).map(|resource| &*resource.name).collect();
    assert_eq!(names, ["outbound|80||b.default.svc.cluster.local"]);
}

#[test]
fn equal_inputs_have_equal_versions_in_every_process() {
    let build = || {
        let mesh = mesh(&[service("reviews", &[(80, Protocol::Http)], &["v1", "v2"])]);
        Compiler::default().update(mesh, documents(RULE)).resources(&sidecar())
    };
    let versions = |set: &ResourceSet| -> Vec<(Arc<str>, u64)> {
        Kind::ALL.iter().flat_map(|kind| set.of(*kind)).map(|r| (r.name.clone(), r.version)).collect()
    };
    assert_eq!(versions(&build()), versions(&build()));
}

fn entry(host: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {host}}}\nspec:\n  \
         hosts: [{host}]\n  ports: [{{number: 443, name: tls}}]\n  resolution: DNS\n"
    )
}

#[test]
fn a_host_of_a_document_keeps_its_virtual_ip_whatever_comes_beside_it() {
    let mut compiler = Compiler::default();
    let hosts: Vec<String> = (0..300).map(|i| format!("h{i}.example.com")).collect();
    let of = |world: &World, host: &str| {
        let key = world.hosts.find(host, "default").unwrap();
        world.services[key].virtual_ip.unwrap()
    };
    let last = hosts.last().unwrap();
    let alone = compiler.update(mesh(&[]), documents(&entry(last)));
    let all: String = hosts.iter().map(|host| entry(host)).collect();
    let many = compiler.update(mesh(&[]), documents(&all));
    assert_eq!(of(&alone, last), of(&many, last));
    let ips: std::collections::BTreeSet<_> = hosts.iter().map(|host| of(&many, host)).collect();
    assert_eq!(ips.len(), hosts.len(), "no two hosts share one");
}

#[test]
fn an_endpoint_that_comes_changes_nothing_of_how_a_captured_service_is_reached() {
    let node = NodeMetadata {
        outbound_capture: Some("0.0.0.0:15001".parse().unwrap()),
        extensions: vec![weft_proto::node::HOST_NAMES.to_owned()],
        ..sidecar()
    };
    let with = |versions: &[&str]| {
        let services = [
            service("db", &[(5432, Protocol::Tcp)], versions),
            service("web", &[(80, Protocol::Http)], &["v1"]),
        ];
        let ip = |(i, service): (usize, Arc<Service>)| {
            Arc::new(Service { virtual_ip: Some([240, 240, 0, i as u8 + 1].into()), ..(*service).clone() })
        };
        mesh(&services.into_iter().enumerate().map(ip).collect::<Vec<_>>())
    };
    let mut compiler = Compiler::default();
    let before = compiler.update(with(&["v1"]), documents("")).resources(&node);
    let after = compiler.update(with(&["v1", "v2"]), documents("")).resources(&node);
    for kind in [Kind::Cluster, Kind::Listener, Kind::Routes, Kind::Names] {
        assert!(before.shares(kind, &after), "{kind:?}");
    }
    assert!(!before.shares(Kind::Endpoints, &after));
    assert!(before.find(Kind::Listener, "240.240.0.1_5432").is_some());
    assert_eq!(before.of(Kind::Names).count(), 2);
    assert_eq!(
        compiler.update(with(&["v1"]), documents("")).resources(&sidecar()).of(Kind::Names).count(),
        0
    );
}
