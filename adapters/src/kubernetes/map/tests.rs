//! What a Service with its slices means in the mesh.

use serde_json::{Value, json};

use super::super::kind::{KINDS, Kind, Meaning};
use super::*;
use crate::settings::RawKubernetesSettings;

fn kind(meaning: Meaning) -> Kind {
    KINDS.into_iter().find(|kind| kind.meaning == meaning).unwrap()
}

fn service(fields: Value) -> Value {
    let mut spec = json!({"type": "ClusterIP", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
}

fn slice(name: &str, endpoints: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints})
}

fn endpoint(address: &str, conditions: Value) -> Value {
    json!({"addresses": [address], "conditions": conditions, "nodeName": "n1",
        "targetRef": {"kind": "Pod", "name": format!("pod-{address}"), "uid": "u"}})
}

fn claimed(objects: &[(Meaning, Value)]) -> Option<Claim> {
    let mut cluster = Cluster::default();
    for (meaning, object) in objects {
        let changed = cluster.put(kind(*meaning), object.clone());
        assert_eq!(changed.problem, None);
    }
    claims(&cluster, &("shop".into(), "web".into()), &RawKubernetesSettings::default().check().unwrap()).pop()
}

fn healths(slices: &[Value]) -> Vec<(String, proto::Health)> {
    let mut objects = vec![(Meaning::Service, service(json!({})))];
    objects.extend(slices.iter().map(|slice| (Meaning::Slice, slice.clone())));
    let endpoints = claimed(&objects).unwrap().endpoints;
    endpoints.iter().map(|endpoint| (endpoint.address.clone(), endpoint.health())).collect()
}

#[test]
fn conditions_that_are_absent_mean_ready() {
    use proto::Health::{Draining, Healthy, Unhealthy};
    for (conditions, health) in [
        (json!({}), Healthy),
        (json!({"ready": null, "serving": null, "terminating": null}), Healthy),
        (json!({"ready": true, "terminating": true}), Healthy),
        (json!({"ready": false}), Unhealthy),
        (json!({"ready": false, "serving": true, "terminating": true}), Draining),
        (json!({"ready": false, "serving": false, "terminating": true}), Unhealthy),
    ] {
        assert_eq!(
            healths(&[slice("a", json!([endpoint("10.0.0.1", conditions.clone())]))])[0].1,
            health,
            "{conditions}"
        );
    }
}

#[test]
fn an_address_in_two_slices_is_one_endpoint_and_the_ready_one_counts() {
    let (ready, not) = (json!({"ready": true}), json!({"ready": false}));
    let one = slice("a", json!([endpoint("10.0.0.1", not.clone()), endpoint("10.0.0.2", ready.clone())]));
    let two = slice("b", json!([endpoint("10.0.0.1", ready), endpoint("10.0.0.3", not)]));
    let expected = [
        ("10.0.0.1", proto::Health::Healthy),
        ("10.0.0.2", proto::Health::Healthy),
        ("10.0.0.3", proto::Health::Unhealthy),
    ];
    let expected: Vec<_> = expected.map(|(address, health)| (address.to_owned(), health)).into();
    assert_eq!(healths(&[one.clone(), two.clone()]), expected);
    assert_eq!(healths(&[two, one]), expected);
}

#[test]
fn slices_of_other_services_and_of_host_names_are_not_ours() {
    let mut other = slice("a", json!([endpoint("10.0.0.1", json!({}))]));
    other["metadata"]["labels"] = json!({"kubernetes.io/service-name": "api"});
    let mut names = slice("b", json!([endpoint("example.com", json!({}))]));
    names["addressType"] = json!("FQDN");
    assert_eq!(healths(&[other, names]), []);
}

