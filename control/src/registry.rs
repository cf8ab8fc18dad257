//! The service registry: every source's facts, merged into one mesh. Writers are streams of sources and one task that
//! merges, expires hold-downs and saves; readers load an immutable value and never wait.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    fact::Speaker,
    source::{Changed, Source},
};
use crate::{model::Mesh, virtual_ips::VirtualIps};

pub mod disk;
pub mod fact;
pub mod merge;
pub mod server;
mod session;
pub mod source;
#[cfg(test)]
mod tests;
mod view;

pub use session::{Session, SessionError};
pub use view::{SourceDocument, SourceView, View};

/// Sources in one mesh.
pub const SOURCES_MAX: usize = 256;
/// Pause between two merges, so that a burst of single steps is merged once.
const MERGE_PAUSE: Duration = Duration::from_millis(10);
/// Pause between two writes of the last known registry.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
/// How often hold-downs are looked at while something is held.
const HOLD_CHECK: Duration = Duration::from_millis(500);

/// How a registry behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Last part of full host names.
    pub mesh_domain: String,
    /// How long a doubtful removal is held back.
    pub hold_down: Duration,
    /// File of the last known registry; none keeps nothing.
    pub file: Option<PathBuf>,
}

/// Why a source may not speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Too many sources.
    #[error("the mesh has {SOURCES_MAX} sources already, which is the limit; remove one that is gone")]
    TooMany,
}

/// The registry.
pub struct Registry {
    options: Options,
    inner: Mutex<Inner>,
    view: ArcSwap<View>,
    revision: watch::Sender<u64>,
    /// Rung after every change for the merging task.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    sources: BTreeMap<Arc<str>, Entry>,
    pending: Changed,
    virtual_ips: VirtualIps,
    streams: u64,
    unsaved: bool,
}

impl Inner {
    /// Every source, by name.
    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values().map(|entry| &entry.source)
    }
}

struct Entry {
    source: Source,
    /// The stream that may speak; another number is an older stream.
    stream: u64,
    stop: CancellationToken,
}

impl Registry {
    /// A registry with the last known facts, if its file has some. Blocks on the disk.
    pub fn open(options: Options) -> Result<Arc<Self>, disk::DiskError> {
        let mut inner = Inner::default();
        if let Some(file) = &options.file
            && let Some(saved) = disk::load(file)?
        {
            inner.virtual_ips = saved.virtual_ips;
            for source in saved.sources {
                for service in source.facts().services() {
                    inner.pending.services.insert(service.key.clone());
                }
                inner.pending.documents |= source.facts().documents().len() > 0;
                let entry = Entry { source, stream: 0, stop: CancellationToken::new() };
                inner.sources.insert(entry.source.speaker().name.clone(), entry);
            }
        }
        let mesh = Arc::new(Mesh::empty(&options.mesh_domain));
        let registry = Self {
            options,
            inner: Mutex::new(inner),
            view: ArcSwap::from_pointee(View { mesh, ..View::default() }),
            revision: watch::channel(0).0,
            changed: Notify::new(),
        };
        registry.publish();
        Ok(Arc::new(registry))
    }

    /// What is known now; cheap.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Tells the newest revision of the view.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Every source, by name.
    pub fn sources(&self) -> Vec<SourceView> {
        self.lock().sources().map(SourceView::of).collect()
    }

    /// Lets a source's held-back removal through; answers how many endpoints went, or none if nobody has that name.
    pub fn confirm(&self, source: &str) -> Option<usize> {
        let mut inner = self.lock();
        let (removed, changed) = inner.sources.get_mut(source)?.source.confirm();
        tracing::info!(source, removed, "held removal confirmed");
        self.note(inner, changed);
        Some(removed)
    }

