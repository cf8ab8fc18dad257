//! Which proxies are connected, and how far each of them is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use weft_proto::admin::v1::{ProxyStatus, Rejection};

/// The status of every connected proxy. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Tracker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    streams: Mutex<Streams>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Streams {
    next: u64,
    by_number: BTreeMap<u64, ProxyStatus>,
    revision: u64,
}

/// How far one stream is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Progress {
    pub(super) settled: bool,
    pub(super) acked_revision: u64,
    pub(super) rejections: Vec<Rejection>,
}

/// A stream's place in the tracker; dropping it removes the proxy.
#[derive(Debug)]
pub(super) struct Registration {
    tracker: Tracker,
    number: u64,
    last: Option<Progress>,
}

impl Default for Tracker {
    fn default() -> Self {
        let shared = Shared { streams: Mutex::default(), changes: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }
}

impl Tracker {
    /// Every connected proxy, sorted by id. A proxy is one stream: two proxies with one id are both listed.
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        let mut proxies: Vec<_> = self.streams().by_number.values().cloned().collect();
        proxies.sort_by(|a, b| a.id.cmp(&b.id));
        proxies
    }

    /// Newest revision that every connected proxy runs; the newest revision of all while none is connected.
    pub fn live_revision(&self) -> u64 {
        let streams = self.streams();
        let oldest = streams.by_number.values().map(|proxy| proxy.acked_revision).min();
        oldest.unwrap_or(streams.revision)
    }

    /// Ticks after every change of what this tracker says.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Notes what has been published.
    pub(super) fn set_revision(&self, revision: u64) {
        self.streams().revision = revision;
        self.tick();
    }

    /// Lists a proxy.
    pub(super) fn register(&self, mut proxy: ProxyStatus) -> Registration {
        "pending".clone_into(&mut proxy.state);
        let mut streams = self.streams();
        streams.next += 1;
        let number = streams.next;
        streams.by_number.insert(number, proxy);
        metrics::gauge!("weft_xds_connected_proxies").set(streams.by_number.len() as f64);
        drop(streams);
        self.tick();
        Registration { tracker: self.clone(), number, last: None }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // Nothing that holds the lock can leave a half-written status behind.
        self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) {
        self.shared.changes.send_modify(|ticks| *ticks = ticks.wrapping_add(1));
    }
}

impl Registration {
    /// Tells how far the stream is now.
    pub(super) fn update(&mut self, progress: Progress) {
        if self.last.as_ref() == Some(&progress) {
            return;
        }
        self.last = Some(progress.clone());
        if let Some(proxy) = self.tracker.streams().by_number.get_mut(&self.number) {
            let state = match progress {
                Progress { ref rejections, .. } if !rejections.is_empty() => "rejected",
                Progress { settled: true, .. } => "synced",
                Progress { .. } => "pending",
            };
            state.clone_into(&mut proxy.state);
            proxy.acked_revision = progress.acked_revision;
            proxy.rejections = progress.rejections;
        }
        self.tracker.tick();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut streams = self.tracker.streams();
        streams.by_number.remove(&self.number);
        metrics::gauge!("weft_xds_connected_proxies").set(streams.by_number.len() as f64);
        drop(streams);
        self.tracker.tick();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(id: &str) -> ProxyStatus {
        ProxyStatus { id: id.to_owned(), ..ProxyStatus::default() }
    }

    #[test]
    fn the_slowest_proxy_decides_what_is_live() {
        let tracker = Tracker::default();
        tracker.set_revision(9);
        assert_eq!(tracker.live_revision(), 9, "nobody runs anything older");
        let mut quick = tracker.register(proxy("b"));
        let mut slow = tracker.register(proxy("a"));
        quick.update(Progress { settled: true, acked_revision: 9, rejections: vec![] });
        slow.update(Progress { settled: false, acked_revision: 7, rejections: vec![] });
        assert_eq!(tracker.live_revision(), 7);
        let seen: Vec<_> = tracker.proxies().into_iter().map(|p| (p.id, p.state)).collect();
        assert_eq!(seen, [("a".to_owned(), "pending".to_owned()), ("b".to_owned(), "synced".to_owned())]);
        drop(slow);
        assert_eq!(tracker.live_revision(), 9);
    }

    #[test]
    fn every_change_ticks_and_a_repeated_report_does_not() {
        let tracker = Tracker::default();
        let mut changes = tracker.changes();
        let mut registration = tracker.register(proxy("a"));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        registration.update(Progress::default());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        registration.update(Progress::default());
        assert!(!changes.has_changed().unwrap());
    }
}
