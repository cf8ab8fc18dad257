//! What several sources together become.

use super::*;
use crate::{
    model::{Health, Locality, Protocol},
    registry::{
        fact::{EndpointFact, Object, Speaker},
        source::Source,
    },
    virtual_ips::Range,
};

fn port(name: &str, number: u16, protocol: Protocol) -> Port {
    Port { name: name.into(), number, protocol }
}

fn service(name: &str, ports: Vec<Port>) -> Object {
    let key = ServiceKey::new("default", name);
    Object::Service(ServiceFact { key, ports, aliases: Vec::new(), resolution: Resolution::Static })
}

fn endpoint(source: &str, id: &str, service: &str, port_name: &str) -> Object {
    let endpoint = Endpoint {
        id: format!("{source}/{id}").into(),
        address: "10.0.0.1".into(),
        ports: BTreeMap::from([(port_name.into(), 8080)]),
        weight: 1,
        health: Health::Healthy,
        locality: Locality::default(),
        labels: BTreeMap::new(),
        identity: "".into(),
        workload: "".into(),
        cluster: "".into(),
        mtls: false,
        network: "".into(),
        stale: false,
    };
    let service = ServiceKey::new("default", service);
    Object::Endpoint(EndpointFact { service, endpoint: Arc::new(endpoint), network: "".into() })
}

fn source(name: &str, objects: Vec<Object>) -> (Arc<str>, Source) {
    let name: Arc<str> = name.into();
    let speaker =
        Speaker { name: name.clone(), platform: "files".into(), cluster: "".into(), region: "".into() };
    let mut source = Source::new(speaker);
    source.restore(objects.into_iter(), 0);
    (name, source)
}

fn merged(before: &Mesh, sources: &[(Arc<str>, Source)], names: &[&str]) -> Mesh {
    let facts: Vec<_> = sources.iter().map(|(name, source)| (name.clone(), source.facts())).collect();
    let changed = names.iter().map(|name| ServiceKey::new("default", name)).collect();
    merge(before, &facts, &changed, &mut VirtualIps::default())
}

fn of<'a>(mesh: &'a Mesh, name: &str) -> &'a Arc<Service> {
    &mesh.services[&ServiceKey::new("default", name)]
}

#[test]
fn the_same_name_on_two_platforms_is_one_service_with_both_endpoints() {
    let http = || vec![port("http", 80, Protocol::Http)];
    let sources = [
        source("consul", vec![service("api", http()), endpoint("consul", "1", "api", "http")]),
        source("nomad", vec![service("api", http()), endpoint("nomad", "1", "api", "http")]),
    ];
    let mesh = merged(&Mesh::default(), &sources, &["api"]);
    let api = of(&mesh, "api");
    assert_eq!(api.endpoints.keys().map(|id| &**id).collect::<Vec<_>>(), ["consul/1", "nomad/1"]);
    assert_eq!(api.sources.len(), 2);
    assert!(api.conflicts.is_empty());
    let hosts: Vec<&str> = api.hosts.iter().map(|host| &**host).collect();
    assert_eq!(hosts, ["api", "api.default", "api.default.svc", "api.default.svc.cluster.local"]);
}

#[test]
fn the_first_source_by_name_wins_and_the_conflict_is_told() {
    let sources = [
        source("a", vec![service("api", vec![port("http", 80, Protocol::Http)])]),
        source(
            "b",
            vec![service("api", vec![port("web", 80, Protocol::Tcp)]), endpoint("b", "1", "api", "web")],
        ),
    ];
    let mesh = merged(&Mesh::default(), &sources, &["api"]);
    let api = of(&mesh, "api");
    assert_eq!(api.ports, [port("http", 80, Protocol::Http)]);
    assert_eq!(api.conflicts.len(), 1, "{:?}", api.conflicts);
    // Both mean port 80, so the endpoint serves it under the name that won.
    assert_eq!(api.endpoints["b/1"].ports.keys().map(|name| &**name).collect::<Vec<_>>(), ["http"]);
}

#[test]
fn what_did_not_change_is_the_same_arc() {
    let sources = [source("a", vec![service("one", Vec::new()), service("two", Vec::new())])];
    let first = merged(&Mesh::default(), &sources, &["one", "two"]);
    let facts: Vec<_> = sources.iter().map(|(name, source)| (name.clone(), source.facts())).collect();
    let mut ips = VirtualIps::restore(
        Range::Registered,
        first.services.values().map(|service| (service.key.clone(), service.virtual_ip.unwrap())),
    );
    let changed = [ServiceKey::new("default", "one")].into();
    let second = merge(&first, &facts, &changed, &mut ips);
    assert_eq!(second.revision, first.revision);
    assert!(Arc::ptr_eq(of(&first, "one"), of(&second, "one")));
    assert!(Arc::ptr_eq(of(&first, "two"), of(&second, "two")));
}

#[test]
fn a_dotted_name_is_its_own_host() {
    let mesh = merged(
        &Mesh::default(),
        &[source("a", vec![service("api.example.com", Vec::new())])],
        &["api.example.com"],
    );
    assert_eq!(&*of(&mesh, "api.example.com").host, "api.example.com");
    assert_eq!(of(&mesh, "api.example.com").hosts.len(), 1);
}

#[test]
fn a_service_that_no_source_knows_is_gone() {
    let first = merged(&Mesh::default(), &[source("a", vec![service("api", Vec::new())])], &["api"]);
    let second = merged(&first, &[source("a", Vec::new())], &["api"]);
    assert!(second.services.is_empty());
    assert!(second.revision > first.revision);
}
