//! What readers see of the registry: the merged mesh, the documents of sources, and how each source is.

use std::sync::Arc;

use super::{
    fact::{DocumentFact, Speaker},
    source::{Source, State},
};
use crate::model::Mesh;

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

impl SourceView {
    pub(super) fn of(source: &Source) -> Self {
        let (state, reason) = source.state();
        Self {
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
}

/// The documents of sources, in their order.
pub(super) fn documents_of<'a>(sources: impl Iterator<Item = &'a Source>) -> Arc<Vec<SourceDocument>> {
    let of = |source: &'a Source| {
        let owner = &source.speaker().name;
        source.facts().documents().map(|fact| SourceDocument { owner: owner.clone(), document: fact.clone() })
    };
    Arc::new(sources.flat_map(of).collect())
}

/// Tells the gauges of sources.
pub(super) fn record_metrics<'a>(sources: impl Iterator<Item = &'a Source>) {
    for source in sources {
        let view = SourceView::of(source);
        let label = || view.speaker.name.to_string();
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
