//! Intent: what people may do with documents, whatever protocol they speak. Applying is one at a time, so that what was
//! checked is what is stored.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::shelf::{InForce, Shelf};
use crate::{
    documents::{
        self, Document, DocumentSet, Problem, Severity, Verdict,
        status::{Condition, ConditionKind, Status},
    },
    providers::Providers,
    registry::{Registry, View},
    store::{Committed, DocumentKey, DocumentStore, OWNER_API, Snapshot, StoreError, Write},
};

/// How long a write waits until its revision is compiled.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(10);

/// How far compiling has come.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// Configuration revision, as proxies report it.
    pub revision: u64,
    /// Store revision that is in it.
    pub store_revision: u64,
    /// What documents are told with it.
    pub verdict: Arc<Verdict>,
}

/// A text with one or more documents.
#[derive(Clone, Debug)]
pub struct Text {
    /// The text.
    pub yaml: String,
    /// Its name in messages.
    pub origin: String,
}

/// What became of an apply.
#[derive(Debug)]
pub enum Applied {
    /// It was refused.
    Refused(Vec<Problem>),
    /// It is stored, or would be.
    Stored {
        /// The documents in the order given.
        keys: Vec<DocumentKey>,
        /// What was written.
        committed: Committed,
        /// Warnings.
        problems: Vec<Problem>,
    },
}

/// What documents are told.
#[derive(Debug)]
pub struct Told {
    /// Problems of texts that cannot be read.
    unreadable: Vec<Problem>,
    verdict: Arc<Verdict>,
}

impl Told {
    /// Problems of everything in force.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.unreadable.iter().chain(&self.verdict.problems)
    }

    /// The status of a document. One whose newest text cannot be read says so: an earlier one is in force, or none.
    pub fn status(&self, key: &str) -> Status {
        let known = self.verdict.statuses.get(key).cloned();
        let broken = self.unreadable.iter().find(|problem| *problem.document == *key && is_error(problem));
        match (known, broken) {
            (Some(known), None) => known,
            (Some(mut known), Some(problem)) => {
                // The Gateway API wants these two words first.
                let message = format!("Fall Back: an earlier text is in force, for {problem}");
                known.add(Condition::new(ConditionKind::PartiallyInvalid, true, "UnsupportedValue", message));
                known
            }
            (None, Some(problem)) => {
                let mut status = Status::default();
                let message = problem.to_string();
                status.add(Condition::new(ConditionKind::Accepted, false, "UnsupportedValue", message));
                status
            }
            (None, None) => Status::default(),
        }
    }
}

/// The desk.
pub struct Desk {
    registry: Arc<Registry>,
    store: Arc<dyn DocumentStore>,
    shelf: Mutex<Shelf>,
    applying: tokio::sync::Mutex<()>,
    compiled: watch::Receiver<Compiled>,
    providers: Providers,
}

impl Desk {
    /// A desk over a registry and a store; `compiled` tells how far compiling has come, `providers` what documents may
    /// name.
    pub fn new(
        registry: Arc<Registry>,
        store: Arc<dyn DocumentStore>,
        compiled: watch::Receiver<Compiled>,
        providers: Providers,
    ) -> Self {
        let (shelf, applying) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { registry, store, shelf, applying, compiled, providers }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn DocumentStore> {
        &self.store
    }

    /// The registry.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// How far compiling has come.
    pub fn compiled(&self) -> Compiled {
        self.compiled.borrow().clone()
    }

    /// Ticks when another revision is compiled.
    pub fn compiles(&self) -> watch::Receiver<Compiled> {
        self.compiled.clone()
    }

    /// The documents in force.
    pub fn in_force(&self, stored: &Snapshot, view: &View) -> InForce {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).arrange(stored, &view.documents)
    }

    /// What documents are told, and what is wrong with those that cannot be read.
    pub fn told(&self) -> Told {
        let unreadable = self.in_force(&self.store.snapshot(), &self.registry.view()).problems;
        Told { unreadable, verdict: self.compiled().verdict }
    }

    /// Checks texts as applying them would; answers their documents and everything wrong.
    pub fn check(&self, texts: &[Text]) -> (Vec<Document>, Vec<Problem>) {
        let (found, mut problems) =
            documents::parse_all(texts.iter().map(|text| (text.yaml.as_str(), text.origin.as_str())));
        let view = self.registry.view();
        let stored = self.store.snapshot();
        let InForce { set: before, .. } = self.in_force(&stored, &view);
        let mut after = DocumentSet::clone(&before);
        for document in &found {
            // What is new is younger than all that is there.
            let known = stored.documents.get(&key_of(document));
            let created_at_seconds = known.map_or(i64::MAX, |known| known.created_at_seconds);
            after.insert(Arc::new(Document { created_at_seconds, ..document.clone() }));
        }
        let check = |set| documents::judge(set, &view.mesh, Some(&self.providers)).problems;
        let known = check(&before);
        let ours = |problem: &Problem| texts.iter().any(|text| *text.origin == *problem.origin);
        // What was wrong before does not stop an apply that has nothing to do with it.
        problems.extend(
            check(&after)
                .into_iter()
                .filter(|problem| ours(problem) || (is_error(problem) && !known.contains(problem))),
        );
        (found, problems)
    }

    /// Stores every document of the texts, or none.
    pub async fn apply(
        &self,
        texts: &[Text],
        expected: &BTreeMap<String, u64>,
        dry_run: bool,
    ) -> Result<Applied, StoreError> {
        let _one_at_a_time = self.applying.lock().await;
        let (found, problems) = self.check(texts);
        if problems.iter().any(is_error) {
            return Ok(Applied::Refused(problems));
        }
        let writes: Vec<Write> = found.iter().map(|document| put(document, expected)).collect();
        let keys = found.iter().map(key_of).collect();
        let committed = if dry_run {
            crate::store::plan(&self.store.snapshot(), writes, 0)?.1
        } else {
            self.store.commit(writes).await?
        };
        Ok(Applied::Stored { keys, committed, problems })
    }

    /// Removes a document.
    pub async fn delete(&self, key: DocumentKey, expected: Option<u64>) -> Result<Committed, StoreError> {
        let _one_at_a_time = self.applying.lock().await;
        self.store.commit(vec![Write::Delete { key, expected }]).await
    }

    /// The configuration revision that holds a store revision; waits until it is compiled.
    pub async fn revision_of(&self, store_revision: u64) -> u64 {
        let mut compiled = self.compiled.clone();
        let reached = compiled.wait_for(|compiled| compiled.store_revision >= store_revision);
        match tokio::time::timeout(COMPILE_TIMEOUT, reached).await {
            Ok(Ok(compiled)) => compiled.revision,
            // It is stored all the same; the next revision is the first that can hold it.
            _ => self.compiled.borrow().revision + 1,
        }
    }
}

/// Whether a problem refuses its document.
pub fn is_error(problem: &Problem) -> bool {
    problem.severity == Severity::Error
}

fn key_of(document: &Document) -> DocumentKey {
    DocumentKey::new(document.kind, &document.namespace, &document.name)
}

fn put(document: &Document, expected: &BTreeMap<String, u64>) -> Write {
    Write::Put {
        key: key_of(document),
        yaml: document.yaml.clone(),
        owner: OWNER_API.into(),
        expected: expected.get(&*document.key()).copied(),
    }
}
