//! What an app or a pod of Marathon means in the mesh.

use serde_json::{Value, json};

use super::*;
use crate::settings::RawMarathonSettings;

fn settings() -> MarathonSettings {
    RawMarathonSettings::default().check().unwrap()
}

fn claimed(fields: Value) -> Vec<Claim> {
    let mut whole = json!({"id": "/shop/web", "labels": {}, "tasks": [task()]});
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let now = humantime::parse_rfc3339("2026-01-01T00:01:00Z").unwrap();
    app(&serde_json::from_value(whole).expect("an app"), &settings(), now)
}

fn task() -> Value {
    json!({"id": "t1", "appId": "/shop/web", "host": "10.0.0.1", "ports": [31001, 31002, 31003],
        "ipAddresses": [{"ipAddress": "172.17.0.2", "protocol": "IPv4"}], "state": "TASK_RUNNING",
        "startedAt": "2026-01-01T00:00:00Z", "region": "eu", "zone": "a", "healthCheckResults": null})
}

/// Ports as `name:number`, and where each is reached.
fn ports(fields: Value) -> (Vec<String>, Vec<String>) {
    let Some(claim) = claimed(fields).pop() else { return Default::default() };
    let said = claim.service.ports.iter().map(|port| format!("{}:{}", port.name, port.number)).collect();
    let mut reached: Vec<String> = Vec::new();
    for endpoint in &claim.endpoints {
        reached.extend(endpoint.ports.iter().map(|(name, at)| format!("{name}={}:{at}", endpoint.address)));
    }
    reached.sort();
    (said, reached)
}

#[track_caller]
fn check_ports(fields: Value, said: &[&str], reached: &[&str]) {
    let (got, at) = ports(fields);
    assert_eq!(got, said);
    assert_eq!(at, reached);
}

#[test]
fn on_the_hosts_network_ports_are_the_tasks_in_order_and_udp_is_left_out() {
    let definitions = json!([{"port": 10001, "name": "http"}, {"port": 10002, "name": "dns", "protocol": "udp"},
        {"port": 10003, "name": "grpc-admin", "labels": {"weft.port": "9000"}}]);
    check_ports(
        json!({"networks": [{"mode": "host"}], "portDefinitions": definitions, "requirePorts": true}),
        &["http:80", "grpc-admin:9000"],
        &["grpc-admin=10.0.0.1:31003", "http=10.0.0.1:31001"],
    );
}

#[test]
fn a_bridge_port_is_reached_on_the_agent() {
    let mappings = json!([{"containerPort": 8080, "hostPort": 0, "servicePort": 10001, "name": "http"},
        {"containerPort": 9090, "hostPort": 0, "servicePort": 10002, "protocol": "tcp"}]);
    check_ports(
        json!({"networks": [{"mode": "container/bridge"}], "container": {"type": "DOCKER", "portMappings": mappings}}),
        &["http:80", "tcp:10002"],
        &["http=10.0.0.1:31001", "tcp=10.0.0.1:31002"],
    );
}

#[test]
fn only_mappings_with_a_host_port_take_one_of_the_tasks_ports() {
    let mappings = json!([{"containerPort": 8080, "name": "http"}, {"containerPort": 5432, "hostPort": 0, "name": "db"}]);
    check_ports(
        json!({"networks": [{"mode": "container", "name": "dcos"}], "container": {"portMappings": mappings}}),
        &["http:80", "db:5432"],
        &["db=10.0.0.1:31001", "http=172.17.0.2:8080"],
    );
}

#[test]
fn a_container_without_an_address_yet_has_no_endpoint() {
    let mut waiting = task();
    waiting["ipAddresses"] = json!([]);
    let mappings = json!([{"containerPort": 8080, "name": "http"}]);
    check_ports(
        json!({"networks": [{"mode": "container"}], "container": {"portMappings": mappings}, "tasks": [waiting]}),
        &["http:80"],
        &[],
    );
}

#[test]
fn shapes_from_before_1_5_are_read() {
    let mappings = json!([{"containerPort": 8080, "hostPort": 0, "servicePort": 10001}]);
    check_ports(
        json!({"container": {"docker": {"network": "BRIDGE", "portMappings": mappings}}}),
        &["tcp:10001"],
        &["tcp=10.0.0.1:31001"],
    );
    check_ports(
        json!({"ipAddress": {"discovery": {"ports": [{"number": 80, "name": "http", "protocol": "tcp"}]}}}),
        &["http:80"],
        &["http=172.17.0.2:80"],
    );
}

#[test]
fn two_http_ports_get_numbers_of_their_own() {
    let definitions = json!([{"name": "http"}, {"name": "http-admin"}, {"name": "http"}]);
    let with = |labels: Value| {
        ports(json!({"networks": [{"mode": "host"}], "portDefinitions": definitions, "labels": labels})).0
    };
    assert_eq!(with(json!({})), ["http:80"], "a port without any number cannot be called");
    assert_eq!(
        with(json!({"weft.port.http-admin": "81", "weft.port.2": "82"})),
        ["http:80", "http-admin:81", "port-2:82"]
    );
    let vip = json!([{"name": "web", "labels": {"VIP_0": "/web:8000"}}]);
    assert_eq!(ports(json!({"networks": [{"mode": "host"}], "portDefinitions": vip})).0, ["web:8000"]);
}

