//! Which service a host name in a document means. Pure.
//!
//! Istio's rule: a name without dots is a service of the document's own namespace, and if that has none, a host in full
//! (a `ServiceEntry`, or an alias that a platform gives). It never means a service of another namespace. With dots it is
//! `name.namespace`, `name.namespace.svc`, `name.namespace.svc.<mesh domain>`, or a host in full.

use std::{collections::HashMap, sync::Arc};

use crate::model::{ExportTo, MESH_DOMAIN_DEFAULT, Mesh, Service, ServiceKey};

/// Host names of the mesh, each with the service that it means. Where two services share a name, the first by key has
/// it.
#[derive(Debug)]
pub struct Hosts {
    /// `.svc.cluster.local`.
    suffix: String,
    by_host: HashMap<Arc<str>, ServiceKey>,
    canonical: HashMap<ServiceKey, Arc<str>>,
    /// The same for services that do not count everywhere: in one namespace a host means one of them at most.
    restricted: HashMap<Arc<str>, Vec<ServiceKey>>,
    exports: HashMap<ServiceKey, ExportTo>,
}

impl Default for Hosts {
    fn default() -> Self {
        Self::of_services([], MESH_DOMAIN_DEFAULT)
    }
}

impl Hosts {
    /// Of a mesh.
    pub fn of_mesh(mesh: &Mesh) -> Self {
        Self::of_services(mesh.services.values(), &mesh.domain)
    }

    /// Of some services, in the order of their keys. `mesh_domain` is the last part of full host names.
    pub fn of_services<'a>(services: impl IntoIterator<Item = &'a Arc<Service>>, mesh_domain: &str) -> Self {
        let (mut by_host, mut canonical) = (HashMap::new(), HashMap::new());
        let (mut restricted, mut exports) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        for service in services {
            canonical.insert(service.key.clone(), service.host.clone());
            // The short name is no host in full: it is found by its namespace alone.
            let in_full = |host: &&Arc<str>| **host == service.host || **host != service.key.name;
            for host in service.hosts.iter().chain([&service.host]).filter(in_full) {
                match service.export_to {
                    ExportTo::Everywhere => {
                        by_host.entry(host.clone()).or_insert_with(|| service.key.clone());
                    }
                    ExportTo::Namespaces(_) => {
                        restricted.entry(host.clone()).or_default().push(service.key.clone());
                        exports.insert(service.key.clone(), service.export_to.clone());
                    }
                }
            }
        }
        Self { suffix: format!(".svc.{mesh_domain}"), by_host, canonical, restricted, exports }
    }

    /// The service that a name in a document of `namespace` means, of those that count there.
    pub fn find(&self, host: &str, namespace: &str) -> Option<&ServiceKey> {
        let counts = |key: &&ServiceKey| {
            self.exports.get(*key).is_none_or(|export| export.reaches(namespace, &key.namespace))
        };
        if !host.contains('.') {
            let key = ServiceKey::new(namespace, host);
            let own = self.canonical.get_key_value(&key).map(|(key, _)| key);
            if let Some(key) = own.filter(counts) {
                return Some(key);
            }
        }
        let restricted = self.restricted.get(host).and_then(|keys| keys.iter().find(counts));
        restricted.or_else(|| self.by_host.get(host))
    }

    /// One spelling for every name of a host: the service's host where it is known, else `name.namespace` for a short
    /// or cluster-local name, else the name itself.
    pub fn canonical(&self, host: &str, namespace: &str) -> Arc<str> {
        if let Some(known) = self.find(host, namespace).and_then(|key| self.canonical.get(key)) {
            return known.clone();
        }
        match self.local(host, namespace) {
            Some((name, namespace)) => format!("{name}.{namespace}").into(),
            None => host.into(),
        }
    }

    /// Every name by which a proxy of `near` may call a host that is no service yet, as a document of `namespace` writes
    /// it.
    pub fn spellings(&self, host: &str, namespace: &str, near: &str) -> Vec<Arc<str>> {
        let Some((name, namespace)) = self.local(host, namespace) else { return vec![host.into()] };
        let short = (namespace == near).then(|| Arc::from(name));
        let long = [
            format!("{name}.{namespace}"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}{}", self.suffix),
        ];
        short.into_iter().chain(long.map(Arc::from)).collect()
    }

    /// Name and namespace, where a host can be nothing but a service of the mesh.
    fn local<'a>(&self, host: &'a str, namespace: &'a str) -> Option<(&'a str, &'a str)> {
        if host.starts_with('*') {
            return None;
        }
        if !host.contains('.') {
            return Some((host, namespace));
        }
        host.strip_suffix(&self.suffix).or_else(|| host.strip_suffix(".svc"))?.rsplit_once('.')
    }
}

