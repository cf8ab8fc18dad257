//! A control plane as an adapter sees it: takes steps, keeps what they say, and can be told to misbehave.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_proto::registry::v1::registry_server::{Registry, RegistryServer};
use weft_proto::registry::v1::{self as proto, remove, sync_request::Step, sync_response, upsert};

/// Longest that a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a control plane has been told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    pub endpoints: BTreeMap<String, proto::Endpoint>,
    pub services: Vec<String>,
    pub documents: usize,
    /// Every `End`, with its doubt.
    pub listings: Vec<String>,
    pub stale: Option<String>,
    pub applied: u64,
    pub incarnation: String,
    /// Upserts received in all, to see that nothing is told twice.
    pub upserts: usize,
    pub connections: usize,
    listing: Option<Vec<upsert::Object>>,
}

#[derive(Clone)]
pub struct ControlPlane {
    pub address: SocketAddr,
    known: Arc<watch::Sender<Known>>,
    /// Cancelled to break the streams of the moment.
    breaker: Arc<Mutex<CancellationToken>>,
    /// Whether acks are sent.
    acks: Arc<watch::Sender<bool>>,
}

impl ControlPlane {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plane = ControlPlane {
            address: listener.local_addr().unwrap(),
            known: Arc::new(watch::Sender::new(Known::default())),
            breaker: Arc::default(),
            acks: Arc::new(watch::Sender::new(true)),
        };
        let server = tonic::transport::Server::builder().add_service(RegistryServer::new(plane.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        plane
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until what is known is as it should be.
    #[track_caller]
    pub fn until(&self, what: &str, wanted: impl FnMut(&Known) -> bool) -> impl Future<Output = Known> {
        let (mut known, what) = (self.known.subscribe(), what.to_owned());
        async move {
            let arrived = tokio::time::timeout(PATIENCE, known.wait_for(wanted))
                .await
                .map(|known| known.expect("the control plane lives as long as the test").clone());
            arrived.unwrap_or_else(|_| panic!("never {what}: {:?}", *known.borrow()))
        }
    }

    pub fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// Forgets everything, as a control plane whose disk is lost.
    pub fn forget(&self) {
        self.known.send_replace(Known::default());
    }

    /// Ends every stream of the moment.
    pub fn break_streams(&self) {
        std::mem::take(&mut *self.breaker.lock().unwrap()).cancel();
    }

    pub fn send_acks(&self, send: bool) {
        self.acks.send_replace(send);
    }
}

#[tonic::async_trait]
impl Registry for ControlPlane {
    type SyncStream = ReceiverStream<Result<proto::SyncResponse, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<proto::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let (answers, stream) = mpsc::channel(16);
        let plane = self.clone();
        let broken = self.breaker.lock().unwrap().clone();
        tokio::spawn(async move {
            let mut steps = request.into_inner();
            loop {
                let step = tokio::select! {
                    step = steps.message() => step,
                    () = broken.cancelled() => return,
                };
                let Ok(Some(step)) = step else { return };
                let mut answer = None;
                plane.known.send_modify(|known| answer = known.apply(step));
                let answer = answer.filter(|answer| {
                    *plane.acks.borrow() || matches!(answer, sync_response::Step::Welcome(_))
                });
                if let Some(step) = answer
                    && answers.send(Ok(proto::SyncResponse { step: Some(step) })).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Known {
    fn apply(&mut self, request: proto::SyncRequest) -> Option<sync_response::Step> {
        let step = request.step.expect("a step");
        if let Step::Hello(hello) = step {
            self.connections += 1;
            self.listing = None;
            if self.incarnation != hello.incarnation {
                *self = Known {
                    incarnation: hello.incarnation,
                    connections: self.connections,
                    ..Known::default()
                };
            }
            return Some(sync_response::Step::Welcome(proto::Welcome { resume_after: self.applied }));
        }
        let mut ack = false;
        match step {
            Step::Hello(_) => {}
            Step::Begin(_) => self.listing = Some(Vec::new()),
            Step::Upsert(upsert) => {
                self.upserts += 1;
                let object = upsert.object.expect("an object");
                match &mut self.listing {
                    Some(listing) => listing.push(object),
                    None => {
                        ack = true;
                        self.keep(object);
                    }
                }
            }
            Step::Remove(removed) => {
                ack = true;
                match removed.object.expect("an object") {
                    remove::Object::Endpoint(id) => drop(self.endpoints.remove(&id)),
                    remove::Object::Service(key) => self.services.retain(|name| *name != key.name),
                    remove::Object::Document(_) => self.documents -= 1,
                }
            }
            Step::End(end) => {
                ack = true;
                self.listings.push(end.doubt);
                (self.endpoints, self.services, self.documents) = Default::default();
                for object in self.listing.take().expect("a listing began") {
                    self.keep(object);
                }
            }
            Step::Condition(condition) => {
                let stale = condition.state() == proto::source_condition::State::Stale;
                self.stale = stale.then_some(condition.reason);
            }
        }
        if self.listing.is_none() {
            assert!(request.sequence > self.applied, "sequences rise");
            self.applied = request.sequence;
        }
        ack.then_some(sync_response::Step::Ack(proto::Ack { sequence: request.sequence }))
    }

    fn keep(&mut self, object: upsert::Object) {
        match object {
            upsert::Object::Endpoint(endpoint) => drop(self.endpoints.insert(endpoint.id.clone(), endpoint)),
            upsert::Object::Service(service) => {
                let name = service.key.expect("a key").name;
                if !self.services.contains(&name) {
                    self.services.push(name);
                }
            }
            upsert::Object::Document(_) => self.documents += 1,
        }
    }
}
