//! What a registration in Nomad means in the mesh.

use serde_json::{Value, json};

use super::*;
use crate::settings::RawNomadSettings;

fn registration(id: &str, tags: &[&str], port: u32) -> Registration {
    serde_json::from_value(json!({"ID": id, "ServiceName": "web", "Namespace": "shop", "NodeID": "n1",
        "Datacenter": "dc1", "JobID": "api", "AllocID": "alloc", "Tags": tags, "Address": "10.0.0.1",
        "Port": port, "CreateIndex": 40, "ModifyIndex": 41}))
    .unwrap()
}

fn mapped(
    found: Vec<Registration>,
    alloc: Option<Value>,
    node: Option<Value>,
) -> (proto::Service, Vec<proto::Endpoint>) {
    let (mut region, name) = (Region::new(1), ("shop".to_owned(), "web".to_owned()));
    region.list(&name, 1, found);
    if let Some(alloc) = alloc {
        region.alloc(serde_json::from_value(alloc).unwrap());
    }
    if let Some(node) = node {
        region.node(serde_json::from_value(node).unwrap());
    }
    let claim = claims(&region, &name, &RawNomadSettings::default().check().unwrap()).remove(0);
    (claim.service, claim.endpoints)
}

#[track_caller]
fn check_health(alloc: Value, health: proto::Health) {
    let mut whole = json!({"ID": "alloc", "DesiredStatus": "run", "ClientStatus": "running",
        "DeploymentStatus": null, "DesiredTransition": {"Migrate": null}});
    whole.as_object_mut().unwrap().extend(alloc.as_object().unwrap().clone());
    let (_, endpoints) = mapped(vec![registration("a", &[], 1)], Some(whole.clone()), None);
    assert_eq!(endpoints[0].health(), health, "{whole}");
}

#[test]
fn health_is_what_the_scheduler_thinks_of_the_allocation() {
    use proto::Health::{Draining, Healthy, Unhealthy, Unspecified};
    check_health(json!({}), Healthy);
    check_health(json!({"ClientStatus": "pending"}), Unhealthy);
    check_health(json!({"ClientStatus": "failed"}), Unhealthy);
    check_health(json!({"ClientStatus": "unknown"}), Unspecified);
    check_health(json!({"DesiredStatus": "stop"}), Draining);
    check_health(json!({"DesiredStatus": "evict", "ClientStatus": "complete"}), Draining);
    check_health(json!({"DesiredTransition": {"Migrate": true}}), Draining);
    check_health(json!({"DeploymentStatus": {"Healthy": false}}), Unhealthy);
    check_health(json!({"DeploymentID": "d", "DeploymentStatus": {"Healthy": true}}), Healthy);
}

#[test]
fn a_new_allocation_serves_once_its_deployment_has_found_it_healthy() {
    check_health(json!({"DeploymentID": "d"}), proto::Health::Unhealthy);
    check_health(
        json!({"DeploymentID": "d", "DeploymentStatus": {"Canary": true}}),
        proto::Health::Unhealthy,
    );
}

#[test]
fn what_is_not_known_of_an_allocation_keeps_its_endpoint_serving() {
    let (_, endpoints) = mapped(vec![registration("a", &[], 1)], None, None);
    assert_eq!(endpoints[0].health(), proto::Health::Unspecified);
}

#[test]
fn canary_tags_and_the_group_are_labels() {
    let alloc = json!({"ID": "alloc", "TaskGroup": "front", "DeploymentStatus": {"Canary": true}});
    let (_, endpoints) = mapped(vec![registration("a", &["v2", "track=beta", "http"], 1)], Some(alloc), None);
    let labels: Vec<String> = {
        let mut all: Vec<_> =
            endpoints[0].labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        all.sort();
        all
    };
    assert_eq!(labels, ["canary=true", "group=front", "track=beta", "version=v2"]);
}

#[track_caller]
fn check_port(found: &[(&[&str], u32)], expected: (&str, u32)) {
    let found = found.iter().enumerate().map(|(n, (tags, port))| registration(&n.to_string(), tags, *port));
    let (service, endpoints) = mapped(found.collect(), None, None);
    assert_eq!((service.ports[0].name.as_str(), service.ports[0].number), expected);
    assert!(endpoints.iter().all(|endpoint| endpoint.ports.contains_key(expected.0)));
}

#[test]
fn a_dynamic_port_does_not_change_the_number_that_clients_use() {
    check_port(&[(&["http"], 23_000), (&["http"], 23_001)], ("http", 80));
    check_port(&[(&["grpc", "port=9000"], 23_000)], ("grpc", 9000));
    check_port(&[(&["protocol=tls"], 23_000)], ("tls", 443));
    check_port(&[(&[], 5432), (&[], 23_000), (&[], 5432)], ("tcp", 5432));
    check_port(&[(&[], 9), (&[], 8)], ("tcp", 8));
}

#[test]
fn a_place_comes_from_the_nodes_meta_then_its_cloud_then_its_datacenter() {
    let place = |node: Option<Value>| {
        let (_, endpoints) = mapped(vec![registration("a", &[], 1)], None, node);
        let found = endpoints[0].locality.clone().unwrap();
        [found.region, found.zone, found.subzone].join("/")
    };
    assert_eq!(place(None), "dc1//");
    let aws = json!({"platform.aws.placement.availability-zone": "eu-1a"});
    assert_eq!(place(Some(json!({"ID": "n1", "Attributes": aws, "Meta": null}))), "dc1/eu-1a/");
    let meta = json!({"region": "eu", "zone": "a", "rack": "r7"});
    assert_eq!(place(Some(json!({"ID": "n1", "Attributes": aws, "Meta": meta}))), "eu/a/r7");
}

#[test]
fn an_identity_is_bound_to_namespace_and_job_where_a_proxy_is_in_front() {
    let identity = |tags: &[&str]| mapped(vec![registration("a", tags, 1)], None, None).1[0].identity.clone();
    assert_eq!(identity(&[]), "");
    assert_eq!(identity(&["mtls=true"]), "spiffe://cluster.local/ns/shop/sa/api");
    assert_eq!(identity(&["mtls=true", "identity=spiffe://a/ns/b/sa/c"]), "spiffe://a/ns/b/sa/c");
}
