//! `weft.registry.v1.Registry`: streams of sources into the registry. One stream carries one source; every answer goes
//! through a bounded queue, so a peer that does not read is not read from.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::sync::{
    Semaphore,
    mpsc::{self, error::SendTimeoutError},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Request, Response, Status, Streaming};
use weft_proto::registry::v1::{self as wire, registry_server, sync_request, sync_response};

use super::{
    Registry, SOURCES_MAX, Session, SessionError,
    fact::{self, BadFact, Object},
    source::{Step, StepError},
};
use crate::{
    identity::access::Caller,
    peer::{PeerInfo, STALL_TIMEOUT},
};

/// Bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Answers that wait for a peer to read them; what does not fit stops the reading.
const ANSWERS_MAX: usize = 64;
/// Streams at once: one for each source, and as many that take over from a stream that is not known to be dead yet.
pub const STREAMS_MAX: usize = 2 * SOURCES_MAX;
/// Time for the first message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The service.
pub struct RegistryService {
    registry: Arc<Registry>,
    stop: CancellationToken,
    streams: TaskTracker,
    places: Arc<Semaphore>,
}

type Answer = Result<wire::SyncResponse, Status>;

impl RegistryService {
    /// The tonic service, with its limits. Streams end when `stop` is cancelled, and `streams` waits for them.
    pub fn server(
        registry: Arc<Registry>,
        stop: CancellationToken,
        streams: TaskTracker,
    ) -> registry_server::RegistryServer<Self> {
        let places = Arc::new(Semaphore::new(STREAMS_MAX));
        registry_server::RegistryServer::new(Self { registry, stop, streams, places })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl registry_server::Registry for RegistryService {
    type SyncStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<wire::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            metrics::counter!("weft_registry_refused_streams_total").increment(1);
            Status::resource_exhausted(format!("{STREAMS_MAX} streams are open already"))
        })?;
        let peer = request.extensions().get::<PeerInfo>().cloned();
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let registry = self.registry.clone();
        let stop = self.stop.clone();
        let mut requests = request.into_inner();
        self.streams.spawn(async move {
            let caller = peer.as_ref().map_or(&Caller::Unproven, |peer| &peer.caller);
            let story = tokio::select! {
                end = tell(&registry, caller, &mut requests, &answers) => end,
                () = stop.cancelled() => Err(Status::unavailable("the control plane is stopping")),
            };
            drop(place);
            if let Err(status) = story {
                if status.code() == Code::DeadlineExceeded
                    && let Some(peer) = peer
                {
                    // It reads nothing, so it would not hear.
                    peer.cut();
                }
                // The peer may be gone already; then nobody is left to tell.
                let _ = answers.try_send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// One stream from Hello to its end.
async fn tell(
    registry: &Arc<Registry>,
    caller: &Caller,
    requests: &mut Streaming<wire::SyncRequest>,
    answers: &mpsc::Sender<Answer>,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, requests.next())
        .await
        .map_err(|_| Status::deadline_exceeded("no Hello came within 10 seconds"))?;
    let Some(first) = first.transpose()? else { return Ok(()) };
    let Some(sync_request::Step::Hello(hello)) = first.step else {
        return Err(Status::failed_precondition("the first step must be Hello"));
    };
    caller.speak_for(&hello.source)?;
    let speaker = fact::speaker(&hello).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let (session, resume_after) = registry
        .connect(speaker, &hello.incarnation)
        .map_err(|error| Status::resource_exhausted(error.to_string()))?;
    tracing::info!(source = %hello.source, platform = %hello.platform, resume_after, "source connected");
    send(answers, sync_response::Step::Welcome(wire::Welcome { resume_after })).await?;
    loop {
        let next = tokio::select! {
            next = requests.next() => next,
            () = session.superseded.cancelled() => return Err(superseded()),
        };
        let Some(request) = next.transpose()? else { return Ok(()) };
        for answer in answer(&session, &hello, request)? {
            send(answers, answer).await?;
        }
    }
}

async fn send(answers: &mpsc::Sender<Answer>, step: sync_response::Step) -> Result<(), Status> {
    let answer = wire::SyncResponse { step: Some(step) };
    match answers.send_timeout(Ok(answer), STALL_TIMEOUT).await {
        Ok(()) => Ok(()),
        Err(SendTimeoutError::Closed(_)) => Err(Status::cancelled("the adapter went away")),
        Err(SendTimeoutError::Timeout(_)) => {
            metrics::counter!("weft_registry_stalled_streams_total").increment(1);
            Err(Status::deadline_exceeded("the adapter does not read its answers"))
        }
    }
}

/// What to answer to one step.
fn answer(
    session: &Session,
    hello: &wire::Hello,
    request: wire::SyncRequest,
) -> Result<Vec<sync_response::Step>, Status> {
    let sequence = request.sequence;
    let refused = match checked(hello, request)? {
        Ok(step) => match take(session, sequence, step) {
            Ok(answers) => return Ok(answers),
            Err(SessionError::Step(StepError::TooMany)) => {
                return Ok(vec![rejected(sequence, StepError::TooMany.to_string())]);
            }
            Err(error) => return Err(status_of(&error)),
        },
        Err(refused) => refused,
    };
    metrics::counter!("weft_registry_rejected_objects_total").increment(1);
    tracing::warn!(source = %hello.source, sequence, %refused, "object refused");
    let reason = refused.to_string();
    let ack = session.refuse(sequence, refused.replaces).map_err(|error| status_of(&error))?;
    Ok([rejected(sequence, reason)].into_iter().chain(ack.map(ack_of)).collect())
}

/// Takes a step. A document that cannot be read is kept as text, so that its good predecessor stays in force and the
/// status can show it; the adapter hears of it like of any refused object.
fn take(session: &Session, sequence: u64, step: Step) -> Result<Vec<sync_response::Step>, SessionError> {
    let complaint = match &step {
        Step::Upsert(object) => match &**object {
            Object::Document(document) => document.complaint.clone(),
            Object::Service(_) | Object::Endpoint(_) => None,
        },
        Step::Begin(_) | Step::Remove(_) | Step::End(..) | Step::Condition(..) => None,
    };
    let ack = session.step(sequence, step)?;
    let complaint = complaint.map(|complaint| rejected(sequence, complaint.to_string()));
    Ok(complaint.into_iter().chain(ack.map(ack_of)).collect())
}

/// The step in checked form. The outer error ends the stream, the inner one refuses the object.
fn checked(hello: &wire::Hello, request: wire::SyncRequest) -> Result<Result<Step, BadFact>, Status> {
    let speaker = fact::speaker(hello).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(match request.step {
        Some(sync_request::Step::Hello(_)) => {
            return Err(Status::failed_precondition("Hello came twice; open a new stream"));
        }
        Some(sync_request::Step::Begin(begin)) => Ok(Step::Begin(begin.epoch)),
        Some(sync_request::Step::End(end)) => Ok(Step::End(end.epoch, end.doubt)),
        Some(sync_request::Step::Condition(condition)) => {
            let stale = condition.state() == wire::source_condition::State::Stale;
            Ok(Step::Condition(stale, condition.reason.chars().take(fact::TEXT_BYTES_MAX).collect()))
        }
        Some(sync_request::Step::Upsert(upsert)) => {
            fact::upsert(&speaker, upsert).map(|object| Step::Upsert(Box::new(object)))
        }
        Some(sync_request::Step::Remove(remove)) => fact::remove(&speaker, remove).map(Step::Remove),
        None => Err(BadFact {
            object: "step".to_owned(),
            problem: "this version does not know it".to_owned(),
            replaces: None,
        }),
    })
}

fn ack_of(sequence: u64) -> sync_response::Step {
    sync_response::Step::Ack(wire::Ack { sequence })
}

fn rejected(sequence: u64, reason: String) -> sync_response::Step {
    sync_response::Step::Rejected(wire::Rejected { sequence, reason })
}

fn superseded() -> Status {
    Status::aborted(SessionError::Superseded.to_string())
}

fn status_of(error: &SessionError) -> Status {
    match error {
        SessionError::Superseded => superseded(),
        SessionError::Step(error) => Status::failed_precondition(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_adapter_that_does_not_read_its_answers_is_given_up() {
        let (answers, receiver) = mpsc::channel(1);
        send(&answers, ack_of(1)).await.unwrap();
        assert_eq!(send(&answers, ack_of(2)).await.unwrap_err().code(), Code::DeadlineExceeded);
        drop(receiver);
        assert_eq!(send(&answers, ack_of(3)).await.unwrap_err().code(), Code::Cancelled);
    }
}