/// Whether `pattern` (exact, `*.suffix` or `*`) takes `host`.
pub fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// The narrower of two hosts or patterns, where one takes the other; what both take.
pub fn narrower(a: &Arc<str>, b: &Arc<str>) -> Option<Arc<str>> {
    if a == b || host_matches(a, b) {
        return Some(b.clone());
    }
    host_matches(b, a).then(|| a.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Resolution;

    fn service(namespace: &str, name: &str, host: &str, more: &[&str]) -> Arc<Service> {
        let short = [name.to_owned(), format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")];
        let hosts = short.iter().map(String::as_str).chain(more.iter().copied()).chain([host]);
        Arc::new(Service {
            key: ServiceKey::new(namespace, name),
            host: host.into(),
            hosts: hosts.map(Arc::from).collect(),
            ports: Vec::new(),
            resolution: Resolution::Static,
            export_to: ExportTo::Everywhere,
            virtual_ip: None,
            addresses: Vec::new(),
            certificate_names: Vec::new(),
            endpoints: Arc::new(BTreeMap::new()),
            sources: Vec::new(),
            conflicts: Vec::new(),
        })
    }

    fn hosts() -> Hosts {
        let services = [
            service("default", "api", "api.default.svc.mesh.test", &[]),
            service("default", "only", "only.default.svc.mesh.test", &["alias", "only.example.com"]),
            service("shop", "api", "api.shop.svc.mesh.test", &[]),
        ];
        let mut entry = Service::clone(&services[0]);
        entry.key = ServiceKey::new("shop", "db");
        entry.host = "db".into();
        entry.hosts = vec!["db".into()];
        let entry = Arc::new(entry);
        Hosts::of_services(services.iter().chain([&entry]), "mesh.test")
    }

    #[test]
    fn a_name_means_the_same_service_however_it_is_written() {
        let hosts = hosts();
        for (host, namespace, expected) in [
            ("api", "default", Some("default/api")),
            ("api", "shop", Some("shop/api")),
            ("api", "elsewhere", None),
            ("only", "shop", None),
            ("api.shop", "default", Some("shop/api")),
            ("api.shop.svc", "default", Some("shop/api")),
            ("api.shop.svc.mesh.test", "default", Some("shop/api")),
            ("api.shop.svc.other.test", "default", None),
            ("alias", "shop", Some("default/only")),
            ("only.example.com", "shop", Some("default/only")),
            ("db", "shop", Some("shop/db")),
            ("db", "default", Some("shop/db")),
        ] {
            let found = hosts.find(host, namespace).map(ToString::to_string);
            assert_eq!(found.as_deref(), expected, "{host} in {namespace}");
        }
    }

    #[test]
    fn a_host_that_is_no_service_yet_has_one_spelling_too() {
        let hosts = hosts();
        for (host, namespace, expected) in [
            ("api", "shop", "api.shop.svc.mesh.test"),
            ("later", "shop", "later.shop"),
            ("later.shop", "default", "later.shop"),
            ("later.shop.svc", "default", "later.shop"),
            ("later.shop.svc.mesh.test", "default", "later.shop"),
            ("later.shop.svc.other.test", "default", "later.shop.svc.other.test"),
            ("example.com", "shop", "example.com"),
            ("*.example.com", "shop", "*.example.com"),
            ("*", "shop", "*"),
        ] {
            assert_eq!(&*hosts.canonical(host, namespace), expected, "{host} in {namespace}");
        }
    }

    #[test]
    fn a_host_means_what_counts_in_the_namespace_that_names_it() {
        let private = |namespace: &str, export: &[&str]| {
            let mut entry = Service::clone(&service(namespace, "x", "x.example.com", &[]));
            entry.hosts = vec![entry.host.clone()];
            entry.export_to = ExportTo::Namespaces(export.iter().map(|name| Arc::from(*name)).collect());
            Arc::new(entry)
        };
        let hosts = Hosts::of_services(&[private("a", &["."]), private("b", &["c", "."])], "mesh.test");
        for (namespace, expected) in [("a", Some("a/x")), ("b", Some("b/x")), ("c", Some("b/x")), ("d", None)]
        {
            let found = hosts.find("x.example.com", namespace).map(ToString::to_string);
            assert_eq!(found.as_deref(), expected, "in {namespace}");
        }
    }

    #[test]
    fn a_short_name_is_a_host_only_within_its_namespace() {
        let hosts = hosts();
        let all = |near| hosts.spellings("later", "shop", near).join(" ");
        assert_eq!(all("shop"), "later later.shop later.shop.svc later.shop.svc.mesh.test");
        assert_eq!(all("default"), "later.shop later.shop.svc later.shop.svc.mesh.test");
        assert_eq!(hosts.spellings("*.example.com", "shop", "shop").join(" "), "*.example.com");
    }
}
