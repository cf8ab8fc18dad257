//! The status of a document: a word in a table, an object in JSON, a field at the end of its YAML.

use serde_json::{Value, json};
use weft_proto::admin::v1::{Condition, Document, ListenerStatus, ParentStatus};

/// What a `GatewayClass` names whose gateways the control plane serves.
const CONTROLLER: &str = "weft.dev/gateway-controller";
/// Group of the Gateway API.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// The conditions that are not as they should be, else `Accepted`.
pub fn summary(document: &Document) -> String {
    let all: Vec<&Condition> = conditions(document).collect();
    let mut bad: Vec<String> = Vec::new();
    for condition in all.iter().filter(|condition| !condition.good) {
        let text = format!("{}={}", condition.r#type, condition.status);
        if !bad.contains(&text) {
            bad.push(text);
        }
    }
    match (all.as_slice(), bad.as_slice()) {
        ([], _) => String::new(),
        (_, []) => "Accepted".to_owned(),
        (_, bad) => bad.join(","),
    }
}

fn conditions(document: &Document) -> impl Iterator<Item = &Condition> {
    document.status.iter().flat_map(|status| {
        let parents = status.parents.iter().flat_map(|parent| &parent.conditions);
        let listeners = status.listeners.iter().flat_map(|listener| &listener.conditions);
        status.conditions.iter().chain(parents).chain(listeners)
    })
}

/// The status as Kubernetes writes it.
pub fn json(document: &Document) -> Value {
    let mut fields = serde_json::Map::new();
    let Some(status) = &document.status else { return Value::Object(fields) };
    if !status.conditions.is_empty() {
        fields.insert("conditions".to_owned(), list(&status.conditions, condition));
    }
    if !status.parents.is_empty() {
        fields.insert("parents".to_owned(), list(&status.parents, parent));
    }
    if !status.listeners.is_empty() {
        fields.insert("listeners".to_owned(), list(&status.listeners, listener));
    }
    Value::Object(fields)
}

fn list<T>(items: &[T], one: impl Fn(&T) -> Value) -> Value {
    items.iter().map(one).collect()
}

fn condition(condition: &Condition) -> Value {
    json!({
        "type": condition.r#type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
    })
}

fn parent(parent: &ParentStatus) -> Value {
    let group = if parent.kind == "Service" { "" } else { GATEWAY_API };
    let mut reference = json!({
        "group": group,
        "kind": parent.kind,
        "namespace": parent.namespace,
        "name": parent.name,
    });
    if !parent.section_name.is_empty() {
        reference["sectionName"] = parent.section_name.clone().into();
    }
    if parent.port != 0 {
        reference["port"] = parent.port.into();
    }
    json!({
        "parentRef": reference,
        "controllerName": CONTROLLER,
        "conditions": list(&parent.conditions, condition),
    })
}

fn listener(listener: &ListenerStatus) -> Value {
    let kind = |kind: &String| json!({"group": GATEWAY_API, "kind": kind});
    json!({
        "name": listener.name,
        "supportedKinds": list(&listener.supported_kinds, kind),
        "attachedRoutes": listener.attached_routes,
        "conditions": list(&listener.conditions, condition),
    })
}

/// A document as its owner wrote it, with the status that it has now: in place of one that it was exported with, and as a
/// comment where the text is no block of YAML.
pub fn with(document: &Document) -> String {
    let status = json!({"status": json(document)});
    let status = serde_saphyr::to_string(&status).unwrap_or_default();
    let own = without_status(&document.yaml);
    let mut text = format!("{}\n", own.trim_end());
    let block = own.lines().any(|line| line.starts_with("kind:"));
    for line in status.lines() {
        text.push_str(if block { "" } else { "# " });
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The text without its field `status`.
fn without_status(yaml: &str) -> String {
    let mut inside = false;
    let kept = yaml.split_inclusive('\n').filter(|line| {
        let goes_on = line.starts_with([' ', '-', '#']) || line.trim().is_empty();
        inside = line.starts_with("status:") || (inside && goes_on);
        !inside
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use weft_proto::admin::v1::DocumentStatus;

    use super::*;

    fn said(kind: &str, status: &str, good: bool) -> Condition {
        Condition {
            r#type: kind.into(),
            status: status.into(),
            reason: "Because".into(),
            message: String::new(),
            good,
        }
    }

    fn document(yaml: &str, conditions: Vec<Condition>) -> Document {
        let parent = ParentStatus {
            kind: "Service".into(),
            namespace: "default".into(),
            name: "api".into(),
            port: 80,
            conditions,
            ..Default::default()
        };
        let status = Some(DocumentStatus { parents: vec![parent], ..Default::default() });
        Document { yaml: yaml.into(), status, ..Default::default() }
    }

    #[test]
    fn a_table_shows_what_is_not_as_it_should_be() {
        let good = said("Accepted", "True", true);
        let bad = said("Conflicted", "True", false);
        assert_eq!(summary(&document("", vec![good.clone()])), "Accepted");
        assert_eq!(summary(&document("", vec![good, bad.clone(), bad])), "Conflicted=True");
    }

    #[test]
    fn the_status_stands_at_the_end_of_the_text_once() {
        let yaml = "# mine\nkind: HTTPRoute\nstatus:\n  parents: []\nspec: {}\n";
        let text = with(&document(yaml, vec![said("Accepted", "True", true)]));
        assert!(text.starts_with("# mine\nkind: HTTPRoute\nspec: {}\nstatus:\n"), "{text}");
        assert_eq!(text.matches("status:\n").count(), 1, "{text}");
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read["status"]["parents"][0]["parentRef"]["port"], 80);
        assert_eq!(read["status"]["parents"][0]["conditions"][0]["type"], "Accepted");
    }

    #[test]
    fn the_status_of_a_text_in_one_line_is_a_comment() {
        let text = with(&document("{kind: HTTPRoute}", vec![said("Accepted", "True", true)]));
        assert!(text.starts_with("{kind: HTTPRoute}\n# status:\n"), "{text}");
    }
}
