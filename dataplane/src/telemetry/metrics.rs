//! Istio's standard traffic metrics, as plain atomics: one set of series per worker, so that counting a request never
//! touches a cache line of another core; a scrape adds them up.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Envoy's buckets for durations in milliseconds and sizes in bytes.
pub const BUCKETS: [u64; 19] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
    3_600_000, 36_000_000,
];

/// Most series of one worker; what comes after is counted together, so that no peer can fill memory with names.
pub const SERIES_MAX: usize = 20_000;

/// A histogram over [`BUCKETS`].
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one value.
    pub fn observe(&self, value: u64) {
        let bucket = BUCKETS.partition_point(|&bound| bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }
}

/// The series of one set of labels.
#[derive(Debug, Default)]
pub struct Series {
    /// `istio_requests_total`.
    pub requests: AtomicU64,
    /// `istio_request_duration_milliseconds`; kept in microseconds' sum would overflow nothing, but Istio's unit is ms.
    pub duration_ms: Histogram,
    /// `istio_request_bytes`.
    pub request_bytes: Histogram,
    /// `istio_response_bytes`.
    pub response_bytes: Histogram,
    /// `istio_tcp_connections_opened_total`.
    pub tcp_opened: AtomicU64,
    /// `istio_tcp_connections_closed_total`.
    pub tcp_closed: AtomicU64,
    /// `istio_tcp_received_bytes_total`.
    pub tcp_received: AtomicU64,
    /// `istio_tcp_sent_bytes_total`.
    pub tcp_sent: AtomicU64,
}

/// The traffic series of every worker.
#[derive(Debug, Default)]
pub struct Traffic {
    workers: Mutex<Vec<Arc<WorkerTraffic>>>,
}

/// The traffic series of one worker; the lock is taken when a label set is new and by a scrape, never per request.
#[derive(Debug, Default)]
pub struct WorkerTraffic {
    series: Mutex<HashMap<String, Arc<Series>>>,
}

impl Traffic {
    /// Series for one more worker.
    pub fn worker(&self) -> Arc<WorkerTraffic> {
        let worker = Arc::new(WorkerTraffic::default());
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker.clone());
        worker
    }

    /// Writes all series in Prometheus' text format.
    pub fn render(&self, out: &mut String) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut merged: BTreeMap<String, Vec<Arc<Series>>> = BTreeMap::new();
        for worker in workers {
            for (labels, series) in worker.series.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                merged.entry(labels.clone()).or_default().push(series.clone());
            }
        }
        counter(out, "istio_requests_total", "Requests.", &merged, |s| &s.requests);
        histogram(out, "istio_request_duration_milliseconds", "Time of requests.", &merged, |s| {
            &s.duration_ms
        });
        histogram(out, "istio_request_bytes", "Size of request bodies.", &merged, |s| &s.request_bytes);
        histogram(out, "istio_response_bytes", "Size of response bodies.", &merged, |s| &s.response_bytes);
        counter(out, "istio_tcp_connections_opened_total", "Connections opened.", &merged, |s| &s.tcp_opened);
        counter(out, "istio_tcp_connections_closed_total", "Connections closed.", &merged, |s| &s.tcp_closed);
        counter(out, "istio_tcp_received_bytes_total", "Bytes received.", &merged, |s| &s.tcp_received);
        counter(out, "istio_tcp_sent_bytes_total", "Bytes sent.", &merged, |s| &s.tcp_sent);
    }
}

impl WorkerTraffic {
    /// The series of a label set, written as Prometheus does: `a="b",c="d"`.
    pub fn series(&self, labels: String) -> Arc<Series> {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = if series.len() >= SERIES_MAX && !series.contains_key(&labels) {
            "reporter=\"overflow\"".to_owned()
        } else {
            labels
        };
        series.entry(labels).or_default().clone()
    }
}

/// Appends `name="value"`, escaped, with a comma where one is needed.
pub fn label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    labels.push_str(name);
    labels.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => labels.push_str("\\\\"),
            '"' => labels.push_str("\\\""),
            '\n' => labels.push_str("\\n"),
            c => labels.push(c),
        }
    }
    labels.push('"');
}

type Merged = BTreeMap<String, Vec<Arc<Series>>>;

fn counter(out: &mut String, name: &str, help: &str, merged: &Merged, of: impl Fn(&Series) -> &AtomicU64) {
    let mut head = true;
    for (labels, parts) in merged {
        let total: u64 = parts.iter().map(|part| of(part).load(Relaxed)).sum();
        if total > 0 {
            describe(out, &mut head, name, help, "counter");
            let _ = writeln!(out, "{name}{{{labels}}} {total}");
        }
    }
}

fn histogram(out: &mut String, name: &str, help: &str, merged: &Merged, of: impl Fn(&Series) -> &Histogram) {
    let mut head = true;
    for (labels, parts) in merged {
        let bucket = |i: usize| {
            parts.iter().map(|part| of(part).counts[i].load(Relaxed)).fold(0u64, u64::saturating_add)
        };
        let counts: [u64; BUCKETS.len() + 1] = std::array::from_fn(bucket);
        if counts.iter().all(|&count| count == 0) {
            continue;
        }
        describe(out, &mut head, name, help, "histogram");
        let mut running = 0;
        for (i, count) in counts.iter().enumerate() {
            running += count;
            let bound = BUCKETS.get(i).map_or("+Inf".to_owned(), u64::to_string);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {running}");
        }
        let sum: u64 = parts.iter().map(|part| of(part).sum.load(Relaxed)).fold(0, u64::saturating_add);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {running}");
    }
}

fn describe(out: &mut String, head: &mut bool, name: &str, help: &str, kind: &str) {
    if std::mem::take(head) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_adds_up_the_workers() {
        let traffic = Traffic::default();
        for _ in 0..2 {
            let series = traffic.worker().series("a=\"b\"".to_owned());
            series.requests.fetch_add(1, Relaxed);
            series.duration_ms.observe(7);
        }
        let mut out = String::new();
        traffic.render(&mut out);
        assert!(out.contains("istio_requests_total{a=\"b\"} 2\n"), "{out}");
        assert!(out.contains("istio_request_duration_milliseconds_bucket{a=\"b\",le=\"5\"} 0\n"), "{out}");
        assert!(out.contains("istio_request_duration_milliseconds_bucket{a=\"b\",le=\"10\"} 2\n"), "{out}");
        assert!(out.contains("istio_request_duration_milliseconds_sum{a=\"b\"} 14\n"), "{out}");
    }

    #[test]
    fn values_cannot_break_out_of_their_label() {
        let mut labels = String::new();
        label(&mut labels, "a", "x\"y\\z\n");
        label(&mut labels, "b", "c");
        assert_eq!(labels, r#"a="x\"y\\z\n",b="c""#);
    }
}
