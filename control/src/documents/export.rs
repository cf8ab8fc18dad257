//! Reads `exportTo`.

use std::sync::Arc;

use super::{
    problem::Report,
    reader::{At, Object},
};
use crate::model::ExportTo;

/// Reads `exportTo`.
pub(super) fn read(object: &mut Object<'_>, report: &mut Report) -> ExportTo {
    let items = object.list("exportTo", report);
    let words: Vec<_> = items.iter().filter_map(|at| Some((at, namespace(at, report)?))).collect();
    let alone = |word: &str| words.iter().find(|(_, found)| **found == *word);
    for word in ["*", "~"] {
        if let Some((at, _)) = alone(word).filter(|_| words.len() > 1) {
            at.fail(report, format!("{word:?} stands alone"), "remove it, or the others");
        }
    }
    if words.is_empty() || alone("*").is_some() {
        return ExportTo::Everywhere;
    }
    ExportTo::Namespaces(words.into_iter().map(|(_, word)| word).filter(|word| **word != *"~").collect())
}

fn namespace(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    let label = |text: &str| {
        !text.is_empty()
            && text.len() <= 63
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if matches!(&*text, "." | "*" | "~") || label(&text) {
        return Some(text);
    }
    at.fail(
        report,
        format!("{text:?} is no namespace"),
        "a name, . for this namespace, * for all, ~ for none",
    );
    None
}
