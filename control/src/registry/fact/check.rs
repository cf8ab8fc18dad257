//! From the protocol to checked facts: every name, number and length is looked at once, here.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::Deserialize;
use weft_proto::{document::kind_in_keys, registry::v1 as wire};

use super::{
    BadFact, DOCUMENT_BYTES_MAX, DocumentFact, DocumentText, EndpointFact, Gone, LABELS_MAX, NAME_BYTES_MAX,
    Object, PORTS_MAX, Replaces, ServiceFact, Speaker, TEXT_BYTES_MAX,
};
use crate::{
    documents::{self, Severity},
    model::{Endpoint, Health, Locality, Port, Protocol, Resolution, ServiceKey},
    store::DocumentKey,
};

/// Checks who speaks.
pub fn speaker(hello: &wire::Hello) -> Result<Speaker, BadFact> {
    let at = || format!("source {:?}", clip(&hello.source));
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "./_-".contains(c);
    if hello.source.is_empty() || hello.source.len() > NAME_BYTES_MAX || !hello.source.chars().all(legal) {
        return Err(bad(at(), "the name must be 1 to 253 characters of [a-z0-9./_-]"));
    }
    if hello.incarnation.is_empty() {
        return Err(bad(at(), "incarnation is empty; send a random id of the adapter's process"));
    }
    for (field, text) in [
        ("platform", &hello.platform),
        ("cluster", &hello.cluster),
        ("region", &hello.region),
        ("incarnation", &hello.incarnation),
    ] {
        within(text, field, TEXT_BYTES_MAX).map_err(|problem| bad(at(), problem))?;
    }
    Ok(Speaker {
        name: hello.source.as_str().into(),
        platform: hello.platform.as_str().into(),
        cluster: hello.cluster.as_str().into(),
        region: hello.region.as_str().into(),
    })
}

/// Checks an object to add.
pub fn upsert(speaker: &Speaker, upsert: wire::Upsert) -> Result<Object, BadFact> {
    match upsert.object {
        Some(wire::upsert::Object::Service(found)) => {
            let name = key(found.key.as_ref(), "service").ok().map(|key| Replaces::One(Gone::Service(key)));
            service(found).map(Object::Service).map_err(|error| error.replacing(name))
        }
        Some(wire::upsert::Object::Endpoint(found)) => {
            let name = Replaces::One(Gone::Endpoint(endpoint_id(speaker, &found.id)));
            endpoint(speaker, found).map(Object::Endpoint).map_err(|error| error.replacing(Some(name)))
        }
        Some(wire::upsert::Object::Document(found)) => {
            let origin = Replaces::DocumentsOf(found.origin.as_str().into());
            document(found).map(Object::Document).map_err(|error| error.replacing(Some(origin)))
        }
        None => Err(bad("upsert", "it carries no object that this version knows")),
    }
}

/// Checks the name of an object to remove.
pub fn remove(speaker: &Speaker, remove: wire::Remove) -> Result<Gone, BadFact> {
    match remove.object {
        Some(wire::remove::Object::Service(found)) => key(Some(&found), "service").map(Gone::Service),
        Some(wire::remove::Object::Endpoint(id)) => Ok(Gone::Endpoint(endpoint_id(speaker, &id))),
        Some(wire::remove::Object::Document(found)) => Ok(Gone::Document(DocumentKey::new(
            &found.kind,
            namespace_or_default(&found.namespace),
            &found.name,
        ))),
        None => Err(bad("remove", "it names no object that this version knows")),
    }
}

