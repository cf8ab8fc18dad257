//! Our values as the admin API shows them. Pure.

use std::collections::BTreeMap;

use weft_proto::admin::v1 as wire;

use crate::{
    documents::{
        Problem, Severity,
        status::{Condition, ListenerStatus, ParentStatus, Status},
    },
    model::{Endpoint, Health, Protocol, Service},
    registry::SourceView,
    store::Outcome,
};

/// A source.
pub(super) fn source(view: &SourceView) -> wire::SourceStatus {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    wire::SourceStatus {
        name: view.speaker.name.to_string(),
        platform: view.speaker.platform.to_string(),
        state: view.state.as_str().to_owned(),
        reason: view.reason.clone(),
        services: count(view.services),
        endpoints: count(view.endpoints),
        last_sync_seconds: view.last_sync_seconds,
        held: count(view.held),
        rejected: view.rejected,
    }
}

/// A problem.
pub(super) fn problem(problem: &Problem) -> wire::Problem {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    wire::Problem {
        origin: problem.origin.to_string(),
        line: problem.line,
        column: problem.column,
        field: problem.field.clone(),
        message: problem.message.clone(),
        hint: problem.hint.clone(),
        severity: severity.to_owned(),
    }
}

/// The status of a document.
pub(super) fn status(status: &Status) -> wire::DocumentStatus {
    wire::DocumentStatus {
        conditions: conditions(&status.conditions),
        parents: status.parents.iter().map(parent).collect(),
        listeners: status.listeners.iter().map(listener).collect(),
    }
}

fn conditions(conditions: &[Condition]) -> Vec<wire::Condition> {
    let condition = |condition: &Condition| wire::Condition {
        r#type: condition.kind.name().to_owned(),
        status: condition.status.name().to_owned(),
        reason: condition.reason.to_owned(),
        message: condition.message.clone(),
        good: condition.is_good(),
    };
    conditions.iter().map(condition).collect()
}

fn parent(parent: &ParentStatus) -> wire::ParentStatus {
    wire::ParentStatus {
        index: u32::try_from(parent.index).unwrap_or(u32::MAX),
        kind: parent.kind.to_owned(),
        namespace: parent.namespace.to_string(),
        name: parent.name.to_string(),
        section_name: parent.section.as_deref().unwrap_or_default().to_owned(),
        port: parent.port.unwrap_or_default().into(),
        conditions: conditions(&parent.conditions),
    }
}

fn listener(listener: &ListenerStatus) -> wire::ListenerStatus {
    wire::ListenerStatus {
        name: listener.name.to_string(),
        supported_kinds: listener.supported_kinds.iter().map(ToString::to_string).collect(),
        attached_routes: listener.attached_routes,
        conditions: conditions(&listener.conditions),
    }
}

/// A merged service.
pub(super) fn service(service: &Service) -> wire::ServiceView {
    let port = |port: &crate::model::Port| {
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Http => "http",
            Protocol::Http2 => "http2",
            Protocol::Grpc => "grpc",
            Protocol::Tls => "tls",
        };
        format!("{}:{}/{protocol}", port.name, port.number)
    };
    wire::ServiceView {
        namespace: service.key.namespace.to_string(),
        name: service.key.name.to_string(),
        host: service.host.to_string(),
        ports: service.ports.iter().map(port).collect(),
        sources: service.sources.iter().map(ToString::to_string).collect(),
        virtual_ip: service.virtual_ip.map_or_else(String::new, |ip| ip.to_string()),
        endpoints: service.endpoints.values().map(|found| endpoint(found)).collect(),
        conflicts: service.conflicts.clone(),
    }
}

fn endpoint(endpoint: &Endpoint) -> wire::EndpointView {
    let health = match endpoint.health {
        Health::Healthy => "healthy",
        Health::Draining => "draining",
        Health::Unhealthy => "unhealthy",
    };
    let place = &endpoint.locality;
    let labels: BTreeMap<String, String> =
        endpoint.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    wire::EndpointView {
        id: endpoint.id.to_string(),
        address: endpoint.address.to_string(),
        ports: endpoint.ports.iter().map(|(name, number)| format!("{name}:{number}")).collect(),
        health: health.to_owned(),
        labels: labels.into_iter().collect(),
        locality: format!("{}/{}/{}", place.region, place.zone, place.subzone),
        stale: endpoint.stale,
    }
}

/// What became of a document.
pub(super) const fn action(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Created => "created",
        Outcome::Updated => "updated",
        Outcome::Unchanged => "unchanged",
        Outcome::Deleted => "deleted",
    }
}
