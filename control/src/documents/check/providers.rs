//! Providers of the mesh's settings that documents name.

use super::super::{Document, DocumentSet, Located, Problem, reader::nearest};
use crate::providers::{Provider, Providers};

/// Names that mean nothing, or nothing that fits.
pub(in super::super) fn problems(documents: &DocumentSet, known: &Providers) -> Vec<Problem> {
    let is_log = |provider: &Provider| matches!(provider, Provider::Log(_));
    let is_spans = |provider: &Provider| matches!(provider, Provider::Spans(_));
    let mut problems = Vec::new();
    for (document, telemetry) in documents.telemetries() {
        for named in telemetry.log_providers().filter(|named| !known.get(&named.text).is_some_and(is_log)) {
            problems.push(unknown(document, named, "access logs", &known.names(is_log)));
        }
        for named in telemetry.span_providers().filter(|named| !known.get(&named.text).is_some_and(is_spans))
        {
            problems.push(unknown(document, named, "traces", &known.names(is_spans)));
        }
    }
    problems
}

fn unknown(document: &Document, named: &Located, of: &str, known: &[&str]) -> Problem {
    let message = format!("the mesh's settings have no extension provider {:?} for {of}", named.text);
    let hint = match known {
        [] => "add it to extension_providers".to_owned(),
        known => nearest(&named.text, known),
    };
    super::warning(document, named, message, &hint)
}