fn service(found: wire::Service) -> Result<ServiceFact, BadFact> {
    let key = key(found.key.as_ref(), "service")?;
    let at = || format!("service {key}");
    let fail = |problem: String| bad(at(), problem);
    if found.ports.len() > PORTS_MAX || found.aliases.len() > LABELS_MAX {
        return Err(fail(format!("more than {PORTS_MAX} ports or {LABELS_MAX} aliases")));
    }
    let mut ports: Vec<Port> = Vec::with_capacity(found.ports.len());
    for (index, port) in found.ports.iter().enumerate() {
        let number =
            port_number(port.number).map_err(|problem| fail(format!("ports[{index}].number: {problem}")))?;
        within(&port.name, &format!("ports[{index}].name"), NAME_BYTES_MAX).map_err(fail)?;
        let name: Arc<str> =
            if port.name.is_empty() { number.to_string().into() } else { port.name.as_str().into() };
        if ports.iter().any(|known| known.number == number || known.name == name) {
            return Err(fail(format!(
                "ports[{index}]: {name}:{number} repeats the name or number of another port"
            )));
        }
        ports.push(Port { name, number, protocol: protocol(port.protocol()) });
    }
    let mut aliases = Vec::with_capacity(found.aliases.len());
    for (index, alias) in found.aliases.iter().enumerate() {
        let alias = alias.to_ascii_lowercase();
        host_name(&alias).map_err(|problem| fail(format!("aliases[{index}]: {problem}")))?;
        aliases.push(Arc::from(alias));
    }
    let resolution = match found.resolution() {
        wire::service::Resolution::Dns => Resolution::Dns,
        wire::service::Resolution::Static | wire::service::Resolution::Unspecified => Resolution::Static,
    };
    Ok(ServiceFact { key, ports, aliases, resolution })
}

fn endpoint(speaker: &Speaker, found: wire::Endpoint) -> Result<EndpointFact, BadFact> {
    let at = || format!("endpoint {:?}", clip(&found.id));
    let fail = |problem: String| bad(at(), problem);
    if found.id.is_empty() || found.id.len() > TEXT_BYTES_MAX {
        return Err(fail(format!("id must be 1 to {TEXT_BYTES_MAX} bytes")));
    }
    let service = key(found.service.as_ref(), "service").map_err(|error| fail(error.problem))?;
    address(&found.address).map_err(|problem| fail(format!("address: {problem}")))?;
    if found.ports.len() > PORTS_MAX || found.labels.len() > LABELS_MAX {
        return Err(fail(format!("more than {PORTS_MAX} ports or {LABELS_MAX} labels")));
    }
    let mut ports = BTreeMap::new();
    for (name, number) in &found.ports {
        within(name, "ports", NAME_BYTES_MAX).map_err(fail)?;
        let number = port_number(*number).map_err(|problem| fail(format!("ports[{name}]: {problem}")))?;
        ports.insert(Arc::from(name.as_str()), number);
    }
    let mut labels = BTreeMap::new();
    for (name, value) in &found.labels {
        within(name, "labels", NAME_BYTES_MAX).map_err(fail)?;
        within(value, &format!("labels[{name}]"), TEXT_BYTES_MAX).map_err(fail)?;
        labels.insert(Arc::from(name.as_str()), Arc::from(value.as_str()));
    }
    for (field, text) in
        [("identity", &found.identity), ("network", &found.network), ("workload", &found.workload)]
    {
        within(text, field, TEXT_BYTES_MAX).map_err(fail)?;
    }
    let place = found.locality.clone().unwrap_or_default();
    for text in [&place.region, &place.zone, &place.subzone] {
        within(text, "locality", NAME_BYTES_MAX).map_err(fail)?;
    }
    let health = match found.health() {
        wire::Health::Unspecified | wire::Health::Healthy => Health::Healthy,
        wire::Health::Draining => Health::Draining,
        wire::Health::Unhealthy => Health::Unhealthy,
    };
    let region = if place.region.is_empty() { speaker.region.clone() } else { place.region.as_str().into() };
    let mtls = found.transport() == wire::endpoint::Transport::Mtls;
    let endpoint = Endpoint {
        id: endpoint_id(speaker, &found.id),
        address: found.address.as_str().into(),
        ports,
        weight: found.weight.max(1),
        health,
        locality: Locality {
            region,
            zone: place.zone.as_str().into(),
            subzone: place.subzone.as_str().into(),
        },
        labels,
        identity: found.identity.as_str().into(),
        workload: found.workload.as_str().into(),
        cluster: speaker.cluster.clone(),
        network: found.network.as_str().into(),
        mtls,
        stale: false,
    };
    Ok(EndpointFact { service, endpoint: Arc::new(endpoint), network: found.network.as_str().into() })
}

/// What names a document; the rest of its text is the business of `documents`.
#[derive(Deserialize)]
struct Head {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    kind: String,
    metadata: HeadMetadata,
}

#[derive(Deserialize)]
struct HeadMetadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

