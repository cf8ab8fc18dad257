//! Metrics of the process: one recorder, whose page the admin port serves.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// How often histograms are folded, so that they do not grow between scrapes.
pub const UPKEEP: Duration = Duration::from_secs(5);

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder once for the process; none when the program that embeds this one has its own.
pub fn install() -> Option<PrometheusHandle> {
    HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().ok()).clone()
}

/// Says what our metrics mean.
pub fn describe() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!("weft_source_services", "services that a source tells");
    describe_gauge!("weft_source_endpoints", "endpoints that a source tells");
    describe_gauge!("weft_source_held_endpoints", "endpoints whose removal is held back");
    describe_gauge!("weft_source_rejected_objects", "objects refused since the source connected");
    describe_gauge!(
        "weft_source_last_sync_seconds",
        "when the source last told something, seconds since 1970"
    );
    describe_gauge!("weft_source_state", "1 for the state that the source is in");
    describe_gauge!("weft_documents", "documents in force");
    describe_gauge!("weft_document_problems", "problems of documents with the mesh as it is");
    describe_gauge!("weft_config_revision", "newest configuration revision");
    describe_counter!(
        "weft_compile_recompiled_total",
        "services and route tables compiled anew, not taken over from the configuration before"
    );
    describe_counter!("weft_jwks_fetches_total", "fetches of keys of issuers of tokens, by outcome");
    describe_counter!("weft_registry_rejected_objects_total", "objects of sources that were refused");
    describe_counter!(
        "weft_registry_refused_streams_total",
        "streams of adapters refused because too many were open"
    );
    describe_counter!(
        "weft_registry_stalled_streams_total",
        "streams of adapters given up because the adapter did not read its answers"
    );
    describe_counter!("weft_registry_save_failures_total", "failed writes of the last known registry");
}
