//! Small changes to a document's text that leave all else as its owner wrote it: comments, order, quotes and indentation.
//! Pure. Whoever edits reads the result again and looks whether it says what it should.

use serde_saphyr::Location;

use super::tree::{Node, Value};

/// One step on the way from the root to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Into an object.
    Key(&'a str),
    /// Into a list.
    Index(usize),
}

/// A text that is being changed. Each change says whether it could be made.
pub struct Editor<'a> {
    text: &'a str,
    root: Node,
    edits: Vec<Edit>,
}

struct Edit {
    at: usize,
    removed: usize,
    inserted: String,
}

impl<'a> Editor<'a> {
    /// Of one YAML document; none when it cannot be read.
    pub fn open(text: &'a str) -> Option<Self> {
        let root = serde_saphyr::from_str(text).ok()?;
        Some(Self { text, root, edits: Vec::new() })
    }

    /// The string at the end of a path.
    pub fn text_at(&self, path: &[Step<'_>]) -> Option<&str> {
        match &self.find(path)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether a path leads to anything.
    pub fn has(&self, path: &[Step<'_>]) -> bool {
        self.find(path).is_some_and(|node| !matches!(node.value, Value::Null))
    }

    /// Replaces the scalar at the end of a path.
    pub fn set(&mut self, path: &[Step<'_>], value: &str) -> Option<()> {
        let node = self.find(path)?;
        let scalar =
            matches!(node.value, Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_));
        let at = self.offset(node.location).filter(|_| scalar)?;
        let removed = usize::try_from(node.location.span().byte_len()?).ok()?;
        self.text.get(at..at.checked_add(removed)?)?;
        self.edits.push(Edit { at, removed, inserted: value.to_owned() });
        Some(())
    }

    /// Adds a key at the beginning of the object at the end of a path; `value` is YAML of one line.
    pub fn add_key(&mut self, path: &[Step<'_>], key: &str, value: &str) -> Option<()> {
        let node = self.find(path)?;
        let Value::Map(entries) = &node.value else { return None };
        let at = self.offset(node.location)?;
        let (at, inserted) = match entries.first() {
            _ if self.text[at..].starts_with('{') => {
                (at + 1, format!("{key}: {value}{}", if entries.is_empty() { "" } else { ", " }))
            }
            Some((first, _)) => {
                let at = self.offset(first.location)?;
                (at, format!("{key}: {value}\n{}", self.indentation(at)?))
            }
            None => return None,
        };
        self.edits.push(Edit { at, removed: 0, inserted });
        Some(())
    }

    /// Adds an object at the beginning of the list at the end of a path; its values are YAML of one line.
    pub fn add_item(&mut self, path: &[Step<'_>], entries: &[(&str, String)]) -> Option<()> {
        let node = self.find(path)?;
        let Value::List(items) = &node.value else { return None };
        let at = self.offset(node.location)?;
        let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let (at, inserted) = if self.text[at..].starts_with('[') {
            (at + 1, format!("{{{}}}{}", entries.join(", "), if items.is_empty() { "" } else { ", " }))
        } else {
            let first = self.offset(items.first()?.location)?;
            let dash =
                self.text[..first].rfind('-').filter(|dash| self.text[dash + 1..first].trim().is_empty())?;
            let indentation = self.indentation(dash)?;
            let item = entries.join(&format!("\n{indentation}  "));
            (dash, format!("- {item}\n{indentation}"))
        };
        self.edits.push(Edit { at, removed: 0, inserted });
        Some(())
    }

    /// The text with every change.
    pub fn finish(mut self) -> String {
        self.edits.sort_by_key(|edit| edit.at);
        let mut out = String::with_capacity(self.text.len() + 256);
        let mut done = 0;
        for Edit { at, removed, inserted } in self.edits {
            out.push_str(&self.text[done.min(at)..at]);
            out.push_str(&inserted);
            done = at + removed;
        }
        out.push_str(&self.text[done..]);
        out
    }

    fn find(&self, path: &[Step<'_>]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, step| match (step, &node.value) {
            (Step::Key(wanted), Value::Map(entries)) => {
                entries.iter().find(|(key, _)| key.text == *wanted).map(|(_, value)| value)
            }
            (Step::Index(index), Value::List(items)) => items.get(*index),
            _ => None,
        })
    }

    fn offset(&self, location: Location) -> Option<usize> {
        let at = usize::try_from(location.span().byte_offset()?).ok()?;
        self.text.is_char_boundary(at).then_some(at)
    }

    /// The space that brings a new line to the column of a place.
    fn indentation(&self, at: usize) -> Option<String> {
        let line = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = &self.text[line..at];
        // What stands before it on its line can only be the dashes of the lists that it is the first item of.
        before.chars().all(|c| c == ' ' || c == '-').then(|| " ".repeat(before.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "\
# Who wrote this, and why.
metadata:
  name: reviews   # the name
spec:
  http:
  - name: default
    route:
    - destination:
        host: reviews
        subset: v1
      weight: 95 # most
    - destination: {host: reviews, subset: v2}
      weight: 5
";

    const FLOW: &str =
        "{\"metadata\": {}, \"spec\": {\"http\": [{\"route\": [{\"destination\": {\"host\": \"é\"}}]}]}}";

    fn route<'a>(rest: &[Step<'a>]) -> Vec<Step<'a>> {
        let way = [Step::Key("spec"), Step::Key("http"), Step::Index(0), Step::Key("route")];
        way.into_iter().chain(rest.iter().copied()).collect()
    }

    fn item() -> [(&'static str, String); 2] {
        [("destination", "{host: reviews, subset: v3}".to_owned()), ("weight", "1".to_owned())]
    }

    #[test]
    fn a_block_text_keeps_its_comments_and_its_shape() {
        let mut editor = Editor::open(BLOCK).unwrap();
        assert_eq!(editor.text_at(&[Step::Key("metadata"), Step::Key("name")]), Some("reviews"));
        editor.set(&route(&[Step::Index(0), Step::Key("weight")]), "94").unwrap();
        editor.add_item(&route(&[]), &item()).unwrap();
        editor.add_key(&[Step::Key("metadata")], "annotations", "{a: \"b\"}").unwrap();
        editor.add_key(&route(&[Step::Index(0), Step::Key("destination")]), "port", "{number: 80}").unwrap();
        editor.add_key(&route(&[Step::Index(0)]), "headers", "{}").unwrap();
        let expected = BLOCK
            .replace("95", "94")
            .replace("  name: reviews", "  annotations: {a: \"b\"}\n  name: reviews")
            .replace("        host: reviews\n", "        port: {number: 80}\n        host: reviews\n")
            .replacen(
                "    - destination:",
                "    - destination: {host: reviews, subset: v3}\n      weight: 1\n    - headers: {}\n      destination:",
                1,
            );
        assert_eq!(editor.finish(), expected);
    }

    #[test]
    fn a_flow_text_stays_one() {
        let mut editor = Editor::open(FLOW).unwrap();
        editor.add_item(&route(&[]), &item()).unwrap();
        editor.add_key(&[Step::Key("metadata")], "annotations", "{a: \"b\"}").unwrap();
        editor.add_key(&route(&[Step::Index(0), Step::Key("destination")]), "subset", "v1").unwrap();
        editor.set(&route(&[Step::Index(0), Step::Key("destination"), Step::Key("host")]), "e").unwrap();
        assert_eq!(
            editor.finish(),
            "{\"metadata\": {annotations: {a: \"b\"}}, \"spec\": {\"http\": [{\"route\": [{destination: {host: \
             reviews, subset: v3}, weight: 1}, {\"destination\": {subset: v1, \"host\": e}}]}]}}"
        );
    }

    #[test]
    fn what_is_not_there_cannot_be_changed() {
        let mut editor = Editor::open(BLOCK).unwrap();
        assert!(editor.set(&route(&[Step::Index(7)]), "1").is_none());
        assert!(editor.set(&route(&[]), "1").is_none());
        assert!(editor.add_item(&[Step::Key("metadata")], &item()).is_none());
        assert!(editor.add_key(&route(&[]), "a", "b").is_none());
        assert!(!editor.has(&[Step::Key("status")]));
        assert_eq!(editor.finish(), BLOCK);
        assert!(Editor::open("a: [").is_none());
    }
}
