//! Which service a host name in a document means. Pure.

use std::{collections::HashMap, sync::Arc};

use crate::model::{Mesh, Service, ServiceKey};

/// Host names of the mesh, each with the service that it means. Where two services share a name, the first by key has
/// it; names within a namespace are looked up there first.
#[derive(Debug, Default)]
pub struct Hosts {
    by_host: HashMap<Arc<str>, ServiceKey>,
    canonical: HashMap<ServiceKey, Arc<str>>,
}

impl Hosts {
    /// Of a mesh.
    pub fn of_mesh(mesh: &Mesh) -> Self {
        Self::of_services(mesh.services.values())
    }

    /// Of some services, in the order of their keys.
    pub fn of_services<'a>(services: impl IntoIterator<Item = &'a Arc<Service>>) -> Self {
        let mut hosts = Self::default();
        for service in services {
            hosts.canonical.insert(service.key.clone(), service.host.clone());
            for host in service.hosts.iter().chain([&service.host]) {
                hosts.by_host.entry(host.clone()).or_insert_with(|| service.key.clone());
            }
        }
        hosts
    }

    /// The service that a name in a document of `namespace` means.
    pub fn find(&self, host: &str, namespace: &str) -> Option<&ServiceKey> {
        if !host.contains('.') {
            let key = ServiceKey::new(namespace, host);
            if let Some((key, _)) = self.canonical.get_key_value(&key) {
                return Some(key);
            }
        }
        self.by_host.get(host)
    }

    /// One spelling for every name of a host: the service's host where it is known, else `name.namespace` for a short
    /// or cluster-local name, else the name itself.
    pub fn canonical(&self, host: &str, namespace: &str) -> Arc<str> {
        if let Some(known) = self.find(host, namespace).and_then(|key| self.canonical.get(key)) {
            return known.clone();
        }
        if host.starts_with('*') {
            return host.into();
        }
        match host.split_once(".svc.") {
            Some((local, _)) => local.into(),
            None if host.contains('.') => host.into(),
            None => format!("{host}.{namespace}").into(),
        }
    }
}

/// Whether `pattern` (exact, `*.suffix` or `*`) takes `host`.
pub fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}
