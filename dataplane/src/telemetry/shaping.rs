//! Counts of what shapes requests: faults made on purpose, and copies for other clusters.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The counts of the process.
#[derive(Debug, Default)]
pub struct Shaping {
    /// Requests that are held up on purpose, now.
    pub faults: AtomicU32,
    /// Faults that were left out because as many as allowed lasted already.
    pub faults_skipped: AtomicU64,
    /// Requests copied to another cluster.
    pub mirrored: AtomicU64,
    /// Copies that were not made because a limit was reached: of copies under way, or of their cluster.
    pub mirrors_refused: AtomicU64,
    /// Copies that were given up: no endpoint, no answer in time, or a body that could not be taken in.
    pub mirrors_broken: AtomicU64,
}

impl Shaping {
    /// Writes them in Prometheus' text format.
    pub fn render(&self, out: &mut String) {
        let of = |name, kind, value: u64| format!("# TYPE {name} {kind}\n{name} {value}\n");
        out.push_str(&of("weft_injected_faults_active", "gauge", self.faults.load(Relaxed).into()));
        for (name, counter) in [
            ("weft_injected_faults_skipped_total", &self.faults_skipped),
            ("weft_mirrored_requests_total", &self.mirrored),
            ("weft_mirrored_requests_refused_total", &self.mirrors_refused),
            ("weft_mirrored_requests_broken_total", &self.mirrors_broken),
        ] {
            out.push_str(&of(name, "counter", counter.load(Relaxed)));
        }
    }
}
