//! The documents in force: what is stored and what sources tell, parsed once and kept while the text stays. Pure.
//!
//! An applied document wins over a source's of the same name, and of two sources' the first by name wins. Of a source's
//! document that cannot be read, the last text that could is in force.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    documents::{self, Document, DocumentSet, Problem},
    registry::{SourceDocument, fact::DocumentText},
    store::Snapshot,
};

/// Parsed documents by key.
#[derive(Default)]
pub struct Shelf {
    parsed: BTreeMap<Arc<str>, Parsed>,
}

struct Parsed {
    basis: Basis,
    document: Option<Arc<Document>>,
    problems: Vec<Problem>,
}

/// All that a parsed document depends on.
#[derive(PartialEq)]
struct Basis {
    text: Arc<DocumentText>,
    /// The text to use where that one cannot be read.
    good: Option<Arc<DocumentText>>,
    age: Age,
}

/// When a document was made, seconds since 1970.
#[derive(PartialEq)]
enum Age {
    /// By the store's own clock, whatever the text says.
    Stored(i64),
    /// When its source first told it; the text's own time, where it has one, is the platform's and older.
    Told(i64),
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
            let text = DocumentText { yaml: document.yaml.clone(), origin: key.clone(), line: 1 };
            let age = Age::Stored(document.created_at_seconds);
            let basis = Basis { text: Arc::new(text), good: None, age };
            self.put(key, basis, &mut before);
        }
        for SourceDocument { document, .. } in told {
            let key: Arc<str> = document.key.to_string().into();
            if !self.parsed.contains_key(&key) {
                let (text, good) = (document.text.clone(), document.good.clone());
                self.put(key, Basis { text, good, age: Age::Told(document.since_seconds) }, &mut before);
            }
        }
        let mut set = DocumentSet::default();
        self.parsed
            .values()
            .filter_map(|parsed| parsed.document.clone())
            .for_each(|document| set.insert(document));
        let problems = self.parsed.values().flat_map(|parsed| parsed.problems.iter().cloned()).collect();
        InForce { set: Arc::new(set), problems }
    }

    /// Takes over what was parsed from the same before, else parses it.
    fn put(&mut self, key: Arc<str>, basis: Basis, before: &mut BTreeMap<Arc<str>, Parsed>) {
        let known = before.remove(&key).filter(|known| known.basis == basis);
        let parsed = known.unwrap_or_else(|| parse(&key, basis));
        self.parsed.insert(key, parsed);
    }
}

fn parse(key: &Arc<str>, basis: Basis) -> Parsed {
    let read = |text: &DocumentText| documents::parse(&text.yaml, &text.origin, text.line);
    let (found, problems) = read(&basis.text);
    // A document with an error is left out of what is found.
    let document = found.into_iter().next();
    let document = document.or_else(|| read(basis.good.as_ref()?).0.into_iter().next());
    let aged = |document: Document| {
        let created_at_seconds = match basis.age {
            Age::Told(_) if document.created_at_seconds != 0 => document.created_at_seconds,
            Age::Stored(seconds) | Age::Told(seconds) => seconds,
        };
        Arc::new(Document { created_at_seconds, ..document })
    };
    let named = |problem| Problem { document: key.clone(), ..problem };
    Parsed { document: document.map(aged), problems: problems.into_iter().map(named).collect(), basis }
}

#[cfg(test)]
mod tests;
