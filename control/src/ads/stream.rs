//! One discovery stream: reads requests, watches worlds, sends what the session says.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::{Stream, StreamExt, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout},
};
use tonic::{Status, Streaming};
use weft_proto::admin::v1::{ProxyStatus, Rejection};

use super::{
    ADMISSION_TIMEOUT, AdsServer, HELLO_TIMEOUT, STREAMS_MAX, Stage, World,
    session::{Protocol, Request, Response, Session},
    tracker::{Progress, Registration},
    watchdog::Watchdog,
    wire::{Client, Form},
};
use crate::{
    identity::access::Caller,
    peer::PeerInfo,
    resource::{Asked, Kind},
};

/// Revisions of which one stream remembers when they were published, for the convergence metric.
const PUBLISHED_MAX: usize = 64;

/// What tonic sends.
pub(super) type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl AdsServer {
    /// The responses to a stream of requests; ends with it.
    pub(super) fn serve<F: Form>(
        &self,
        request: tonic::Request<Streaming<F::Request>>,
    ) -> Responses<F::Response> {
        let door = Door {
            worlds: self.worlds.clone(),
            tracker: self.tracker.clone(),
            places: self.places.clone(),
            admissions: self.admissions.clone(),
            peer: request.extensions().get().cloned(),
        };
        let requests = request.into_inner();
        let running = stream::once(door.open::<F>(requests)).flat_map(|opened| match opened {
            Ok(opened) => opened.run().boxed(),
            Err(status) => {
                metrics::counter!("weft_xds_refused_streams_total", "reason" => reason(&status)).increment(1);
                stream::iter([Err(status)]).boxed()
            }
        });
        Box::pin(running)
    }
}

/// A stream that has not said yet who it is.
struct Door {
    worlds: watch::Receiver<Stage>,
    tracker: super::Tracker,
    places: Arc<Semaphore>,
    admissions: Arc<Semaphore>,
    peer: Option<PeerInfo>,
}

impl Door {
    /// Learns who the client is, waits for a world and for its turn.
    async fn open<F: Form>(mut self, mut requests: Streaming<F::Request>) -> Result<Open<F>, Status> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{STREAMS_MAX} discovery streams are open already"))
        })?;
        let mut first = timeout(HELLO_TIMEOUT, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no discovery request came"))??
            .ok_or_else(|| Status::cancelled("the stream ended before its first request"))?;
        let node = F::node(&mut first).filter(|node| !node.id.is_empty()).ok_or_else(|| {
            Status::invalid_argument("node.id: missing in the first discovery request; set it")
        })?;
        let mut client = Client::read(node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let caller = self.peer.as_ref().map_or(&Caller::Unproven, |peer| &peer.caller);
        caller.claim(&mut client.metadata)?;
        let admission = self.admissions.clone().acquire_owned().await.map_err(|_| stopped())?;
        let stage = self.worlds.wait_for(|stage| !matches!(stage, Stage::Starting)).await;
        let Stage::Serving(world, published) = stage.map_err(|_| stopped())?.clone() else {
            return Err(stopped());
        };
        self.worlds.mark_unchanged();
        let set = world.resources(&client.metadata, &Asked::default());
        let session = Session::new(F::PROTOCOL, set, world.revision()).accompanied(client.metadata.on_demand);
        let mut registration = self.tracker.register(self.describe(&client, F::PROTOCOL));
        registration.update(Progress::default());
        tracing::info!(proxy = %client.id, kind = client.kind, peer = self.address(), "proxy connected");
        let watchdog = Watchdog::start(&client.id, self.peer);
        let mut open = Open {
            requests,
            worlds: self.worlds,
            session,
            registration,
            watchdog,
            client,
            ready: VecDeque::new(),
            published: VecDeque::from([(world.revision(), published.max(Instant::now()))]),
            admission: Some((admission, Instant::now() + ADMISSION_TIMEOUT)),
            _place: place,
        };
        open.hear(first)?;
        Ok(open)
    }

    fn address(&self) -> String {
        let address = self.peer.as_ref().and_then(|peer| peer.address);
        address.map(|address| address.to_string()).unwrap_or_default()
    }

    fn describe(&self, client: &Client, protocol: Protocol) -> ProxyStatus {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        ProxyStatus {
            id: client.id.clone(),
            workload: client.metadata.workload.clone(),
            kind: client.kind.to_owned(),
            version: client.version.clone(),
            connected_at_seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            peer: self.address(),
            protocol: match protocol {
                Protocol::Delta => "delta",
                Protocol::Sotw => "sotw",
            }
            .to_owned(),
            ..ProxyStatus::default()
        }
    }
}