fn document(found: wire::Document) -> Result<DocumentFact, BadFact> {
    let at = || format!("document {}:{}", clip(&found.origin), found.line.max(1));
    if found.yaml.len() > DOCUMENT_BYTES_MAX {
        return Err(bad(at(), format!("more than {DOCUMENT_BYTES_MAX} bytes")));
    }
    within(&found.origin, "origin", TEXT_BYTES_MAX).map_err(|problem| bad(at(), problem))?;
    let head: Head = serde_saphyr::from_str(&found.yaml)
        .map_err(|error| bad(at(), format!("kind and metadata.name cannot be read: {error}")))?;
    let namespace = namespace_or_default(&head.metadata.namespace);
    let key = DocumentKey::new(&kind_in_keys(&head.api_version, &head.kind), namespace, &head.metadata.name);
    let line = found.line.max(1);
    let (_, problems) = documents::parse(&found.yaml, &found.origin, line);
    let complaint = problems.iter().find(|problem| problem.severity == Severity::Error);
    Ok(DocumentFact {
        key,
        complaint: complaint.map(|problem| problem.to_string().into()),
        text: Arc::new(DocumentText { yaml: found.yaml.into(), origin: found.origin.into(), line }),
        good: None,
        since_seconds: 0,
    })
}

impl BadFact {
    fn replacing(self, replaces: Option<Replaces>) -> Self {
        Self { replaces, ..self }
    }
}

fn endpoint_id(speaker: &Speaker, id: &str) -> Arc<str> {
    format!("{}/{id}", speaker.name).into()
}

fn namespace_or_default(namespace: &str) -> &str {
    if namespace.is_empty() { "default" } else { namespace }
}

fn key(found: Option<&wire::ServiceKey>, field: &str) -> Result<ServiceKey, BadFact> {
    let Some(found) = found else { return Err(bad(field, "its namespace and name are missing")) };
    let at = || format!("{field} \"{}/{}\"", clip(&found.namespace), clip(&found.name));
    let namespace = namespace_or_default(&found.namespace);
    if namespace.contains('.') {
        return Err(bad(at(), "a namespace has no dots"));
    }
    host_name(namespace).map_err(|problem| bad(at(), format!("namespace: {problem}")))?;
    host_name(&found.name).map_err(|problem| bad(at(), format!("name: {problem}")))?;
    Ok(ServiceKey::new(namespace, &found.name))
}

/// Lower-case letters, digits, `-` and `_` in dot-separated labels of 1 to 63; a leading `*.` is a wildcard.
fn host_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err("1 to 253 characters are wanted".to_owned());
    }
    for label in name.strip_prefix("*.").unwrap_or(name).split('.') {
        if label.is_empty() || label.len() > 63 || !label.chars().all(legal) {
            return Err(format!(
                "{:?} is no host name; lower-case letters, digits and dashes in labels of 1 to 63",
                clip(name)
            ));
        }
    }
    Ok(())
}

fn address(text: &str) -> Result<(), String> {
    within(text, "address", TEXT_BYTES_MAX)?;
    if text.starts_with('/') {
        return if text.contains('\0') { Err("a socket path has no NUL".to_owned()) } else { Ok(()) };
    }
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
            Err(format!("{ip} is no address to connect to; register the address that peers reach"))
        }
        Ok(_) => Ok(()),
        Err(_) => host_name(&text.to_ascii_lowercase())
            .map_err(|_| format!("{:?} is no IP address, host name or absolute socket path", clip(text))),
    }
}

fn port_number(number: u32) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{number} is no port; 1 to 65535 is wanted")),
    }
}

const fn protocol(protocol: wire::Protocol) -> Protocol {
    match protocol {
        wire::Protocol::Unspecified | wire::Protocol::Tcp => Protocol::Tcp,
        wire::Protocol::Http => Protocol::Http,
        wire::Protocol::Http2 => Protocol::Http2,
        wire::Protocol::Grpc => Protocol::Grpc,
        wire::Protocol::Tls => Protocol::Tls,
    }
}

fn within(text: &str, field: &str, bytes_max: usize) -> Result<(), String> {
    if text.len() > bytes_max { Err(format!("{field} is longer than {bytes_max} bytes")) } else { Ok(()) }
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

fn bad(object: impl Into<String>, problem: impl Into<String>) -> BadFact {
    BadFact { object: object.into(), problem: problem.into(), replaces: None }
}