    /// A source opens a stream; answers its session and the sequence to resume after.
    pub fn connect(
        self: &Arc<Self>,
        speaker: Speaker,
        incarnation: &str,
    ) -> Result<(Session, u64), ConnectError> {
        let mut inner = self.lock();
        let name = speaker.name.clone();
        if inner.sources.len() >= SOURCES_MAX && !inner.sources.contains_key(&name) {
            return Err(ConnectError::TooMany);
        }
        inner.streams += 1;
        let stream = inner.streams;
        let superseded = CancellationToken::new();
        let entry = inner.sources.entry(name.clone()).or_insert_with(|| Entry {
            source: Source::new(speaker.clone()),
            stream,
            stop: superseded.clone(),
        });
        if entry.stream != stream {
            entry.stop.cancel();
            entry.stop = superseded.clone();
            entry.stream = stream;
        }
        let resume_after = entry.source.connect(speaker, incarnation);
        self.note(inner, Changed::default());
        Ok((Session { registry: self.clone(), name, stream, superseded }, resume_after))
    }

    /// Merges, lets hold-downs run out and saves, until it is stopped; then saves once more.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut save_at = Instant::now();
        loop {
            let wake = self.next_wake(save_at);
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(wake), if self.has_work() => {}
                () = stop.cancelled() => break,
            }
            self.tick();
            self.publish();
            if Instant::now() >= save_at && self.lock().unsaved {
                self.save().await;
                save_at = Instant::now() + SAVE_PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(MERGE_PAUSE) => {}
                () = stop.cancelled() => break,
            }
        }
        self.publish();
        self.save().await;
    }

    fn next_wake(&self, save_at: Instant) -> Instant {
        let check = Instant::now() + HOLD_CHECK;
        if self.lock().unsaved { check.min(save_at) } else { check }
    }

    fn has_work(&self) -> bool {
        let inner = self.lock();
        inner.unsaved || inner.sources.values().any(|entry| entry.source.is_held())
    }

    fn tick(&self) {
        let now = Instant::now().into_std();
        let mut inner = self.lock();
        let mut changed = Changed::default();
        for entry in inner.sources.values_mut() {
            let held = entry.source.held();
            let released = entry.source.tick(now, self.options.hold_down);
            if !released.is_empty() {
                let source = &*entry.source.speaker().name;
                tracing::warn!(source, endpoints = held, "hold-down over: removal let through");
            }
            changed.absorb(released);
        }
        if !changed.is_empty() {
            self.note(inner, changed);
        }
    }

    /// Merges what changed since the last time and shows it to readers.
    pub fn publish(&self) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        view::record_metrics(inner.sources());
        let pending = std::mem::take(&mut inner.pending);
        if pending.is_empty() {
            return;
        }
        let before = self.view.load_full();
        let facts: Vec<_> =
            inner.sources.iter().map(|(name, entry)| (name.clone(), entry.source.facts())).collect();
        let mesh = merge::merge(&before.mesh, &facts, &pending.services, &mut inner.virtual_ips);
        let documents = match pending.documents {
            true => view::documents_of(inner.sources()),
            false => before.documents.clone(),
        };
        if mesh.revision == before.mesh.revision && documents == before.documents {
            return;
        }
        let revision = before.revision + 1;
        self.view.store(Arc::new(View { mesh: Arc::new(mesh), documents, revision }));
        drop(guard);
        self.revision.send_replace(revision);
    }

    async fn save(&self) {
        let Some(file) = self.options.file.clone() else { return };
        let bytes = {
            let mut inner = self.lock();
            inner.unsaved = false;
            disk::encode(inner.sources(), &inner.virtual_ips)
        };
        let written = tokio::task::spawn_blocking(move || disk::write(&file, &bytes)).await;
        if let Ok(Err(error)) = written {
            metrics::counter!("weft_registry_save_failures_total").increment(1);
            tracing::error!(%error, "the last known registry cannot be saved");
        }
    }

    /// Remembers what changed, and rings for the merging task. Takes the lock's guard to give it back before it rings.
    fn note(&self, mut inner: MutexGuard<'_, Inner>, changed: Changed) {
        inner.unsaved |= self.options.file.is_some() && !changed.is_empty();
        inner.pending.absorb(changed);
        drop(inner);
        self.changed.notify_one();
    }

    /// Held across no await.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
