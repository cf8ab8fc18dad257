//! What an instance in Consul means in the mesh.

use super::*;

fn instance(service: &str, checks: &str) -> Instance {
    let json = format!(
        r#"{{"Node":{{"ID":"n","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":null,"Meta":{{"zone":"a"}},"CreateIndex":1}},
        "Service":{{"ID":"web-1","Service":"web","Port":8080,{service}"EnableTagOverride":false,"Proxy":{{"Expose":{{}}}}}},
        "Checks":[{{"Node":"n1","CheckID":"serfHealth","Status":"passing"}}{checks}]}}"#
    );
    serde_json::from_str(&json).expect("a fixture")
}

fn mapped(instances: &[Instance]) -> (proto::Service, Vec<proto::Endpoint>) {
    let (items, refused) = map("web", "default", "", instances);
    assert_eq!(refused, []);
    let mut service = None;
    let mut endpoints = Vec::new();
    for item in items {
        match item.object().clone() {
            proto::upsert::Object::Service(found) => service = Some(found),
            proto::upsert::Object::Endpoint(found) => endpoints.push(found),
            proto::upsert::Object::Document(_) => panic!("no documents in Consul"),
        }
    }
    (service.expect("a service"), endpoints)
}

#[track_caller]
fn check_health(checks: &str, health: proto::Health, weight: u32) {
    let (_, endpoints) = mapped(&[instance(r#""Weights":{"Passing":10,"Warning":3},"#, checks)]);
    assert_eq!((endpoints[0].health(), endpoints[0].weight), (health, weight));
}

#[test]
fn the_worst_check_decides_and_maintenance_goes_first() {
    let check = |id: &str, status: &str| format!(r#",{{"CheckID":"{id}","Status":"{status}"}}"#);
    check_health("", proto::Health::Healthy, 10);
    check_health(&check("c", "warning"), proto::Health::Healthy, 3);
    check_health(&check("c", "critical"), proto::Health::Unhealthy, 10);
    let maintenance = check("_service_maintenance:web-1", "critical") + &check("c", "critical");
    check_health(&maintenance, proto::Health::Draining, 10);
    check_health(&check("_node_maintenance", "critical"), proto::Health::Draining, 10);
}

#[track_caller]
fn check_version(service: &str, version: Option<&str>) {
    let (_, endpoints) = mapped(&[instance(service, "")]);
    assert_eq!(endpoints[0].labels.get("version").map(String::as_str), version);
}

#[test]
fn the_version_comes_from_meta_then_tags() {
    check_version(r#""Meta":{"version":"v3"},"Tags":["version=v2","v1"],"#, Some("v3"));
    check_version(r#""Meta":null,"Tags":["v1","version=v2"],"#, Some("v2"));
    check_version(r#""Tags":["v1.2"],"#, Some("v1.2"));
    check_version(r#""Tags":["video"],"#, None);
    check_version(r#""Tags":null,"#, None);
}

#[track_caller]
fn check_protocol(service: &str, name: &str, protocol: proto::Protocol) {
    let (service, endpoints) = mapped(&[instance(service, "")]);
    assert_eq!((service.ports[0].name.as_str(), service.ports[0].protocol()), (name, protocol));
    assert_eq!(endpoints[0].ports[name], 8080);
}

#[test]
fn the_protocol_comes_from_meta_then_tags_then_is_tcp() {
    check_protocol(r#""Meta":{"protocol":"grpc"},"Tags":["http"],"#, "grpc", proto::Protocol::Grpc);
    check_protocol(r#""Tags":["blue","http"],"#, "http", proto::Protocol::Http);
    check_protocol(r#""Tags":["protocol=http2"],"#, "http2", proto::Protocol::Http2);
    check_protocol("", "tcp", proto::Protocol::Tcp);
}

#[test]
fn the_port_is_what_meta_says_or_the_most_common_one() {
    let at = |port: &str| {
        let mut found = instance("", "");
        found.service.id = format!("web-{port}");
        found.service.port = port.parse().unwrap();
        found
    };
    assert_eq!(mapped(&[at("1"), at("2"), at("3"), at("2")]).0.ports[0].number, 2);
    assert_eq!(mapped(&[at("9"), at("8")]).0.ports[0].number, 8);
    assert_eq!(mapped(&[instance(r#""Meta":{"port":"80"},"#, ""), at("2")]).0.ports[0].number, 80);
}

#[test]
fn an_address_falls_back_to_the_nodes_and_a_region_to_the_datacenter() {
    let (service, endpoints) = mapped(&[instance("", "")]);
    assert_eq!((endpoints[0].id.as_str(), endpoints[0].address.as_str()), ("n1/web-1", "10.0.0.1"));
    let locality = endpoints[0].locality.clone().unwrap();
    assert_eq!((locality.region.as_str(), locality.zone.as_str()), ("dc1", "a"));
    assert_eq!(service.aliases, ["web.service.consul", "web.service.dc1.consul"]);
    let (_, endpoints) = mapped(&[instance(r#""Address":"10.9.9.9","#, "")]);
    assert_eq!(endpoints[0].address, "10.9.9.9");
}

#[test]
fn a_proxy_registered_under_the_services_name_is_no_endpoint_of_it() {
    assert!(map("web", "default", "", &[instance(r#""Kind":"connect-proxy","#, "")]).0.is_empty());
}

#[test]
fn an_instance_that_cannot_be_told_is_named_and_the_others_stay() {
    let mut broken = instance("", "");
    broken.service.port = 0;
    let (items, refused) = map("web", "default", "", &[broken, instance("", "")]);
    assert_eq!((items.len(), refused.len()), (2, 1));
}
