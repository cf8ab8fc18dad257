//! The proxy as an xDS client: one delta ADS stream at a time, held open for ever.

pub mod cache;
// Deprecated fields are what older control planes still send.
#[expect(deprecated)]
pub mod decode;
pub mod demand;
mod load;
pub mod session;
mod tables;

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Streaming, transport::Endpoint};
use weft_proto::xds::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};

use self::{cache::Cache, session::Session};
use crate::{identity::connect::Dialer, spec::Spec, telemetry::load::Loads};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// A control plane that is back has its proxies again soon after, however long it was away.
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// Changes are saved once nothing more came for this long,
const SAVE_QUIET: Duration = Duration::from_millis(50);
/// and at the latest this long after the first of them.
const SAVE_DELAY_MAX: Duration = Duration::from_secs(1);
/// Most requests that wait to be sent; more mean that the control plane does not read, and the stream is given up.
const REQUESTS_MAX: usize = 64;
/// Names of virtual hosts that are taken into one request.
const DEMANDS_MAX: usize = 256;
/// How often it is looked whether hosts that came on demand are still used.
const EXPIRY_CHECK: Duration = Duration::from_secs(10);
/// Largest response, bytes.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// What a client needs.
#[derive(Debug)]
pub struct Client {
    /// Control planes, tried in turn: `http://127.0.0.1:15010`.
    pub addresses: Vec<Endpoint>,
    /// How they are reached.
    pub dialer: Dialer,
    /// Who we are.
    pub node: Node,
    /// Whether it answers DNS, and so needs the names of the mesh.
    pub wants_names: bool,
    /// Where the last good resources are kept.
    pub cache: Option<Cache>,
    /// What is told to the control plane about traffic.
    pub loads: Arc<Loads>,
    /// Where to publish.
    pub spec: watch::Sender<Arc<Spec>>,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Client {
    /// Serves what was saved, then follows the control plane until stopped. `demands` are virtual hosts that requests need.
    pub async fn run(self, mut demands: mpsc::Receiver<String>) {
        let mut session = Session::new(self.wants_names);
        match self.cache.as_ref().map(Cache::load) {
            Some(Ok(resources)) if !resources.is_empty() => {
                session.restore(resources, Instant::now());
                self.spec.send_replace(Arc::new(session.spec()));
                tracing::info!("serving the last known configuration");
            }
            Some(Err(error)) => tracing::warn!(%error, "cannot read the last known configuration"),
            _ => {}
        }
        let mut backoff = BACKOFF_MIN;
        for address in self.addresses.iter().cycle() {
            let ended = tokio::select! {
                () = self.stop.cancelled() => break,
                ended = self.stream(address, &mut session, &mut backoff, &mut demands) => ended,
            };
            metrics::gauge!("weft_xds_connected").set(0.0);
            metrics::counter!("weft_xds_disconnects_total").increment(1);
            let pause = backoff.mul_f64(rand::rng().random::<f64>());
            backoff = (backoff * 2).min(BACKOFF_MAX);
            tracing::warn!(address = %address.uri(), reason = %ended, ?pause, "no control plane; serving what is known");
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.save(&session).await;
    }

    /// One stream, from connecting to its end; says why it ended.
    async fn stream(
        &self,
        address: &Endpoint,
        session: &mut Session,
        backoff: &mut Duration,
        demands: &mut mpsc::Receiver<String>,
    ) -> String {
        match self.converse(address, session, backoff, demands).await {
            Ok(()) => "closed by the control plane".to_owned(),
            Err(status) => status.message().to_owned(),
        }
    }

    async fn converse(
        &self,
        address: &Endpoint,
        session: &mut Session,
        backoff: &mut Duration,
        demands: &mut mpsc::Receiver<String>,
    ) -> Result<(), tonic::Status> {
        let Stream { sender, mut responses, _reports } = self.open(address, session).await?;
        let mut saving = Saving::default();
        let mut expiry = tokio::time::interval(EXPIRY_CHECK);
        let result = loop {
            let requests = tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        *backoff = BACKOFF_MIN;
                        self.receive(session, response, &mut saving)
                    }
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                },
                names = demanded(&sender, demands) => {
                    let (requests, refused) = session.demand(names, Instant::now());
                    metrics::counter!("weft_xds_demands_refused_total").increment(refused as u64);
                    requests
                }
                _ = expiry.tick() => {
                    let outcome = session.expire(Instant::now());
                    self.publish(session, outcome.changed, &mut saving);
                    outcome.requests
                }
                () = tokio::time::sleep_until(saving.at), if saving.since.is_some() => {
                    saving.since = None;
                    self.save(session).await;
                    Vec::new()
                }
            };
            if let Err(status) = send(&sender, requests) {
                break Err(status);
            }
        };
        if saving.since.is_some() {
            self.save(session).await;
        }
        result
    }

    /// Opens a stream and says what is wanted.
    async fn open(&self, address: &Endpoint, session: &mut Session) -> Result<Stream, tonic::Status> {
        let channel = address
            .clone()
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = self.dialer.connect(channel).await.map_err(tonic::Status::unavailable)?;
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        let mut opening = session.open();
        if let Some(first) = opening.first_mut() {
            first.node = Some(self.node.clone());
        }
        send(&sender, opening)?;
        let reports = load::run(channel.clone(), self.node.clone(), self.loads.clone());
        let reports = AbortOnDropHandle::new(tokio::spawn(reports));
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
        tracing::info!(address = %address.uri(), "connected to the control plane");
        metrics::gauge!("weft_xds_connected").set(1.0);
        Ok(Stream { sender, responses, _reports: reports })
    }

    fn receive(
        &self,
        session: &mut Session,
        response: DeltaDiscoveryResponse,
        saving: &mut Saving,
    ) -> Vec<DeltaDiscoveryRequest> {
        let bytes = prost::Message::encoded_len(&response);
        metrics::counter!("weft_xds_received_bytes_total").increment(bytes as u64);
        let outcome = session.receive(response);
        for (name, refusal) in &outcome.refused {
            metrics::counter!("weft_xds_rejected_total").increment(1);
            tracing::warn!(%name, %refusal, "resource refused; its predecessor stays");
        }
        self.publish(session, outcome.changed, saving);
        outcome.requests
    }

    fn publish(&self, session: &Session, changed: bool, saving: &mut Saving) {
        if !changed {
            return;
        }
        metrics::counter!("weft_xds_updates_total").increment(1);
        self.spec.send_replace(Arc::new(session.spec()));
        metrics::gauge!("weft_xds_unsaved").set(1.0);
        saving.note(Instant::now());
    }

    async fn save(&self, session: &Session) {
        let Some(cache) = self.cache.clone() else { return };
        let resources = session.saved();
        let saved = tokio::task::spawn_blocking(move || cache.save(resources)).await;
        match saved {
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot save the configuration; a restart would need the control plane");
            }
            _ => metrics::gauge!("weft_xds_unsaved").set(0.0),
        }
    }
}

