//! The documents in force: what is stored and what sources tell, parsed once and kept while the text stays. Pure.
//!
//! An applied document wins over a source's of the same name, and of two sources' the first by name wins.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    documents::{self, Document, DocumentSet, Problem, Severity},
    registry::SourceDocument,
    store::Snapshot,
};

/// Parsed documents by key, with the text that they were parsed from.
#[derive(Default)]
pub struct Shelf {
    parsed: BTreeMap<Arc<str>, Parsed>,
}

struct Parsed {
    owner: Arc<str>,
    yaml: Arc<str>,
    line: u32,
    document: Option<Arc<Document>>,
    problems: Vec<Problem>,
}

/// The documents in force.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Those that can be read.
    pub set: Arc<DocumentSet>,
    /// What is wrong with those that cannot.
    pub problems: Vec<Problem>,
}

impl Shelf {
    /// Puts in what is stored and what sources tell, and takes out all else.
    pub fn arrange(&mut self, stored: &Snapshot, told: &[SourceDocument]) -> InForce {
        let mut before = std::mem::take(&mut self.parsed);
        for document in stored.documents.values() {
            let key: Arc<str> = document.key.to_string().into();
            let known = before.remove(&key);
            let parsed = parse(known, &document.owner, &document.yaml, &key, 1);
            self.parsed.insert(key, parsed);
        }
        for SourceDocument { owner, document } in told {
            let key: Arc<str> = document.key.to_string().into();
            if self.parsed.contains_key(&key) {
                continue;
            }
            let known = before.remove(&key);
            let parsed = parse(known, owner, &document.yaml, &document.origin, document.line);
            self.parsed.insert(key, parsed);
        }
        let mut set = DocumentSet::default();
        self.parsed
            .values()
            .filter_map(|parsed| parsed.document.clone())
            .for_each(|document| set.insert(document));
        let problems = self.parsed.values().flat_map(|parsed| parsed.problems.iter().cloned()).collect();
        InForce { set: Arc::new(set), problems }
    }
}

/// Parses a text, unless it is the one that is known. A text of the same owner that cannot be read does not unseat its
/// good predecessor.
fn parse(known: Option<Parsed>, owner: &Arc<str>, yaml: &Arc<str>, origin: &str, line: u32) -> Parsed {
    let known = known.filter(|known| known.owner == *owner);
    match known {
        Some(known) if known.yaml == *yaml && known.line == line => known,
        known => {
            let (documents, problems) = documents::parse(yaml, origin, line);
            let document = documents.into_iter().next().map(Arc::new);
            let refused = problems.iter().any(|problem| problem.severity == Severity::Error);
            let document = if refused { known.and_then(|known| known.document) } else { document };
            Parsed { owner: owner.clone(), yaml: yaml.clone(), line, document, problems }
        }
    }
}

#[cfg(test)]
mod tests;
