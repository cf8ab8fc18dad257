//! What files mean together.

use super::super::parse::parse;
use super::*;

fn read(text: &str) -> (Vec<Item>, Vec<String>) {
    let entries = parse("mesh.yaml", text).expect("parses");
    let (items, problems) = assemble(entries.iter(), "cluster.local");
    (items, problems.iter().map(Problem::to_string).collect())
}

fn endpoints(text: &str) -> Vec<proto::Endpoint> {
    let (items, problems) = read(text);
    assert_eq!(problems, Vec::<String>::new());
    let endpoint = |item: &Item| match item.object() {
        proto::upsert::Object::Endpoint(endpoint) => Some(endpoint.clone()),
        _ => None,
    };
    items.iter().filter_map(endpoint).collect()
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let (_, problems) = read(text);
    assert!(problems.iter().any(|problem| problem.contains(expected)), "'{expected}' is not in {problems:?}");
}

fn service(spec: &str) -> String {
    format!("apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: api}}\nspec: {{{spec}}}\n---\n")
}

const HTTP: &str = "ports: [{name: http, number: 80, protocol: http}]";

#[test]
fn an_endpoint_takes_the_one_port_the_named_ports_or_the_services_own() {
    let one = endpoints(&service(&format!("{HTTP}, endpoints: [{{address: 10.0.0.1, port: 8080}}]")));
    assert_eq!(one[0].ports["http"], 8080);
    assert_eq!(one[0].id, "default/api/10.0.0.1:8080");
    let own = endpoints(&service(&format!("{HTTP}, endpoints: [{{address: 10.0.0.1}}]")));
    assert_eq!(own[0].ports["http"], 80);
    let named =
        endpoints(&service(&format!("{HTTP}, endpoints: [{{address: 10.0.0.1, ports: {{http: 81}}}}]")));
    assert_eq!(named[0].ports["http"], 81);
    refused(
        &service(&format!("{HTTP}, endpoints: [{{address: 10.0.0.1, ports: {{grpc: 81}}}}]")),
        "no port of that name",
    );
}

#[test]
fn a_duplicate_is_refused_with_both_places() {
    let twice = service(HTTP).repeat(2);
    refused(&twice, "mesh.yaml:6:1: service default/api is already defined at mesh.yaml:1:1");
    let ids = "endpoints: [{id: a, address: 10.0.0.1}, {id: a, address: 10.0.0.2}]";
    refused(&service(&format!("{HTTP}, {ids}")), "endpoint a is already defined");
}

#[test]
fn a_lone_endpoint_joins_its_service() {
    let lone = "apiVersion: weft.dev/v1\nkind: Endpoint\nmetadata: {name: a}\nspec: {service: api, address: 10.0.0.9, port: 81}\n";
    let joined = endpoints(&format!("{}{lone}", service(HTTP)));
    assert_eq!((joined[0].id.as_str(), joined[0].ports["http"]), ("default/a", 81));
    refused(lone, "no service default/api in these files");
}

const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db}\nspec:\n  hosts: [DB.example.com]\n  ports: [{number: 443, name: tls, protocol: HTTPS, targetPort: 8443}]\n";

#[test]
fn a_service_entry_by_dns_without_endpoints_resolves_its_own_host() {
    let found = endpoints(&format!("{ENTRY}  resolution: DNS\n"));
    assert_eq!((found[0].address.as_str(), found[0].ports["tls"]), ("db.example.com", 8443));
}

#[test]
fn a_service_entry_selects_workload_entries_by_label() {
    let workload = |name: &str, app: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\nspec: {{address: 10.0.1.1, \
             labels: {{app: {app}}}, locality: eu/a/r1, serviceAccount: db, ports: {{tls: 1443}}}}\n"
        )
    };
    let text = format!(
        "{ENTRY}  resolution: STATIC\n  workloadSelector: {{labels: {{app: db}}}}\n{}{}",
        workload("db-1", "db"),
        workload("web-1", "web")
    );
    let found = endpoints(&text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].identity, "spiffe://cluster.local/ns/default/sa/db");
    assert_eq!((found[0].workload.as_str(), found[0].ports["tls"]), ("db-1", 1443));
    let locality = found[0].locality.clone().unwrap();
    assert_eq!(
        (locality.region.as_str(), locality.zone.as_str(), locality.subzone.as_str()),
        ("eu", "a", "r1")
    );
}

#[test]
fn what_a_service_entry_cannot_have_is_refused() {
    refused(&format!("{ENTRY}  resolution: NONE\n"), "spec.resolution");
    refused(
        &format!("{}  resolution: DNS\n", ENTRY.replace("DB.", "'*.").replace("com]", "com']")),
        "wildcard",
    );
    refused(&format!("{ENTRY}  resolution: DNS\n  exportTo: ['.']\n"), "spec.exportTo");
}
