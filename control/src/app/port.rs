//! A port for proxies and adapters: discovery, load reports, the registry and, over TLS, identities, with limits on who
//! connects and on how long a dead peer is believed to be alive.

use std::{io, sync::Arc, time::Duration};

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Server;

use crate::{
    ads::AdsServer,
    identity::{Identity, service::IdentityService},
    lrs::LoadService,
    peer::Peer,
    registry::{Registry, server::RegistryService},
    traffic::Traffic,
};

/// How often an idle peer is asked whether it is still there.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long it may take to answer.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 streams of one connection; a proxy needs one for each of its services.
const STREAMS_MAX: u32 = 1024;

/// What a port serves.
#[derive(Clone)]
pub struct Services {
    /// Discovery.
    pub ads: AdsServer,
    /// Where load reports go.
    pub traffic: Traffic,
    /// Where adapters tell facts.
    pub registry: Arc<Registry>,
    /// Where peers get identities; none where nobody is asked for one.
    pub identity: Option<Arc<Identity>>,
}

/// Serves the connections that come in, until `stop`. `streams` waits for the streams of adapters, of load reports and of
/// bundles.
pub async fn serve<T>(
    incoming: impl Stream<Item = io::Result<Peer<T>>>,
    services: Services,
    stop: CancellationToken,
    streams: TaskTracker,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Services { ads, traffic, registry, identity } = services;
    let identity = identity.map(|it| IdentityService::server(it, stop.clone(), streams.clone()));
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_MAX)
        .add_service(ads)
        .add_service(LoadService::server(traffic, stop.clone(), streams.clone()))
        .add_service(RegistryService::server(registry, stop.clone(), streams))
        .add_optional_service(identity);
    if let Err(error) = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await {
        tracing::error!(%error, "the xds port failed");
    }
}

#[cfg(test)]
mod tests;
