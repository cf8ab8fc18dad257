//! Checked facts as the protocol carries them, for the disk.

use std::collections::BTreeMap;

use weft_proto::registry::v1 as wire;

use super::{DocumentFact, DocumentText, EndpointFact, ServiceFact};
use crate::model::{Health, Protocol, Resolution, ServiceKey};

impl ServiceFact {
    /// As the wire carries it.
    pub fn to_wire(&self) -> wire::Upsert {
        let ports = self.ports.iter().map(|port| wire::Port {
            name: port.name.to_string(),
            number: port.number.into(),
            protocol: match port.protocol {
                Protocol::Tcp => wire::Protocol::Tcp,
                Protocol::Http => wire::Protocol::Http,
                Protocol::Http2 => wire::Protocol::Http2,
                Protocol::Grpc => wire::Protocol::Grpc,
                Protocol::Tls => wire::Protocol::Tls,
            }
            .into(),
        });
        let resolution = match self.resolution {
            Resolution::Static => wire::service::Resolution::Static,
            // No source says that its clients resolve a service; documents do.
            Resolution::Dns | Resolution::DnsFirst | Resolution::Client => wire::service::Resolution::Dns,
        };
        let service = wire::Service {
            key: Some(wire_key(&self.key)),
            ports: ports.collect(),
            aliases: self.aliases.iter().map(ToString::to_string).collect(),
            labels: BTreeMap::new(),
            resolution: resolution.into(),
        };
        wire::Upsert { object: Some(wire::upsert::Object::Service(service)) }
    }
}

impl EndpointFact {
    /// As the wire carries it; `source` is taken off the id again.
    pub fn to_wire(&self, source: &str) -> wire::Upsert {
        let from = &self.endpoint;
        let id = from.id.strip_prefix(source).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&from.id);
        let health = match from.health {
            Health::Healthy => wire::Health::Healthy,
            Health::Draining => wire::Health::Draining,
            Health::Unhealthy => wire::Health::Unhealthy,
        };
        let transport =
            if from.mtls { wire::endpoint::Transport::Mtls } else { wire::endpoint::Transport::Plaintext };
        let endpoint = wire::Endpoint {
            id: id.to_owned(),
            service: Some(wire_key(&self.service)),
            address: from.address.to_string(),
            ports: from.ports.iter().map(|(name, number)| (name.to_string(), u32::from(*number))).collect(),
            weight: from.weight,
            health: health.into(),
            locality: Some(wire::Locality {
                region: from.locality.region.to_string(),
                zone: from.locality.zone.to_string(),
                subzone: from.locality.subzone.to_string(),
            }),
            labels: from.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            identity: from.identity.to_string(),
            network: self.network.to_string(),
            workload: from.workload.to_string(),
            transport: transport.into(),
        };
        wire::Upsert { object: Some(wire::upsert::Object::Endpoint(endpoint)) }
    }
}

impl DocumentFact {
    /// As the wire carries it.
    pub fn to_wire(&self) -> wire::Upsert {
        let DocumentText { yaml, origin, line } = &*self.text;
        let document = wire::Document { yaml: yaml.to_string(), origin: origin.to_string(), line: *line };
        wire::Upsert { object: Some(wire::upsert::Object::Document(document)) }
    }
}

fn wire_key(key: &ServiceKey) -> wire::ServiceKey {
    wire::ServiceKey { namespace: key.namespace.to_string(), name: key.name.to_string() }
}
