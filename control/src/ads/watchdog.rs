//! Ends the connection of a client that leaves responses without an answer: it does not read, or it is stuck. A task of its
//! own, because a stream that waits for its peer to read is not asked for anything more.

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::ANSWER_TIMEOUT;
use crate::peer::PeerInfo;

/// What the watchdog of one stream knows; it ends with this.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// Since when the client owes an answer.
    waiting: watch::Sender<Option<Instant>>,
}

impl Watchdog {
    /// Starts to watch a stream of `proxy`. Without a peer to cut there is nothing to do.
    pub(super) fn start(proxy: &str, peer: Option<PeerInfo>) -> Self {
        let (waiting, receiver) = watch::channel(None);
        if let Some(peer) = peer {
            tokio::spawn(guard(receiver, proxy.to_owned(), peer));
        }
        Self { waiting }
    }

    /// Something was sent or answered; tells whether the client still owes an answer. The time runs from the first of
    /// several responses, and anew with each answer.
    pub(super) fn note(&self, owes: bool, answered: bool) {
        self.waiting.send_if_modified(|waiting| {
            let next = match (owes, *waiting) {
                (false, _) => None,
                (true, Some(since)) if !answered => Some(since),
                (true, _) => Some(Instant::now()),
            };
            std::mem::replace(waiting, next) != next
        });
    }
}

async fn guard(mut waiting: watch::Receiver<Option<Instant>>, proxy: String, peer: PeerInfo) {
    loop {
        let Ok(since) = waiting.wait_for(Option::is_some).await.map(|since| *since) else { return };
        let deadline = since.unwrap_or_else(Instant::now) + ANSWER_TIMEOUT;
        match timeout_at(deadline, waiting.wait_for(|now| *now != since)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                metrics::counter!("weft_xds_stalled_total", "what" => "stream").increment(1);
                tracing::warn!(proxy, peer = ?peer.address, "proxy answers nothing; connection closed");
                peer.cut();
                return;
            }
        }
    }
}