/// A stream in service.
struct Open<F: Form> {
    requests: Streaming<F::Request>,
    worlds: watch::Receiver<Stage>,
    session: Session,
    registration: Registration,
    watchdog: Watchdog,
    client: Client,
    /// Responses to send: one of each type at most.
    ready: VecDeque<Response>,
    /// Revisions sent and not acknowledged, with the time of their publication.
    published: VecDeque<(u64, Instant)>,
    /// Held until the first synchronisation is done, or for its time limit.
    admission: Option<(OwnedSemaphorePermit, Instant)>,
    /// Held as long as the stream is open.
    _place: OwnedSemaphorePermit,
}

impl<F: Form> Open<F> {
    fn run(self) -> impl Stream<Item = Result<F::Response, Status>> + Send {
        // After an error the state is gone, so that the stream ends.
        stream::unfold(Some(self), async |open| {
            let mut open = open?;
            match open.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(open))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    /// The next response; `None` when the client is done.
    async fn next(&mut self) -> Result<Option<F::Response>, Status> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Ok(Some(F::write(response)));
            }
            let expiry = self.admission.as_ref().map(|(_, expiry)| *expiry);
            tokio::select! {
                request = self.requests.message() => match request? {
                    Some(request) => self.hear(request)?,
                    None => return Ok(None),
                },
                changed = self.worlds.changed() => {
                    changed.map_err(|_| stopped())?;
                    let stage = self.worlds.borrow_and_update().clone();
                    match stage {
                        Stage::Starting => {}
                        Stage::Serving(world, at) => self.see(&*world, at),
                        Stage::Stopped => return Err(stopped()),
                    }
                }
                () = expired(expiry) => self.admission = None,
            }
        }
    }

    fn hear(&mut self, request: F::Request) -> Result<(), Status> {
        let Some(kind) = Kind::from_type_url(F::type_url(&request)) else {
            // A type that we do not serve: its client goes on without.
            tracing::debug!(proxy = %self.client.id, type_url = F::type_url(&request), "unknown type asked for");
            return Ok(());
        };
        let request: Request = F::read(kind, request);
        if let Some(message) = &request.error {
            metrics::counter!("weft_xds_rejections_total", "type" => label(kind)).increment(1);
            tracing::warn!(proxy = %self.client.id, kind = label(kind), message, "proxy refused a push");
        }
        let asks_anew =
            self.session.take(request).map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let world = match &*self.worlds.borrow() {
            Stage::Serving(world, _) if asks_anew => Some(world.clone()),
            _ => None,
        };
        let responses = match world {
            Some(world) => {
                let set = world.resources(&self.client.metadata, self.session.asked());
                self.session.handle_world(set, world.revision())
            }
            None => self.session.advance(),
        };
        self.queue(responses);
        self.watchdog.note(self.session.owes_answer(), true);
        self.note_convergence();
        Ok(())
    }

    fn see(&mut self, world: &dyn World, published: Instant) {
        let set = world.resources(&self.client.metadata, self.session.asked());
        let responses = self.session.handle_world(set, world.revision());
        let concerned = self.session.acked_revision() < world.revision();
        if concerned && self.published.len() < PUBLISHED_MAX {
            self.published.push_back((world.revision(), published));
        }
        self.queue(responses);
        self.watchdog.note(self.session.owes_answer(), false);
    }

    fn queue(&mut self, responses: Vec<Response>) {
        for response in &responses {
            let bytes: usize = response.resources.iter().map(|resource| resource.bytes.len()).sum();
            metrics::counter!("weft_xds_pushes_total", "type" => label(response.kind)).increment(1);
            metrics::counter!("weft_xds_push_bytes_total").increment(bytes as u64);
        }
        self.ready.extend(responses);
        let settled = self.session.is_settled();
        if settled {
            self.admission = None;
        }
        let rejection = |(kind, refusal): (Kind, super::session::Refusal)| Rejection {
            type_url: kind.type_url().to_owned(),
            message: refusal.message.to_string(),
            documents: refusal.documents.iter().map(ToString::to_string).collect(),
        };
        self.registration.update(Progress {
            settled,
            acked_revision: self.session.acked_revision(),
            rejections: self.session.refusals().map(rejection).collect(),
        });
    }

    fn note_convergence(&mut self) {
        let acked = self.session.acked_revision();
        while let Some((_, published)) = self.published.pop_front_if(|(revision, _)| *revision <= acked) {
            metrics::histogram!("weft_xds_convergence_seconds").record(published.elapsed().as_secs_f64());
        }
    }
}

async fn expired(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn stopped() -> Status {
    Status::unavailable("the control plane is stopping; connect again")
}

fn reason(status: &Status) -> &'static str {
    status.code().description()
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "cluster",
        Kind::Endpoints => "endpoints",
        Kind::Secret => "secret",
        Kind::Listener => "listener",
        Kind::Routes => "routes",
        Kind::VirtualHost => "virtual_host",
        Kind::Names => "names",
    }
}
