//! What is wrong with a document: where it stands, which field, what to do.

use std::{fmt, sync::Arc};

use super::tree::Place;

/// Whether a document with the problem can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document is refused; its good predecessor stays.
    Error,
    /// The document serves, perhaps not as meant.
    Warning,
}

/// One thing wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File, key or source that holds the document.
    pub origin: Arc<str>,
    /// Line, counted from 1.
    pub line: u32,
    /// Column, counted from 1.
    pub column: u32,
    /// Key of the document; empty while nothing in the text names it.
    pub document: Arc<str>,
    /// Path of the field: `spec.http[0].route[1].weight`; empty for the document itself.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
    /// Whether the document can serve.
    pub severity: Severity,
    /// Key of the document that has what this one claims, too; none where nothing is claimed twice.
    pub conflict: Option<Arc<str>>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: ", self.origin, self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

/// Collects the problems of one document.
pub(super) struct Report {
    origin: Arc<str>,
    lines_before: u32,
    document: Arc<str>,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(origin: &Arc<str>, lines_before: u32) -> Self {
        Self { origin: origin.clone(), lines_before, document: Arc::default(), problems: Vec::new() }
    }

    pub(super) fn place(&self, location: serde_saphyr::Location) -> Place {
        Place::of(location, self.lines_before)
    }

    /// Says which document all the problems are about.
    pub(super) fn set_document(&mut self, key: Arc<str>) {
        self.document = key;
    }

    pub(super) fn error(
        &mut self,
        place: Place,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems.push(Problem {
            origin: self.origin.clone(),
            line: place.line,
            column: place.column,
            document: Arc::default(),
            field: field.to_owned(),
            message: message.into(),
            hint: hint.into(),
            severity: Severity::Error,
            conflict: None,
        });
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        let named = |problem| Problem { document: self.document.clone(), ..problem };
        self.problems.into_iter().map(named).collect()
    }
}
