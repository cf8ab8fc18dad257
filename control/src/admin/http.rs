//! The HTTP side of the admin port: for probes, scrapers and `curl`.

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_proto::admin::v1 as wire;

use super::{Admin, grpc, view};

/// Chooses documents.
#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    namespace: String,
}

/// The routes.
pub(super) fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/documents", get(documents))
        .route("/api/v1/services", get(services))
        .route("/api/v1/config_dump", get(config_dump))
        .with_state(admin)
}

/// Healthy once the first configuration is compiled.
async fn health(State(admin): State<Admin>) -> Response {
    if admin.desk.compiled().revision == 0 {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    }
    "ok\n".into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let Some(metrics) = &admin.metrics else {
        return (StatusCode::NOT_FOUND, "another recorder is installed in this process\n").into_response();
    };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}

async fn status(State(admin): State<Admin>) -> Json<Value> {
    Json(status_json(&admin.status("")))
}

async fn documents(State(admin): State<Admin>, Query(choice): Query<Choice>) -> Json<Value> {
    Json(documents_json(&admin, &choice))
}

async fn services(State(admin): State<Admin>) -> Json<Value> {
    Json(services_json(&admin))
}

/// Everything that the control plane works from.
async fn config_dump(State(admin): State<Admin>) -> Json<Value> {
    let everything = Choice { kind: String::new(), namespace: String::new() };
    Json(json!({
        "settings": {
            "xds_bind": admin.settings.xds_bind,
            "tls_bind": admin.settings.tls_bind,
            "trust_domain": admin.settings.identity.trust_domain,
            "certificate_life": humantime::format_duration(admin.settings.identity.leaf_life).to_string(),
            "admin_bind": admin.settings.admin_bind.to_string(),
            "data_dir": admin.settings.data_dir,
            "mesh_domain": admin.settings.mesh_domain,
            "hold_down": humantime::format_duration(admin.settings.hold_down).to_string(),
        },
        "status": status_json(&admin.status("")),
        "documents": documents_json(&admin, &everything),
        "services": services_json(&admin),
        "problems": admin.desk.told().problems().map(|problem| problem_json(&view::problem(problem))).collect::<Vec<_>>(),
    }))
}

fn documents_json(admin: &Admin, choice: &Choice) -> Value {
    let found = grpc::documents_of(&admin.desk.store().snapshot(), &admin.desk.registry().view(), |key| {
        (choice.kind.is_empty() || key.kind.eq_ignore_ascii_case(&choice.kind))
            && (choice.namespace.is_empty() || *key.namespace == *choice.namespace)
    });
    found
        .iter()
        .map(|document| {
            json!({
                "kind": document.kind,
                "namespace": document.namespace,
                "name": document.name,
                "yaml": document.yaml,
                "version": document.version,
                "owner": document.owner,
                "stored_at_seconds": document.stored_at_seconds,
            })
        })
        .collect()
}

fn services_json(admin: &Admin) -> Value {
    let view = admin.desk.registry().view();
    let services = view.mesh.services.values().map(|service| view::service(service));
    services
        .map(|service| {
            let endpoints = service.endpoints.iter().map(|endpoint| {
                json!({
                    "id": endpoint.id,
                    "address": endpoint.address,
                    "ports": endpoint.ports,
                    "health": endpoint.health,
                    "labels": endpoint.labels,
                    "locality": endpoint.locality,
                    "stale": endpoint.stale,
                })
            });
            json!({
                "namespace": service.namespace,
                "name": service.name,
                "host": service.host,
                "ports": service.ports,
                "sources": service.sources,
                "virtual_ip": service.virtual_ip,
                "endpoints": endpoints.collect::<Vec<_>>(),
                "conflicts": service.conflicts,
            })
        })
        .collect()
}

fn status_json(status: &wire::StatusResponse) -> Value {
    let proxies = status.proxies.iter().map(|proxy| {
        let rejections = proxy.rejections.iter().map(|rejection| {
            json!({
                "type_url": rejection.type_url,
                "message": rejection.message,
                "documents": rejection.documents,
            })
        });
        json!({
            "id": proxy.id,
            "workload": proxy.workload,
            "kind": proxy.kind,
            "version": proxy.version,
            "state": proxy.state,
            "acked_revision": proxy.acked_revision,
            "rejections": rejections.collect::<Vec<_>>(),
            "connected_at_seconds": proxy.connected_at_seconds,
            "peer": proxy.peer,
            "protocol": proxy.protocol,
        })
    });
    let sources = status.sources.iter().map(|source| {
        json!({
            "name": source.name,
            "platform": source.platform,
            "state": source.state,
            "reason": source.reason,
            "services": source.services,
            "endpoints": source.endpoints,
            "last_sync_seconds": source.last_sync_seconds,
            "held": source.held,
            "rejected": source.rejected,
        })
    });
    json!({
        "revision": status.revision,
        "live_revision": status.live_revision,
        "version": status.version,
        "proxies": proxies.collect::<Vec<_>>(),
        "sources": sources.collect::<Vec<_>>(),
    })
}

fn problem_json(problem: &wire::Problem) -> Value {
    json!({
        "origin": problem.origin,
        "line": problem.line,
        "column": problem.column,
        "field": problem.field,
        "message": problem.message,
        "hint": problem.hint,
        "severity": problem.severity,
    })
}
