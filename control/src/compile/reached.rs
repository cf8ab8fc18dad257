//! How clients that know nothing of the mesh reach a service: what DNS answers for it, and the listeners at its addresses.
//! The same for every proxy.

use std::{sync::Arc, time::Duration};

use super::{capture, ir::version, names, services::listener_resource};
use crate::{access_log::AccessLog, model::Service, resource::Resource};

/// Of one service.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// None where no single address stands for the service.
    pub(crate) names: Option<Arc<Resource>>,
    pub(crate) listeners: Vec<Arc<Resource>>,
}

impl Reached {
    /// What equals its predecessor stays the same allocation.
    pub(crate) fn new(
        service: &Service,
        tcp_idle_timeout: Option<Duration>,
        logs: &[AccessLog],
        before: Option<&Self>,
    ) -> Self {
        let names = names::of_service(service).map(|names| {
            let known = before.and_then(|before| before.names.as_ref());
            let same = known.filter(|known| known.version == version(&names));
            same.cloned().unwrap_or_else(|| names.resource())
        });
        let listeners = capture::of_service(service, tcp_idle_timeout).into_iter().map(|mut listener| {
            listener.access_logs.extend_from_slice(logs);
            let mut known = before.into_iter().flat_map(|before| &before.listeners);
            let same = known.find(|known| known.name == listener.name && known.version == version(&listener));
            same.cloned().unwrap_or_else(|| Arc::new(listener_resource(&listener, Arc::new([]))))
        });
        Self { listeners: listeners.collect(), names }
    }
}
