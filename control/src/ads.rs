//! The xDS server: each stream drives its own `session::Session` from the client's requests and the published worlds.
//!
//! A stream has no queue of its own: it is the response body, which the HTTP/2 connection polls when the peer has room. A
//! slow client therefore holds one unsent response of each type at most, and sees only the newest world when it comes
//! back. One that answers nothing for [`ANSWER_TIMEOUT`] loses its connection; dead peers are found by the server's HTTP/2
//! keepalive (`app/port`).

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use weft_proto::node::NodeMetadata;

use crate::resource::{Asked, ResourceSet};

mod service;
pub(crate) mod session;
mod stream;
#[cfg(test)]
mod tests;
mod tracker;
mod watchdog;
mod wire;

pub use session::{NAMES_MAX, RESPONSE_BYTES_MAX};
pub use tracker::Tracker;

/// Largest request, in bytes: a subscription to some 50,000 names.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Discovery streams at once; more are refused.
pub const STREAMS_MAX: usize = 16_384;

/// Streams that may be in their first synchronisation at once; the others of a reconnect storm wait their turn.
pub const ADMISSIONS_MAX: usize = 64;

/// How long one stream may hold its admission.
pub const ADMISSION_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a client may leave responses without an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a new stream may take to say who it is.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(15);

/// One revision of everything that proxies are to run.
pub trait World: Send + Sync + 'static {
    /// Rises with each change.
    fn revision(&self) -> u64;
    /// What a proxy may ask for, given what it already names. The same `Arc` as for an earlier revision says that nothing
    /// changed for it.
    fn resources(&self, node: &NodeMetadata, asked: &Asked) -> Arc<ResourceSet>;
}

/// Hands worlds to every stream; the latest wins. Cloning shares it.
#[derive(Clone)]
pub struct Publisher {
    worlds: Arc<watch::Sender<Stage>>,
    tracker: Tracker,
}

/// What streams serve.
#[derive(Clone)]
enum Stage {
    /// Nothing is compiled yet. Streams wait: a proxy that keeps what it has is better off than one told "nothing".
    Starting,
    /// The newest world, and since when.
    Serving(Arc<dyn World>, Instant),
    /// The process stops; streams end, and clients go elsewhere.
    Stopped,
}

impl Publisher {
    /// A publisher with nothing published.
    pub fn new(tracker: Tracker) -> Self {
        Self { worlds: Arc::new(watch::Sender::new(Stage::Starting)), tracker }
    }

    /// Replaces the world that proxies run.
    pub fn publish(&self, world: Arc<dyn World>) {
        self.tracker.set_revision(world.revision());
        self.worlds.send_replace(Stage::Serving(world, Instant::now()));
    }

    /// Ends every stream, now and later.
    pub fn stop(&self) {
        self.worlds.send_replace(Stage::Stopped);
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

/// Aggregated discovery, delta and state of the world, as a service of a tonic server. Cloning shares its limits.
#[derive(Clone)]
pub struct AdsServer {
    worlds: watch::Receiver<Stage>,
    tracker: Tracker,
    places: Arc<Semaphore>,
    admissions: Arc<Semaphore>,
}

impl AdsServer {
    /// A server of what `publisher` publishes; its tracker learns how far each proxy is.
    pub fn new(publisher: &Publisher) -> Self {
        describe_metrics();
        Self {
            worlds: publisher.worlds.subscribe(),
            tracker: publisher.tracker.clone(),
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
            admissions: Arc::new(Semaphore::new(ADMISSIONS_MAX)),
        }
    }
}

impl fmt::Debug for AdsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdsServer").finish_non_exhaustive()
    }
}

fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("weft_xds_connected_proxies", "Proxies with an open discovery stream.");
    describe_counter!("weft_xds_pushes_total", "Discovery responses sent, by type.");
    describe_counter!("weft_xds_rejections_total", "Discovery responses that a proxy refused, by type.");
    describe_counter!("weft_xds_push_bytes_total", Unit::Bytes, "Encoded resources sent.");
    describe_counter!("weft_xds_refused_streams_total", "Streams refused or ended for bad input, by reason.");
    describe_counter!(
        "weft_xds_refused_connections_total",
        "Connections refused because too many were open."
    );
    describe_counter!(
        "weft_xds_stalled_total",
        "Connections and streams given up because the peer took nothing."
    );
    describe_histogram!(
        "weft_xds_convergence_seconds",
        Unit::Seconds,
        "From publishing a revision to its acknowledgement by one proxy."
    );
}
