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
