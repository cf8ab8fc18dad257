//! What DNS answers for a service: `weft.extension.v1.HostNames`, which proxies ask for that answer DNS.

use std::{net::IpAddr, sync::Arc};

use prost::Message;
use weft_proto::extension::v1 as wire;

use super::ir::version;
use crate::{
    model::Service,
    resource::{Kind, Resource},
};

/// The names of a host and the addresses that stand for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostNames {
    host: Arc<str>,
    names: Vec<Arc<str>>,
    /// Means the host in its namespace alone.
    short_name: Arc<str>,
    namespace: Arc<str>,
    addresses: Vec<IpAddr>,
}

/// The names of a service; none where no single address stands for it: a name is then resolved as it was without us.
pub(crate) fn of_service(service: &Service) -> Option<HostNames> {
    let addresses = service.ips();
    if addresses.is_empty() || service.is_pattern() {
        return None;
    }
    let short = |host: &&Arc<str>| ***host != *service.host && **host == service.key.name;
    let names = service.hosts.iter().chain([&service.host]).filter(|host| !short(host));
    let mut names: Vec<Arc<str>> = names.map(|name| name.to_ascii_lowercase().into()).collect();
    names.sort_unstable();
    names.dedup();
    Some(HostNames {
        host: service.host.clone(),
        names,
        short_name: service.hosts.iter().find(short).cloned().unwrap_or_default(),
        namespace: service.key.namespace.clone(),
        addresses,
    })
}

impl HostNames {
    pub(crate) fn resource(&self) -> Arc<Resource> {
        let message = wire::HostNames {
            host: self.host.to_string(),
            names: self.names.iter().map(ToString::to_string).collect(),
            short_name: self.short_name.to_string(),
            namespace: self.namespace.to_string(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
        };
        let documents = Arc::new([]);
        Arc::new(Resource::new(
            Kind::Names,
            self.host.clone(),
            version(self),
            message.encode_to_vec(),
            documents,
        ))
    }
}