#[test]
fn what_is_spoken_comes_from_the_app_protocol_then_the_name() {
    let ports = |ports: Value| -> Vec<(String, proto::Protocol)> {
        let claim = claimed(&[(Meaning::Service, service(json!({"ports": ports})))]);
        let ports = claim.map(|claim| claim.service.ports).unwrap_or_default();
        ports.iter().map(|port| (port.name.clone(), port.protocol())).collect()
    };
    use proto::Protocol::{Grpc, Http, Http2, Tcp, Tls};
    let named = |name: &str, protocol| (name.to_owned(), protocol);
    assert_eq!(
        ports(
            json!([{"name": "a", "port": 1, "appProtocol": "kubernetes.io/h2c"}, {"name": "http-web", "port": 2},
            {"name": "grpc", "port": 3}, {"name": "https", "port": 4}, {"name": "db", "port": 5},
            {"name": "dns", "port": 6, "protocol": "UDP"}])
        ),
        [
            named("a", Http2),
            named("http-web", Http),
            named("grpc", Grpc),
            named("https", Tls),
            named("db", Tcp)
        ]
    );
    assert_eq!(ports(json!([{"port": 80}])), [named("tcp", Tcp)]);
}

#[test]
fn a_pod_gives_labels_and_account_and_a_node_the_place() {
    let pod = json!({"metadata": {"name": "pod-10.0.0.1", "namespace": "shop", "annotations": {"weft.dev/mtls": "true"},
        "labels": {"app": "web", "app.kubernetes.io/version": "v2"}}, "spec": {"serviceAccountName": "front"}});
    let node = json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/region": "eu",
        "topology.kubernetes.io/zone": "a", "topology.istio.io/subzone": "r7"}}});
    let objects = [
        (Meaning::Service, service(json!({}))),
        (Meaning::Slice, slice("a", json!([endpoint("10.0.0.1", json!({}))]))),
        (Meaning::Pod, pod.clone()),
        (Meaning::Node, node),
    ];
    let endpoint = claimed(&objects).unwrap().endpoints.remove(0);
    let place = endpoint.locality.clone().unwrap();
    assert_eq!([place.region, place.zone, place.subzone].join("/"), "eu/a/r7");
    assert_eq!(endpoint.identity, "spiffe://cluster.local/ns/shop/sa/front");
    assert_eq!((endpoint.labels["version"].as_str(), endpoint.workload.as_str()), ("v2", "web"));
    assert_eq!((endpoint.health(), endpoint.ports["http"]), (proto::Health::Healthy, 8080));

    let mut leaving = pod;
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut objects = objects.to_vec();
    objects.push((Meaning::Pod, leaving));
    assert_eq!(claimed(&objects).unwrap().endpoints[0].health(), proto::Health::Draining);
}

#[test]
fn an_external_name_is_resolved_by_the_proxies() {
    let claim = claimed(&[(
        Meaning::Service,
        service(json!({"type": "ExternalName", "externalName": "db.example.com"})),
    )]);
    let claim = claim.unwrap();
    assert_eq!(claim.service.resolution(), proto::service::Resolution::Dns);
    assert_eq!(
        (claim.endpoints[0].address.as_str(), claim.endpoints[0].ports["http"]),
        ("db.example.com", 80)
    );
}

#[test]
fn a_document_is_told_as_it_was_written_and_the_two_gateways_are_two() {
    let mut cluster = Cluster::default();
    let object = json!({"metadata": {"name": "g", "namespace": "shop", "uid": "u", "resourceVersion": "7",
        "managedFields": [{}], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": {"x": 1}, "status": {"y": 2}});
    let gateways = KINDS.into_iter().filter(|kind| kind.plural == "gateways");
    let told: Vec<_> = gateways.map(|kind| cluster.put(kind, object.clone()).upsert.unwrap()).collect();
    let keys: Vec<String> = told.iter().map(|item| item.key().to_string()).collect();
    assert_eq!(keys, ["Gateway shop/g", "Gateway.gateway.networking.k8s.io shop/g"]);
    let proto::upsert::Object::Document(document) = told[0].object() else { panic!("a document") };
    assert_eq!(
        document.yaml,
        r#"{"apiVersion":"networking.istio.io/v1","kind":"Gateway","metadata":{"annotations":{},"labels":{},"name":"g","namespace":"shop"},"spec":{"x":1}}"#
    );
}