/// An open stream.
struct Stream {
    sender: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    /// Load reports go beside it, as long as it is open.
    _reports: AbortOnDropHandle<()>,
}

/// When to save what changed.
#[derive(Debug)]
struct Saving {
    /// The first change that is not saved.
    since: Option<Instant>,
    at: Instant,
}

impl Default for Saving {
    fn default() -> Self {
        Self { since: None, at: Instant::now() }
    }
}

impl Saving {
    fn note(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        self.at = (now + SAVE_QUIET).min(since + SAVE_DELAY_MAX);
    }
}

/// What requests need next, once there is room to ask for it.
async fn demanded(
    sender: &mpsc::Sender<DeltaDiscoveryRequest>,
    demands: &mut mpsc::Receiver<String>,
) -> Vec<String> {
    let mut names = Vec::new();
    // A stream that has ended ends the conversation elsewhere.
    let room = sender.reserve().await.is_ok();
    if !room || demands.recv_many(&mut names, DEMANDS_MAX).await == 0 {
        return std::future::pending().await;
    }
    names
}

fn send(
    sender: &mpsc::Sender<DeltaDiscoveryRequest>,
    requests: Vec<DeltaDiscoveryRequest>,
) -> Result<(), tonic::Status> {
    for request in requests {
        let full = |_| tonic::Status::resource_exhausted("the control plane does not read our answers");
        sender.try_send(request).map_err(full)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
