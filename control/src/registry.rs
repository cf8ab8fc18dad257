//! The service registry: every source's facts, merged into one mesh. Writers are streams of sources and one task that
//! merges, expires hold-downs and saves; readers load an immutable value and never wait.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    fact::{DocumentFact, Speaker},
    merge::VirtualIps,
    source::{Changed, Now, Source, State, Step, StepError},
};
use crate::model::Mesh;

pub mod disk;
pub mod fact;
pub mod merge;
pub mod server;
pub mod source;

/// Sources in one mesh.
pub const SOURCES_MAX: usize = 256;
/// Pause between two merges, so that a burst of single steps is merged once.
const MERGE_PAUSE: Duration = Duration::from_millis(10);
/// Pause between two writes of the last known registry.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
/// How often hold-downs are looked at while something is held.
const HOLD_CHECK: Duration = Duration::from_millis(500);

/// A document that a source tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDocument {
    /// The source.
    pub owner: Arc<str>,
    /// The document.
    pub document: DocumentFact,
}

/// What readers see. Immutable.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The merged mesh.
    pub mesh: Arc<Mesh>,
    /// Documents of all sources, by source and key.
    pub documents: Arc<Vec<SourceDocument>>,
    /// Rises with every change of either.
    pub revision: u64,
}

/// A source for people.
#[derive(Clone, Debug)]
pub struct SourceView {
    /// Who it is.
    pub speaker: Speaker,
    /// How well its facts are known to be right.
    pub state: State,
    /// Why they are not.
    pub reason: String,
    /// Number of services.
    pub services: usize,
    /// Number of endpoints.
    pub endpoints: usize,
    /// End of its last listing or change, seconds since 1970.
    pub last_sync_seconds: i64,
    /// Endpoints whose removal is held back.
    pub held: usize,
    /// Objects refused since it connected.
    pub rejected: u32,
}

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

struct Entry {
    source: Source,
    /// The stream that may speak; another number is an older stream.
    stream: u64,
    stop: CancellationToken,
}

/// One stream's right to speak for its source.
pub struct Session {
    registry: Arc<Registry>,
    name: Arc<str>,
    stream: u64,
    /// Cancelled when a newer stream of the same source took over.
    pub superseded: CancellationToken,
}

/// Why a step was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A newer stream took over.
    #[error("a newer stream of the same source took over")]
    Superseded,
    /// It does not fit.
    #[error(transparent)]
    Step(#[from] StepError),
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
        let registry = Self {
            options,
            inner: Mutex::new(inner),
            view: ArcSwap::default(),
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
        self.lock().sources.values().map(|entry| view_of(&entry.source)).collect()
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
        inner.unsaved || inner.sources.values().any(|entry| entry.source.held() > 0)
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
        record_metrics(inner);
        let pending = std::mem::take(&mut inner.pending);
        if pending.is_empty() {
            return;
        }
        let before = self.view.load_full();
        let facts: Vec<_> =
            inner.sources.iter().map(|(name, entry)| (name.clone(), entry.source.facts())).collect();
        let mesh = merge::merge(
            &before.mesh,
            &facts,
            &pending.services,
            &mut inner.virtual_ips,
            &self.options.mesh_domain,
        );
        let documents = if pending.documents { documents_of(inner) } else { before.documents.clone() };
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
            disk::encode(inner.sources.values().map(|entry| &entry.source), &inner.virtual_ips)
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

impl Session {
    /// Takes a step; answers the sequence to acknowledge, if this is the time to.
    pub fn step(&self, sequence: u64, step: Step) -> Result<Option<u64>, SessionError> {
        let now = Now { instant: Instant::now().into_std(), unix_seconds: unix_seconds() };
        let mut inner = self.registry.lock();
        let source = self.source(&mut inner)?;
        let held = source.held();
        let changed = source.step(sequence, step, now)?;
        if source.held() > held {
            tracing::warn!(source = %self.name, held = source.held(), "doubtful listing: removal held back");
        }
        let ack = (!source.is_listing()).then(|| source.applied());
        self.registry.note(inner, changed);
        Ok(ack)
    }

    /// Counts a step whose object was refused; answers like [`Session::step`].
    pub fn refuse(&self, sequence: u64) -> Result<Option<u64>, SessionError> {
        let mut inner = self.registry.lock();
        let source = self.source(&mut inner)?;
        source.refuse(sequence)?;
        Ok((!source.is_listing()).then(|| source.applied()))
    }

    fn source<'a>(&self, inner: &'a mut Inner) -> Result<&'a mut Source, SessionError> {
        match inner.sources.get_mut(&self.name) {
            Some(entry) if entry.stream == self.stream => Ok(&mut entry.source),
            _ => Err(SessionError::Superseded),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        if let Ok(source) = self.source(&mut inner) {
            source.disconnect();
            tracing::warn!(source = %self.name, "source lost; its last known facts serve");
            self.registry.note(inner, Changed::default());
        }
    }
}

fn documents_of(inner: &Inner) -> Arc<Vec<SourceDocument>> {
    let of = |(name, entry): (&Arc<str>, &'_ Entry)| -> Vec<SourceDocument> {
        let facts = entry.source.facts().documents();
        facts.map(|document| SourceDocument { owner: name.clone(), document: document.clone() }).collect()
    };
    Arc::new(inner.sources.iter().flat_map(of).collect())
}

fn view_of(source: &Source) -> SourceView {
    let (state, reason) = source.state();
    SourceView {
        speaker: source.speaker().clone(),
        state,
        reason,
        services: source.facts().services().len(),
        endpoints: source.facts().endpoints().len(),
        last_sync_seconds: source.last_sync_seconds(),
        held: source.held(),
        rejected: source.rejected(),
    }
}

fn record_metrics(inner: &Inner) {
    for (name, entry) in &inner.sources {
        let view = view_of(&entry.source);
        let label = || name.to_string();
        metrics::gauge!("weft_source_services", "source" => label()).set(view.services as f64);
        metrics::gauge!("weft_source_endpoints", "source" => label()).set(view.endpoints as f64);
        metrics::gauge!("weft_source_held_endpoints", "source" => label()).set(view.held as f64);
        metrics::gauge!("weft_source_rejected_objects", "source" => label()).set(f64::from(view.rejected));
        metrics::gauge!("weft_source_last_sync_seconds", "source" => label())
            .set(view.last_sync_seconds as f64);
        for state in [State::Live, State::Stale, State::Lost, State::Held] {
            let on = if state == view.state { 1.0 } else { 0.0 };
            metrics::gauge!("weft_source_state", "source" => label(), "state" => state.as_str()).set(on);
        }
    }
}

/// Seconds since 1970, for people.
pub fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
