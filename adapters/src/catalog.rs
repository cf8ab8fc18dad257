//! What a source knows: services, endpoints and documents in the registry's own words, validated in one place.

use std::fmt;
use std::sync::Arc;

use weft_proto::registry::v1 as proto;

/// Longest accepted name of a service or id of an endpoint, in bytes.
pub const NAME_BYTES_MAX: usize = 253;

/// Name of one object within its source. Services sort before the endpoints that serve them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An endpoint, by its id.
    Endpoint(String),
    /// A document.
    Document {
        /// Its kind.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Key {
    /// The message that removes this object.
    pub fn to_remove(&self) -> proto::Remove {
        use proto::remove::Object;
        let object = match self.clone() {
            Key::Service { namespace, name } => Object::Service(proto::ServiceKey { namespace, name }),
            Key::Endpoint(id) => Object::Endpoint(id),
            Key::Document { kind, namespace, name } => {
                Object::Document(proto::DocumentKey { kind, namespace, name })
            }
        };
        proto::Remove { object: Some(object) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Service { namespace, name } => write!(f, "service {namespace}/{name}"),
            Key::Endpoint(id) => write!(f, "endpoint {id}"),
            Key::Document { kind, namespace, name } => write!(f, "{kind} {namespace}/{name}"),
        }
    }
}

/// One valid object with its name. Cheap to clone: the log, the view and every control plane's stream share it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    key: Key,
    object: Arc<proto::upsert::Object>,
}

impl Item {
    /// A service, with aliases in lower case.
    pub fn service(mut service: proto::Service) -> Result<Item, Invalid> {
        let key = service_key(service.key.as_ref())?;
        let mut names = std::collections::BTreeSet::new();
        for port in &service.ports {
            port_number("ports[].number", port.number)?;
            if port.name.is_empty() || !names.insert(port.name.as_str()) {
                return Err(Invalid::new(
                    "ports[].name",
                    format!("'{}' is empty or not unique; name each port once", port.name),
                ));
            }
        }
        for alias in &mut service.aliases {
            alias.make_ascii_lowercase();
        }
        service.aliases.sort();
        service.aliases.dedup();
        Ok(Item { key, object: Arc::new(proto::upsert::Object::Service(service)) })
    }

    /// An endpoint.
    pub fn endpoint(endpoint: proto::Endpoint) -> Result<Item, Invalid> {
        name("id", &endpoint.id)?;
        service_key(endpoint.service.as_ref())?;
        if endpoint.address.is_empty() || endpoint.address.contains(char::is_whitespace) {
            return Err(Invalid::new(
                "address",
                format!("'{}' is no IP address, host name or socket path", endpoint.address),
            ));
        }
        if !endpoint.address.starts_with('/') {
            for number in endpoint.ports.values() {
                port_number("ports", *number)?;
            }
        }
        let key = Key::Endpoint(endpoint.id.clone());
        Ok(Item { key, object: Arc::new(proto::upsert::Object::Endpoint(endpoint)) })
    }

    /// A document under the name that its header gives.
    pub fn document(key: proto::DocumentKey, document: proto::Document) -> Result<Item, Invalid> {
        name("kind", &key.kind)?;
        name("metadata.name", &key.name)?;
        name("metadata.namespace", &key.namespace)?;
        let key = Key::Document { kind: key.kind, namespace: key.namespace, name: key.name };
        Ok(Item { key, object: Arc::new(proto::upsert::Object::Document(document)) })
    }

    /// Its name.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The object.
    pub fn object(&self) -> &proto::upsert::Object {
        &self.object
    }

    /// The message that adds or replaces this object.
    pub fn to_upsert(&self) -> proto::Upsert {
        proto::Upsert { object: Some(self.object.as_ref().clone()) }
    }
}

/// Why an object cannot be told to a control plane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with it and what to do.
    pub reason: String,
}

impl Invalid {
    fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Invalid { field, reason: reason.into() }
    }
}

fn service_key(key: Option<&proto::ServiceKey>) -> Result<Key, Invalid> {
    let key = key.ok_or_else(|| Invalid::new("service", "is missing; name the service"))?;
    name("namespace", &key.namespace)?;
    name("name", &key.name)?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    for (field, text) in [("namespace", &key.namespace), ("name", &key.name)] {
        if !plain(text) {
            return Err(Invalid::new(
                field,
                format!("'{text}' has other characters than letters, digits, '-', '_' and '.'"),
            ));
        }
    }
    Ok(Key::Service { namespace: key.namespace.clone(), name: key.name.clone() })
}

fn name(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(field, "is empty"));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(Invalid::new(field, format!("is longer than {NAME_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(field, "holds a control character"));
    }
    Ok(())
}

fn port_number(field: &'static str, number: u32) -> Result<(), Invalid> {
    match u16::try_from(number) {
        Ok(1..) => Ok(()),
        _ => Err(Invalid::new(field, format!("{number} is no port; use 1 to 65535"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u32) -> proto::Endpoint {
        proto::Endpoint {
            id: "a/b".into(),
            service: Some(proto::ServiceKey { namespace: "default".into(), name: "api".into() }),
            address: "10.0.0.1".into(),
            ports: [("http".to_owned(), port)].into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_port_of_zero_or_above_the_range_is_refused() {
        assert!(Item::endpoint(endpoint(1)).is_ok());
        assert!(Item::endpoint(endpoint(65_535)).is_ok());
        assert_eq!(
            Item::endpoint(endpoint(0)).unwrap_err().to_string(),
            "ports: 0 is no port; use 1 to 65535"
        );
        assert!(Item::endpoint(endpoint(65_536)).is_err());
    }

    #[test]
    fn a_unix_socket_needs_no_port() {
        let socket = proto::Endpoint { address: "/run/api.sock".into(), ..endpoint(0) };
        assert!(Item::endpoint(socket).is_ok());
    }

    #[test]
    fn a_service_names_each_port_once() {
        let port = proto::Port { name: "http".into(), number: 80, protocol: 0 };
        let service = proto::Service {
            key: Some(proto::ServiceKey { namespace: "default".into(), name: "api".into() }),
            ports: vec![port.clone(), port],
            ..Default::default()
        };
        assert!(Item::service(service).unwrap_err().reason.contains("not unique"));
    }
}
