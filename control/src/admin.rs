//! What people and their tools ask, on one port: gRPC (`weft.admin.v1`) and plain HTTP (`/healthz`, `/metrics`,
//! `/api/v1/...`). Both speak through the desk; neither decides anything.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use weft_proto::admin::v1::{self as wire, admin_server::AdminServer};

use crate::{
    ads::Tracker, app::desk::Desk, identity::Identity, settings::Settings, telemetry, traffic::Traffic,
};

mod canary;
mod grpc;
mod http;
mod identity;
mod traffic;
mod view;

/// Bytes of one message: the largest apply.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Everything that the port answers from. Cloning shares it.
#[derive(Clone)]
pub struct Admin {
    desk: Arc<Desk>,
    tracker: Tracker,
    traffic: Traffic,
    metrics: Option<PrometheusHandle>,
    /// None where nobody is asked for an identity.
    identity: Option<Arc<Identity>>,
    settings: Arc<Settings>,
}

impl Admin {
    /// From the parts of a running control plane.
    pub fn new(
        desk: Arc<Desk>,
        tracker: Tracker,
        traffic: Traffic,
        metrics: Option<PrometheusHandle>,
        identity: Option<Arc<Identity>>,
        settings: Settings,
    ) -> Self {
        Self { desk, tracker, traffic, metrics, identity, settings: Arc::new(settings) }
    }

    /// The mesh as the control plane sees it; only proxies whose id contains `proxy`.
    pub(crate) fn status(&self, proxy: &str) -> wire::StatusResponse {
        let mut proxies = self.tracker.proxies();
        proxies.retain(|known| known.id.contains(proxy));
        wire::StatusResponse {
            revision: self.desk.compiled().revision,
            live_revision: self.tracker.live_revision(),
            proxies,
            sources: self.desk.registry().sources().iter().map(view::source).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Serves until it is stopped.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) {
    let grpc = AdminServer::new(grpc::Grpc::new(admin.clone(), stop.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let router = tonic::service::Routes::new(grpc).into_axum_router().merge(http::router(admin.clone()));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        served = served => {
            if let Err(error) = served {
                tracing::error!(%error, "the admin port failed");
            }
        }
        () = upkeep(admin.metrics) => {}
    }
}

/// Folds histograms now and then; never ends.
async fn upkeep(metrics: Option<PrometheusHandle>) {
    let mut ticks = tokio::time::interval(telemetry::UPKEEP);
    loop {
        ticks.tick().await;
        if let Some(metrics) = &metrics {
            metrics.run_upkeep();
        }
    }
}
