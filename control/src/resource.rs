//! What proxies receive: encoded once, named, hashed, shared. Pure.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

/// xDS resource types, in the order in which make-before-break sends additions: a route never arrives before the
/// clusters that it names. Removals go in the reverse order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `envoy.config.cluster.v3.Cluster`.
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    Endpoints,
    /// `envoy.config.listener.v3.Listener`.
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`.
    Routes,
}

impl Kind {
    /// Every kind, in sending order.
    pub const ALL: [Self; 4] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Routes];

    /// The type URL of the wire.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The kind of a type URL, if we serve it.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

/// One resource as every subscriber of its scope receives it.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: Arc<str>,
    /// Hash of the compiled value before encoding: equal values have equal versions, whatever order a map was encoded
    /// in. Sent as 16 hexadecimal digits.
    pub version: u64,
    /// The encoded message (the `value` of an `Any`).
    pub bytes: Bytes,
    /// Keys ("VirtualService/default/reviews") of the documents that shaped it, so that a NACK finds its cause.
    pub documents: Arc<[Arc<str>]>,
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
