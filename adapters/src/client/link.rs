//! The stream to one control plane: connect, say hello, resume or list, follow the log, watch the acks.
//!
//! ```text
//! connecting -> greeting -> following -> (broken: backoff) -> connecting
//! ```
//! Sequence numbers are the control plane's own: a listing has as many as it has objects, so this link keeps where its
//! numbers stand against the log's positions, and a resume is possible from the end of the last listing on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Endpoint;
use weft_proto::registry::v1 as proto;
use weft_proto::registry::v1::registry_client::RegistryClient;
use weft_proto::registry::v1::sync_request::Step as Request;
use weft_proto::registry::v1::sync_response::Step as Response;

use super::log::{Listing, Plan, Step};
use super::{Dial, Shared, lock};
use crate::description::{Condition, Description};
use crate::watch::Backoff;

/// Messages between this task and the socket; beyond it the control plane's own pace counts.
const OUTBOX_MAX: usize = 64;
/// Longest wait for a connection, and for the answer to Hello.
const GREETING_MAX: Duration = Duration::from_secs(10);
/// Longest wait for an ack, and for room to send: a control plane that takes longer is given up and tried anew.
const ACK_MAX: Duration = Duration::from_secs(30);

pub(super) struct Link {
    hello: proto::Hello,
    target: Endpoint,
    dial: Arc<dyn Dial>,
    name: String,
    shared: Arc<Shared>,
    head: watch::Receiver<u64>,
    /// What the control plane has if it has every message sent so far.
    place: Place,
}

/// Where the control plane's numbers stand against the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    /// Last sequence sent.
    sent: u64,
    /// The log position that `sent` brings it to; `None` before the first step.
    position: Option<u64>,
    /// The sequence that ended the last listing: a resume from before it is not possible.
    listed: u64,
}

impl Place {
    /// The place of a control plane that has applied everything up to `sequence`.
    fn resume(self, sequence: u64) -> Place {
        let position =
            self.position.filter(|_| sequence >= self.listed && sequence <= self.sent && sequence > 0);
        // Behind the listing every sequence is one position of the log.
        let position = position.and_then(|position| position.checked_sub(self.sent - sequence));
        Place { sent: sequence, position, listed: self.listed.min(sequence) }
    }
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("{} ({:?})", .0.message(), .0.code())]
    Status(Box<tonic::Status>),
    #[error("no connection within {} s", GREETING_MAX.as_secs())]
    Unconnected,
    #[error("the stream ended")]
    Ended,
    #[error("no answer to hello within {} s", GREETING_MAX.as_secs())]
    Silent,
    #[error("no ack within {} s", ACK_MAX.as_secs())]
    Unacked,
    #[error("the first answer was no welcome")]
    NoWelcome,
}

impl From<tonic::Status> for Broken {
    fn from(status: tonic::Status) -> Self {
        Broken::Status(Box::new(status))
    }
}

