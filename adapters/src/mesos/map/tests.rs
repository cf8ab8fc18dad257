//! What a task of Mesos means in the mesh. The shapes are those of a real master 1.11.

use serde_json::{Value, json};

use super::super::cluster::Cluster;
use super::*;
use crate::settings::RawMesosSettings;

fn claimed(task: Value, status: Value) -> Option<Claim> {
    let mut whole = json!({"name": "web.shop", "task_id": {"value": "web.1"}, "framework_id": {"value": "f"},
        "agent_id": {"value": "s0"}, "state": "TASK_RUNNING", "statuses": [status],
        "resources": [{"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31001}]}}]});
    whole.as_object_mut().unwrap().extend(task.as_object().unwrap().clone());
    let agent = json!({"agent_info": {"hostname": "n1", "id": {"value": "s0"},
        "domain": {"fault_domain": {"region": {"name": "r1"}, "zone": {"name": "a"}}}}, "pid": "slave(1)@10.0.0.1:5051"});
    let state = json!({"get_tasks": {"tasks": [whole]}, "get_agents": {"agents": [agent]}});
    let mut cluster = Cluster::default();
    cluster.subscribed(serde_json::from_value(state).unwrap());
    let (running, agent) = cluster.task(&("f".into(), "web.1".into()))?;
    claims(running, agent, &RawMesosSettings::default().check().unwrap()).pop()
}

#[track_caller]
fn check_ports(task: Value, status: Value, expected: &[&str]) {
    let claim = claimed(task, status).expect("a claim");
    let endpoint = &claim.endpoints[0];
    let port = |port: &proto::Port| {
        format!("{}:{}={}:{}", port.name, port.number, endpoint.address, endpoint.ports[&port.name])
    };
    assert_eq!(claim.service.ports.iter().map(port).collect::<Vec<_>>(), expected);
}

fn discovery(ports: Value) -> Value {
    json!({"discovery": {"visibility": "CLUSTER", "name": "web", "ports": {"ports": ports}}})
}

#[test]
fn told_ports_go_before_given_ones_and_udp_is_left_out() {
    let ports = json!([{"number": 31000, "name": "http", "protocol": "tcp"}, {"number": 31001, "name": "dns", "protocol": "udp"}]);
    check_ports(discovery(ports), json!({}), &["http:80=10.0.0.1:31000"]);
    check_ports(json!({}), json!({}), &["tcp:31000=10.0.0.1:31000", "port-1:31001=10.0.0.1:31001"]);
    let vip = json!([{"number": 31000, "name": "p0", "labels": {"labels": [{"key": "VIP_0", "value": "/web:9000"}]}}]);
    check_ports(discovery(vip), json!({}), &["p0:9000=10.0.0.1:31000"]);
}

#[test]
fn a_container_with_an_address_of_its_own_is_reached_there() {
    let ports = json!([{"number": 8080, "name": "http", "protocol": "tcp"}]);
    let network = |info: Value| json!({"container_status": {"network_infos": [info]}});
    let ip = json!([{"protocol": "IPv4", "ip_address": "9.0.0.7"}]);
    check_ports(
        discovery(ports.clone()),
        network(json!({"name": "dcos", "ip_addresses": ip})),
        &["http:80=9.0.0.7:8080"],
    );
    check_ports(
        discovery(ports.clone()),
        network(
            json!({"name": "bridge", "ip_addresses": ip, "port_mappings": [{"host_port": 31005, "container_port": 8080}]}),
        ),
        &["http:80=10.0.0.1:31005"],
    );
    check_ports(discovery(ports), network(json!({"ip_addresses": ip})), &["http:80=10.0.0.1:8080"]);
}

#[track_caller]
fn check_health(task: Value, healthy: Option<bool>, health: proto::Health) {
    let status = healthy.map_or(json!({}), |healthy| json!({"healthy": healthy}));
    assert_eq!(claimed(task, status).unwrap().endpoints[0].health(), health);
}

#[test]
fn health_is_the_state_and_what_the_last_check_found() {
    use proto::Health::{Draining, Healthy, Unhealthy, Unspecified};
    let checked = json!({"health_check": {"type": "COMMAND"}});
    check_health(json!({}), None, Healthy);
    check_health(checked.clone(), None, Unhealthy);
    check_health(checked.clone(), Some(true), Healthy);
    check_health(checked, Some(false), Unhealthy);
    check_health(json!({"state": "TASK_STAGING"}), None, Unhealthy);
    check_health(json!({"state": "TASK_KILLING"}), Some(true), Draining);
    check_health(json!({"state": "TASK_UNREACHABLE"}), None, Unspecified);
    assert!(claimed(json!({"state": "TASK_LOST"}), json!({})).is_none());
}

#[test]
fn a_task_is_named_placed_and_labelled_and_may_stay_out() {
    let labels = |pairs: Value| json!({"labels": {"labels": pairs}});
    let claim = claimed(
        labels(json!([{"key": "weft.version", "value": "v2"}, {"key": "team", "value": "x"}])),
        json!({}),
    );
    let claim = claim.unwrap();
    assert_eq!(claim.service.key.unwrap().name, "web.shop");
    let endpoint = &claim.endpoints[0];
    assert_eq!((endpoint.labels["version"].as_str(), endpoint.labels["team"].as_str()), ("v2", "x"));
    let locality = endpoint.locality.clone().unwrap();
    assert_eq!((locality.region.as_str(), locality.zone.as_str()), ("r1", "a"));
    assert!(claimed(labels(json!([{"key": "weft.ignore", "value": "true"}])), json!({})).is_none());
    assert!(claimed(json!({"discovery": {"visibility": "FRAMEWORK", "name": "web"}}), json!({})).is_none());
}
