//! What proxies receive: encoded once, named, hashed, shared. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use bytes::Bytes;
use prost::Message;

/// xDS resource types, in the order in which make-before-break sends additions: a route never arrives before the
/// clusters that it names. Removals go in the reverse order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `envoy.config.cluster.v3.Cluster`.
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    Endpoints,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`.
    Secret,
    /// `envoy.config.listener.v3.Listener`.
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`.
    Routes,
    /// `envoy.config.route.v3.VirtualHost`, of a table whose hosts are asked for on demand.
    VirtualHost,
    /// `weft.extension.v1.HostNames`: what DNS answers, once all that its addresses lead to is there.
    Names,
}

impl Kind {
    /// Every kind, in sending order.
    pub const ALL: [Self; 7] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Secret,
        Self::Listener,
        Self::Routes,
        Self::VirtualHost,
        Self::Names,
    ];

    /// The type URL of the wire.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::Names => "type.googleapis.com/weft.extension.v1.HostNames",
        }
    }

    /// The kind of a type URL, if we serve it.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

/// One resource as every subscriber of its scope receives it, in the forms of both protocols; all share one allocation.
#[derive(PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: Arc<str>,
    /// Hash of the compiled value before encoding: equal values have equal versions, whatever order a map was encoded
    /// in. Sent as 16 hexadecimal digits.
    pub version: u64,
    /// The encoded message (the `value` of an `Any`).
    pub bytes: Bytes,
    /// The encoded `google.protobuf.Any`, as state of the world sends it.
    pub any: Bytes,
    /// The encoded `envoy.service.discovery.v3.Resource` with name and version, as delta sends it.
    pub versioned: Bytes,
    /// Keys ("VirtualService/default/reviews") of the documents that shaped it, so that a NACK finds its cause.
    pub documents: Arc<[Arc<str>]>,
}

/// Without its content, which may be a secret.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:016x} ({} bytes)", self.name, self.version, self.bytes.len())
    }
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct AnyMessage {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `envoy.service.discovery.v3.Resource`; on the wire a message is as bytes are.
#[derive(Clone, PartialEq, Message)]
struct VersionedMessage {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(bytes = "bytes", tag = "2")]
    resource: Bytes,
    #[prost(string, tag = "3")]
    name: String,
}

impl Resource {
    /// Of an encoded message.
    pub fn new(
        kind: Kind,
        name: Arc<str>,
        version: u64,
        message: Vec<u8>,
        documents: Arc<[Arc<str>]>,
    ) -> Self {
        let message_bytes = message.len();
        let any = AnyMessage { type_url: kind.type_url().to_owned(), value: message.into() }.encode_to_vec();
        let any_bytes = any.len();
        let versioned = VersionedMessage {
            version: format!("{version:016x}"),
            resource: any.into(),
            name: name.to_string(),
        };
        let name_bytes = prost::encoding::string::encoded_len(3, &versioned.name);
        let versioned = Bytes::from(versioned.encode_to_vec());
        // Fields are written in the order of their numbers: the name follows the resource, and nothing its value.
        let any_end = versioned.len() - name_bytes;
        let any = versioned.slice(any_end - any_bytes..any_end);
        let bytes = any.slice(any_bytes - message_bytes..);
        Self { name, version, bytes, any, versioned, documents }
    }
}

/// What a client names one by one, beyond what its metadata says that it needs. Clients of equal metadata that name the
/// same share a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Listeners: how gRPC clients name a service, and gRPC servers their own address.
    pub listeners: BTreeSet<Arc<str>>,
    /// Virtual hosts on demand, `TABLE/HOST`.
    pub hosts: BTreeSet<Arc<str>>,
}

/// All resources of one scope. Kinds are shared on their own, so that a set that differs from another in endpoints alone
/// is seen to have the same clusters, listeners and routes without looking at them.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    kinds: [Arc<BTreeMap<Arc<str>, Arc<Resource>>>; Kind::ALL.len()],
}

impl ResourceSet {
    /// The resources of a kind, by name.
    pub fn of(&self, kind: Kind) -> impl ExactSizeIterator<Item = &Arc<Resource>> {
        self.kinds[kind as usize].values()
    }

    /// One resource.
    pub fn find(&self, kind: Kind, name: &str) -> Option<&Arc<Resource>> {
        self.kinds[kind as usize].get(name)
    }

    /// Adds or replaces a resource.
    pub fn insert(&mut self, kind: Kind, resource: Arc<Resource>) {
        Arc::make_mut(&mut self.kinds[kind as usize]).insert(resource.name.clone(), resource);
    }

    /// This set with the kinds of `before` that say the same; `before` itself where all do.
    pub fn sharing(mut self, before: &Arc<Self>) -> Arc<Self> {
        for (now, before) in self.kinds.iter_mut().zip(&before.kinds) {
            let same = |(a, b): (&Arc<Resource>, &Arc<Resource>)| {
                Arc::ptr_eq(a, b)
                    || (a.name == b.name && a.version == b.version && a.documents == b.documents)
            };
            if now.len() == before.len() && now.values().zip(before.values()).all(same) {
                *now = before.clone();
            }
        }
        let shared = Kind::ALL.into_iter().all(|kind| self.shares(kind, before));
        if shared { before.clone() } else { Arc::new(self) }
    }

    /// Whether another set shares this one's resources of a kind, so that none of them can differ.
    pub fn shares(&self, kind: Kind, other: &Self) -> bool {
        Arc::ptr_eq(&self.kinds[kind as usize], &other.kinds[kind as usize])
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::xds::{envoy::service::discovery::v3 as api, google::protobuf::Any};

    use super::*;

    #[test]
    fn both_forms_say_what_the_generated_messages_say_and_share_one_allocation() {
        for message in [vec![], vec![1, 2, 3], vec![7; 300]] {
            let found =
                Resource::new(Kind::Routes, "a|b".into(), 0xabc, message.clone(), Arc::from(Vec::new()));
            let any = Any { type_url: Kind::Routes.type_url().to_owned(), value: message.clone() };
            let versioned = api::Resource {
                name: "a|b".to_owned(),
                version: "0000000000000abc".to_owned(),
                resource: Some(any.clone()),
                ..Default::default()
            };
            assert_eq!(found.bytes, message);
            assert_eq!(Any::decode(found.any.clone()), Ok(any));
            assert_eq!(api::Resource::decode(found.versioned.clone()), Ok(versioned));
            let all = found.versioned.as_ptr_range();
            assert!(all.contains(&found.any.as_ptr()) && all.start <= found.bytes.as_ptr());
        }
    }
}
