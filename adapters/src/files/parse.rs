//! From the text of one file to its entries, or to everything that is wrong with it, each with its place. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use weft_proto::{document::kind_in_keys, registry::v1 as proto};

use super::format::{Document, EndpointSpec, Header, ServiceEntrySpec, ServiceSpec, WorkloadEntrySpec};

/// A place in a file, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what to do.
    pub reason: String,
}

/// One document of a file, understood.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) object: Object,
}

#[derive(Debug)]
pub(super) enum Object {
    Service(ServiceSpec),
    Endpoint(Box<EndpointSpec>),
    ServiceEntry(Box<ServiceEntrySpec>),
    WorkloadEntry(Box<WorkloadEntrySpec>),
    Document { kind: String, document: proto::Document },
}

/// Every document of a file, or every problem: a file counts as a whole.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Entry>, Vec<Problem>> {
    let file: Arc<str> = file.into();
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for chunk in chunks(text) {
        match entry(&file, chunk) {
            Ok(entry) => entries.push(entry),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(entries) } else { Err(problems) }
}

/// The text of one document, with the line that it starts on and the first line that says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk<'a> {
    text: &'a str,
    line: u64,
    first: u64,
}

/// Cuts a stream into its documents. `---` in the first column always starts one, even inside a block scalar.
fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut first, mut offset) = (0, 1, None, 0);
    let mut close = |from: usize, to: usize, line: u64, first: Option<u64>| {
        if let Some(first) = first {
            chunks.push(Chunk { text: &text[from..to], line, first });
        }
    };
    for (line, content) in (1..).zip(text.split_inclusive('\n')) {
        let marker = content
            .strip_prefix("---")
            .filter(|rest| rest.trim_start().len() < rest.len() || rest.is_empty());
        if marker.is_some() {
            close(start, offset, start_line, first);
            (start, start_line, first) = (offset, line, None);
        }
        let said = marker.unwrap_or(content).trim();
        if first.is_none() && !said.is_empty() && !said.starts_with('#') && said != "..." {
            first = Some(line);
        }
        offset += content.len();
    }
    close(start, text.len(), start_line, first);
    chunks
}

fn entry(file: &Arc<str>, chunk: Chunk<'_>) -> Result<Entry, Problem> {
    let header: Header = read(file, chunk)?;
    let place = Place { file: file.clone(), line: chunk.first, column: 1 };
    let group = header.api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, header.kind.as_str()) {
        ("weft.dev", "Service") => known(file, chunk, place, Object::Service),
        ("weft.dev", "Endpoint") => known(file, chunk, place, |spec| Object::Endpoint(Box::new(spec))),
        ("networking.istio.io", "ServiceEntry") => {
            known(file, chunk, place, |spec| Object::ServiceEntry(Box::new(spec)))
        }
        ("networking.istio.io", "WorkloadEntry") => {
            known(file, chunk, place, |spec| Object::WorkloadEntry(Box::new(spec)))
        }
        _ => Ok(Entry {
            namespace: header.metadata.namespace,
            name: header.metadata.name,
            labels: BTreeMap::new(),
            object: Object::Document {
                kind: kind_in_keys(&header.api_version, &header.kind),
                document: proto::Document {
                    yaml: chunk.text.to_owned(),
                    origin: file.to_string(),
                    line: u32::try_from(chunk.line).unwrap_or(u32::MAX),
                },
            },
            place,
        }),
    }
}

fn known<Spec: DeserializeOwned>(
    file: &Arc<str>,
    chunk: Chunk<'_>,
    place: Place,
    object: impl FnOnce(Spec) -> Object,
) -> Result<Entry, Problem> {
    let document: Document<Spec> = read(file, chunk)?;
    let metadata = document.metadata;
    Ok(Entry {
        place,
        namespace: metadata.namespace,
        name: metadata.name,
        labels: metadata.labels,
        object: object(document.spec),
    })
}

fn read<T: DeserializeOwned>(file: &Arc<str>, chunk: Chunk<'_>) -> Result<T, Problem> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(chunk.text, options).map_err(|error| {
        let (line, column) = match error.location() {
            Some(location) => (chunk.line + location.line().max(1) - 1, location.column().max(1)),
            None => (chunk.first, 1),
        };
        let text = error.to_string();
        // The parser counts from the start of the document; people count from the start of the file.
        let reason = match text.find(" at line ") {
            Some(end) => text[..end].to_owned(),
            None => text,
        };
        let reason =
            reason.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ').to_owned();
        Problem { place: Place { file: file.clone(), line, column }, reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_cut_where_yaml_cuts_them_and_keep_their_lines() {
        let text = "# only a comment\n---\na: 1\n---  # second\nb: 2\n...\n---\n";
        assert_eq!(
            chunks(text),
            [
                Chunk { text: "---\na: 1\n", line: 2, first: 3 },
                Chunk { text: "---  # second\nb: 2\n...\n", line: 4, first: 5 },
            ]
        );
        assert_eq!(chunks(""), []);
        assert_eq!(chunks("a: '----'\n")[0].text, "a: '----'\n");
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let problems = parse("mesh.yaml", text).expect_err("must be refused");
        let all = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
        assert!(all.contains(expected), "'{expected}' is not in:\n{all}");
    }

    const GOOD: &str = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: api}\nspec: {ports: []}\n";

    #[test]
    fn an_unknown_field_is_named_with_its_place_in_the_file() {
        let text = format!("{GOOD}---\n{}", GOOD.replace("ports: []", "ports: [], colour: red"));
        refused(&text, "mesh.yaml:9:19: ");
        refused(&text, "colour");
    }

    #[test]
    fn broken_yaml_is_named_with_its_place_in_the_file() {
        refused(&format!("{GOOD}---\nkind: [\n"), "mesh.yaml:");
    }

    #[test]
    fn a_missing_name_is_refused() {
        refused("apiVersion: weft.dev/v1\nkind: Service\nmetadata: {}\n", "name");
    }

    #[test]
    fn every_problem_of_a_file_is_told_at_once() {
        let bad = GOOD.replace("ports", "prots");
        assert_eq!(parse("f", &format!("{bad}---\n{bad}")).unwrap_err().len(), 2);
    }

    #[test]
    fn a_policy_passes_through_with_its_text_and_line() {
        let policy =
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: api}\nspec: {x: 1}\n";
        let entries = parse("mesh.yaml", &format!("{GOOD}---\n{policy}")).unwrap();
        let Object::Document { kind, document } = &entries[1].object else { panic!("no document") };
        assert_eq!((kind.as_str(), document.line), ("VirtualService", 5));
        assert_eq!(document.yaml, format!("---\n{policy}"));
    }
}