#[track_caller]
fn check_health(task_fields: Value, app_fields: Value, health: proto::Health) {
    let mut one = task();
    one.as_object_mut().unwrap().extend(task_fields.as_object().unwrap().clone());
    let mut fields =
        json!({"networks": [{"mode": "host"}], "portDefinitions": [{"name": "http"}], "tasks": [one]});
    fields.as_object_mut().unwrap().extend(app_fields.as_object().unwrap().clone());
    assert_eq!(claimed(fields)[0].endpoints[0].health(), health, "{task_fields} {app_fields}");
}

#[test]
fn health_is_what_checks_and_the_tasks_state_say() {
    use proto::Health::{Draining, Healthy, Unhealthy, Unspecified};
    let checked = json!({"healthChecks": [{"protocol": "HTTP"}]});
    check_health(json!({}), json!({}), Healthy);
    check_health(json!({}), checked.clone(), Unhealthy);
    check_health(json!({"healthCheckResults": [{"alive": true}]}), checked.clone(), Healthy);
    check_health(json!({"healthCheckResults": [{"alive": true}, {"alive": false}]}), checked, Unhealthy);
    check_health(json!({"state": "TASK_STAGING"}), json!({}), Unhealthy);
    check_health(json!({"state": "TASK_KILLING"}), json!({}), Draining);
    check_health(json!({"state": "TASK_UNREACHABLE"}), json!({}), Unspecified);
}

#[test]
fn readiness_counts_while_something_is_deployed_and_old_tasks_serve_on() {
    use proto::Health::{Healthy, Unhealthy};
    let check = json!([{"name": "r", "timeoutSeconds": 10}]);
    let with = |deployments: Value, results: Value| json!({"deployments": deployments, "readinessChecks": check, "readinessCheckResults": results});
    let (going, none) = (json!([{"id": "d"}]), json!([]));
    let fresh = json!({"startedAt": "2026-01-01T00:00:50Z"});
    check_health(json!({}), with(going.clone(), none.clone()), Healthy);
    check_health(fresh.clone(), with(going.clone(), none.clone()), Unhealthy);
    check_health(fresh.clone(), with(none.clone(), none), Healthy);
    let result = |ready: bool| json!([{"name": "r", "taskId": "t1", "ready": ready}]);
    check_health(json!({}), with(going.clone(), result(false)), Unhealthy);
    check_health(fresh, with(going, result(true)), Healthy);
}

#[test]
fn labels_name_the_service_and_what_is_ours_is_not_shown() {
    let labels = json!({"weft.service": "web", "weft.namespace": "shop", "weft.version": "v2", "weft.weight": "7",
        "weft.mtls": "true", "team": "books", "HAPROXY_GROUP": "external"});
    let claim = claimed(
        json!({"networks": [{"mode": "host"}], "portDefinitions": [{"name": "http"}], "labels": labels}),
    );
    let (service, endpoint) = (&claim[0].service, &claim[0].endpoints[0]);
    assert_eq!(
        service.key.clone().unwrap(),
        proto::ServiceKey { namespace: "shop".into(), name: "web".into() }
    );
    assert_eq!(service.aliases, ["web-shop.marathon.mesos"]);
    let shown: BTreeMap<_, _> =
        endpoint.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(shown, [("team", "books"), ("version", "v2")].into());
    assert_eq!(
        (endpoint.weight, endpoint.identity.as_str()),
        (7, "spiffe://cluster.local/ns/shop/sa/web-shop")
    );
    assert!(claimed(json!({"networks": [{"mode": "host"}], "portDefinitions": [{}], "labels": {"weft.ignore": "true"}})).is_empty());
}

#[test]
fn a_pod_is_reached_by_its_host_ports_and_its_own_address() {
    let text = json!({"id": "/pay", "spec": {"labels": {"weft.version": "v1"}, "containers": [
        {"name": "app", "healthCheck": {"http": {}}, "endpoints": [
            {"name": "http", "containerPort": 80, "hostPort": 0, "protocol": ["tcp"]},
            {"name": "grpc", "containerPort": 9000, "labels": {"weft.port": "9000"}}]}]},
        "instances": [{"id": "pay.instance-1", "status": "STABLE", "agentHostname": "10.0.0.2", "agentRegion": "eu",
            "networks": [{"name": "dcos", "addresses": ["9.0.0.7"]}],
            "containers": [{"name": "app", "conditions": [{"name": "healthy", "value": "true"}],
                "endpoints": [{"name": "http", "allocatedHostPort": 31005}]}]}]});
    let claim = pod(&serde_json::from_value(text.clone()).unwrap(), &settings()).remove(0);
    let reached: Vec<_> =
        claim.endpoints.iter().map(|e| (e.id.as_str(), e.address.as_str(), e.health())).collect();
    assert_eq!(
        reached,
        [
            ("pay.instance-1@10.0.0.2", "10.0.0.2", proto::Health::Healthy),
            ("pay.instance-1@9.0.0.7", "9.0.0.7", proto::Health::Healthy)
        ]
    );
    assert_eq!((claim.endpoints[0].ports["http"], claim.endpoints[1].ports["grpc"]), (31005, 9000));
    let mut sick = text;
    sick["instances"][0]["containers"][0]["conditions"][0]["value"] = json!("false");
    let claim = pod(&serde_json::from_value(sick).unwrap(), &settings()).remove(0);
    assert_eq!(claim.endpoints[0].health(), proto::Health::Unhealthy);
}
