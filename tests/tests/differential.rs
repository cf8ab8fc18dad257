//! The differential table: every case of every file under `cases/`, through `weft proxy` and through Envoy, both under
//! one control plane. A new case is a few lines of YAML.

use std::{collections::BTreeMap, fmt::Write};

use weft_proto::node::{NodeMetadata, Upstream};
use weft_tests::{
    backend::{Attempts, Backend},
    case::{Doors, Group},
    mesh::{Mesh, SYNC},
    program::free_port,
    services::{Registered, files_yaml},
};

#[derive(Default)]
struct Table {
    groups: BTreeMap<String, Group>,
    backends: Vec<Backend>,
    registered: Vec<Registered>,
    attempts: Attempts,
}

impl Table {
    async fn load() -> Self {
        let mut table = Self::default();
        for (name, group) in Group::all() {
            for (service, versions) in &group.services {
                let tcp = service.starts_with("tcp-");
                let mut endpoints = Vec::new();
                for version in versions {
                    let backend = match tcp {
                        true => Backend::tcp(version).await,
                        false => Backend::http(service, version, table.attempts.clone()).await,
                    };
                    endpoints.push((version.clone(), backend.address));
                    table.backends.push(backend);
                }
                let protocol = if tcp {
                    "tcp"
                } else if service.starts_with("grpc-") {
                    "grpc"
                } else {
                    "http"
                };
                table.registered.push(Registered { name: service.clone(), protocol, endpoints });
            }
            table.groups.insert(name, group);
        }
        table
    }

    /// What one dataplane declares, and where it is then reached.
    fn dataplane(&self) -> (NodeMetadata, Doors) {
        let mut doors = Doors { http: Some(free_port()), ..Doors::default() };
        let mut metadata = NodeMetadata { outbound_http: doors.http, ..NodeMetadata::default() };
        metadata.namespace = "default".into();
        metadata.workload = "client".into();
        for service in self.registered.iter().filter(|service| service.protocol == "tcp") {
            let bind = free_port();
            doors.tcp.insert(service.name.clone(), bind);
            metadata.upstreams.push(Upstream { bind, service: service.name.clone(), port: 9000 });
        }
        (metadata, doors)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weft_and_envoy_do_what_the_table_says() {
    let table = Table::load().await;
    let mut mesh = Mesh::start().await;
    mesh.publish("services.yaml", &files_yaml(&table.registered));
    for service in &table.registered {
        mesh.endpoints(&service.name, service.endpoints.len(), SYNC).await;
    }
    let mut report = String::new();
    for (name, group) in &table.groups {
        if !group.documents.trim().is_empty()
            && let Err(refused) = mesh.apply(&group.documents).await
        {
            writeln!(report, "{name}: documents refused: {refused}").unwrap();
        }
    }
    let (ours, our_doors) = table.dataplane();
    let (theirs, their_doors) = table.dataplane();
    let _weft = mesh.weft_proxy("weft-1", &ours).await;
    let _envoy = mesh.envoy("envoy-1", &theirs).await;
    mesh.synced(2, SYNC).await;
    for (name, group) in &table.groups {
        for case in &group.cases {
            for (proxy, doors) in [("weft", &our_doors), ("envoy", &their_doors)] {
                for wrong in case.run(doors, &table.attempts, &format!("{name}/{proxy}")).await {
                    writeln!(report, "{name}: {}: {proxy}: {wrong}", case.name).unwrap();
                }
            }
        }
    }
    assert!(report.is_empty(), "{report}");
}