impl Link {
    pub(super) fn new(
        description: &Description,
        incarnation: &str,
        (target, dial): (Endpoint, Arc<dyn Dial>),
        shared: Arc<Shared>,
    ) -> Self {
        let hello = proto::Hello {
            source: description.source.clone(),
            platform: description.platform.to_owned(),
            cluster: description.cluster.clone(),
            region: description.region.clone(),
            incarnation: incarnation.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let head = shared.head.subscribe();
        let name = target.uri().to_string();
        Link { hello, target, dial, name, shared, head, place: Place::default() }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::usual();
        let mut told = String::new();
        loop {
            let broken = tokio::select! {
                broken = self.follow(&mut backoff) => broken,
                () = stop.cancelled() => return,
            };
            self.shared.metrics.connected(&self.name, false);
            let delay = backoff.failed(Instant::now(), &mut rand::rng());
            let reason = broken.to_string();
            // The same trouble again is not news.
            if reason != told {
                tracing::warn!(control_plane = %self.name, reason, "control plane out of reach; trying again");
                told = reason;
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn follow(&mut self, backoff: &mut Backoff) -> Broken {
        match self.greet().await {
            Ok((outbox, inbox)) => {
                backoff.succeeded(Instant::now());
                self.shared.metrics.connected(&self.name, true);
                tracing::info!(control_plane = %self.name, resume = self.place.position.is_some(), "connected");
                self.speak(outbox, inbox).await
            }
            Err(broken) => broken,
        }
    }

    async fn greet(
        &mut self,
    ) -> Result<(mpsc::Sender<proto::SyncRequest>, Streaming<proto::SyncResponse>), Broken> {
        let dialled = tokio::time::timeout(GREETING_MAX, self.dial.dial(self.target.clone())).await;
        let channel = dialled.map_err(|_| Broken::Unconnected)?.map_err(Broken::Connect)?;
        let greeting = async {
            let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
            let hello = proto::SyncRequest { sequence: 0, step: Some(Request::Hello(self.hello.clone())) };
            outbox.send(hello).await.map_err(|_| Broken::Ended)?;
            let mut client = RegistryClient::new(channel);
            let mut inbox = client.sync(ReceiverStream::new(messages)).await?.into_inner();
            match inbox.message().await?.and_then(|answer| answer.step) {
                Some(Response::Welcome(welcome)) => Ok((welcome.resume_after, outbox, inbox)),
                Some(_) => Err(Broken::NoWelcome),
                None => Err(Broken::Ended),
            }
        };
        let greeted = tokio::time::timeout(GREETING_MAX, greeting).await;
        let (resume_after, outbox, inbox) = greeted.map_err(|_| Broken::Silent)??;
        self.place = self.place.resume(resume_after);
        Ok((outbox, inbox))
    }

    async fn speak(
        &mut self,
        outbox: mpsc::Sender<proto::SyncRequest>,
        mut inbox: Streaming<proto::SyncResponse>,
    ) -> Broken {
        let mut acks = Acks::new(self.place.sent);
        loop {
            self.head.mark_unchanged();
            let plan = lock(&self.shared.log).plan(self.place.position);
            let messages = self.messages(plan);
            if messages.is_empty() {
                tokio::select! {
                    _ = self.head.changed() => {}
                    heard = hear(&mut inbox, &self.name) => match heard {
                        Ok(ack) => acks.acked(ack, Instant::now()),
                        Err(broken) => return broken,
                    },
                    () = overdue(acks.owed) => return Broken::Unacked,
                }
                continue;
            }
            for message in messages {
                let (sequence, wants_ack) = (message.sequence, wants_ack(&message, self.place.listed));
                let mut sending = Box::pin(outbox.send(message));
                loop {
                    tokio::select! {
                        sent = &mut sending => match sent { Ok(()) => break, Err(_) => return Broken::Ended },
                        heard = hear(&mut inbox, &self.name) => match heard {
                        Ok(ack) => acks.acked(ack, Instant::now()),
                        Err(broken) => return broken,
                    },
                        () = overdue(acks.owed) => return Broken::Unacked,
                    }
                }
                if wants_ack {
                    acks.sent(sequence, Instant::now());
                }
            }
        }
    }

    /// Turns a plan into messages and moves the place behind them.
    fn messages(&mut self, plan: Plan) -> Vec<proto::SyncRequest> {
        let mut requests = Vec::new();
        let mut next = self.place.sent;
        let mut add = |step: Request| {
            next += 1;
            requests.push(proto::SyncRequest { sequence: next, step: Some(step) });
        };
        match plan {
            Plan::Wait => {}
            Plan::Steps { steps, position } => {
                steps.into_iter().filter_map(Step::into_request).for_each(&mut add);
                self.place = Place { sent: next, position: Some(position), ..self.place };
            }
            Plan::Listing(Listing { epoch, items, doubt, condition, position }) => {
                add(Request::Begin(proto::Begin { epoch }));
                // A control plane that kept our facts while we were away still shows what was wrong then.
                items.iter().for_each(|item| add(Request::Upsert(item.to_upsert())));
                add(condition_request(condition));
                add(Request::End(proto::End { epoch, doubt }));
                self.place = Place { sent: next, position: Some(position), listed: next };
            }
        }
        requests
    }
}

impl Step {
    fn into_request(self) -> Option<Request> {
        match self {
            Step::Upsert(item) => Some(Request::Upsert(item.to_upsert())),
            Step::Remove(key) => Some(Request::Remove(key.to_remove())),
            Step::Condition(condition) => Some(condition_request(condition)),
            // The log answers it with a listing instead of steps.
            Step::Relist => None,
        }
    }
}

fn condition_request(condition: Condition) -> Request {
    use proto::source_condition::State;
    let (state, reason) = match condition {
        Condition::Live => (State::Live, String::new()),
        Condition::Stale(reason) => (State::Stale, reason),
    };
    Request::Condition(proto::SourceCondition { state: state.into(), reason })
}

/// Whether the control plane owes an ack that covers this message: conditions and the inside of a listing have none.
fn wants_ack(message: &proto::SyncRequest, listed: u64) -> bool {
    message.sequence >= listed
        && matches!(message.step, Some(Request::End(_) | Request::Upsert(_) | Request::Remove(_)))
}

/// Which acks are owed, and since when.
struct Acks {
    acked: u64,
    owed: Option<(u64, Instant)>,
}

impl Acks {
    fn new(acked: u64) -> Self {
        Acks { acked, owed: None }
    }

    fn sent(&mut self, sequence: u64, now: Instant) {
        // The oldest debt counts until it is paid; the newest sequence is what pays it.
        let since = self.owed.map_or(now, |(_, since)| since);
        self.owed = Some((sequence, since));
    }

    fn acked(&mut self, sequence: u64, now: Instant) {
        // Progress restarts the clock even while more is owed.
        if sequence > self.acked {
            self.acked = sequence;
            self.owed = self.owed.filter(|(owed, _)| *owed > sequence).map(|(owed, _)| (owed, now));
        }
    }
}

async fn overdue(owed: Option<(u64, Instant)>) {
    match owed {
        Some((_, since)) => tokio::time::sleep_until((since + ACK_MAX).into()).await,
        None => std::future::pending().await,
    }
}

/// Takes one answer and gives the sequence that it acks, 0 for none. Cancel safe: a message is taken whole or not at all.
async fn hear(inbox: &mut Streaming<proto::SyncResponse>, control_plane: &str) -> Result<u64, Broken> {
    match inbox.message().await?.ok_or(Broken::Ended)?.step {
        Some(Response::Ack(ack)) => return Ok(ack.sequence),
        Some(Response::Rejected(rejected)) => {
            tracing::warn!(
                control_plane,
                sequence = rejected.sequence,
                reason = rejected.reason,
                "object refused"
            );
        }
        // A later server may say more than we know.
        Some(Response::Welcome(_)) | None => {}
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: Place = Place { sent: 14, position: Some(7), listed: 10 };

    #[test]
    fn a_control_plane_that_missed_steps_resumes_where_it_stopped() {
        assert_eq!(LISTED.resume(12), Place { sent: 12, position: Some(5), listed: 10 });
        assert_eq!(LISTED.resume(14), LISTED);
    }

    #[test]
    fn a_control_plane_that_broke_inside_the_listing_gets_a_new_one() {
        assert_eq!(LISTED.resume(9).position, None);
    }

    #[test]
    fn a_control_plane_that_knows_nothing_or_too_much_gets_a_new_listing() {
        assert_eq!(LISTED.resume(0), Place::default());
        assert_eq!(LISTED.resume(99).position, None);
    }

    #[test]
    fn progress_on_acks_restarts_the_clock() {
        let (start, mut acks) = (Instant::now(), Acks::new(0));
        acks.sent(1, start);
        acks.sent(2, start);
        let later = start + Duration::from_secs(5);
        acks.acked(1, later);
        assert_eq!(acks.owed, Some((2, later)));
        acks.acked(2, later);
        assert_eq!(acks.owed, None);
    }
}
