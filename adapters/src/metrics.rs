//! What an adapter counts about itself: `weft_adapter_*`, each with the label `source`.

use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::client::log::Counts;

/// The counters of one source. Cheap to clone; handles are resolved once.
#[derive(Clone)]
pub struct Metrics {
    source: String,
    sync_age: Gauge,
    reads: Counter,
    errors: Counter,
    services: Gauge,
    endpoints: Gauge,
    documents: Gauge,
}

impl Metrics {
    /// The counters of `source`, described to whatever recorder is installed.
    pub fn new(source: &str) -> Self {
        describe_gauge!("weft_adapter_sync_age_seconds", "time since the platform last answered well");
        describe_counter!("weft_adapter_reads_total", "answers that the platform gave");
        describe_counter!("weft_adapter_errors_total", "questions that the platform did not answer well");
        describe_gauge!("weft_adapter_services", "services that the source knows");
        describe_gauge!("weft_adapter_endpoints", "endpoints that the source knows");
        describe_gauge!("weft_adapter_documents", "documents that the source knows");
        describe_gauge!("weft_adapter_connected", "1 while the control plane is connected");
        Metrics {
            source: source.to_owned(),
            sync_age: gauge!("weft_adapter_sync_age_seconds", "source" => source.to_owned()),
            reads: counter!("weft_adapter_reads_total", "source" => source.to_owned()),
            errors: counter!("weft_adapter_errors_total", "source" => source.to_owned()),
            services: gauge!("weft_adapter_services", "source" => source.to_owned()),
            endpoints: gauge!("weft_adapter_endpoints", "source" => source.to_owned()),
            documents: gauge!("weft_adapter_documents", "source" => source.to_owned()),
        }
    }

    /// The platform answered.
    pub fn read(&self) {
        self.reads.increment(1);
    }

    /// The platform did not answer, or not well.
    pub fn error(&self) {
        self.errors.increment(1);
    }

    pub(crate) fn age(&self, age: Duration) {
        self.sync_age.set(age.as_secs_f64());
    }

    pub(crate) fn counts(&self, counts: Counts) {
        self.services.set(counts.services as f64);
        self.endpoints.set(counts.endpoints as f64);
        self.documents.set(counts.documents as f64);
    }

    /// Connections change rarely, so this handle is looked up.
    pub(crate) fn connected(&self, control_plane: &str, connected: bool) {
        let labels = [("source", self.source.clone()), ("control_plane", control_plane.to_owned())];
        gauge!("weft_adapter_connected", &labels).set(f64::from(u8::from(connected)));
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("source", &self.source).finish_non_exhaustive()
    }
}
