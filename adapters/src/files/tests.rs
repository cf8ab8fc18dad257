//! What a directory says as its files change.

use super::*;
use crate::catalog::Key;

fn service(name: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{name: http, number: 80}}]\n"
    )
}

fn found(files: &[(&str, &str)]) -> Vec<Found> {
    files.iter().map(|(name, text)| (PathBuf::from(name), Ok(text.as_bytes().to_vec()))).collect()
}

fn names(view: &View) -> Vec<String> {
    view.items.iter().map(|item| item.key().to_string()).collect()
}

#[test]
fn a_broken_file_keeps_what_it_said_and_the_others_move_on() {
    let mut memory = Memory::default();
    memory.update(found(&[("a.yaml", &service("a")), ("b.yaml", &service("b"))]), "x").unwrap();
    let view = memory.update(found(&[("a.yaml", "kind: ["), ("b.yaml", &service("c"))]), "x").unwrap();
    assert_eq!(names(&view), ["service default/a", "service default/c"]);
    assert!(matches!(&memory.condition, Condition::Stale(reason) if reason.starts_with("a.yaml:1:")));
    assert_eq!(view.doubt, "");
    let healed = memory.update(found(&[("a.yaml", &service("d")), ("b.yaml", &service("c"))]), "x").unwrap();
    assert_eq!(names(&healed), ["service default/c", "service default/d"]);
    assert_eq!(memory.condition, Condition::Live);
}

#[test]
fn a_file_that_was_never_understood_makes_the_listing_doubtful() {
    let view =
        Memory::default().update(found(&[("a.yaml", "kind: ["), ("b.yaml", &service("b"))]), "x").unwrap();
    assert_eq!(view.doubt, "a.yaml was never understood");
}

#[test]
fn a_deleted_file_takes_its_objects_along() {
    let mut memory = Memory::default();
    memory.update(found(&[("a.yaml", &service("a")), ("b.yaml", &service("b"))]), "x").unwrap();
    let view = memory.update(found(&[("b.yaml", &service("b"))]), "x").unwrap();
    assert_eq!(names(&view), ["service default/b"]);
}

#[test]
fn the_same_content_is_no_change() {
    let mut memory = Memory::default();
    assert!(memory.update(found(&[("a.yaml", &service("a"))]), "x").is_some());
    assert!(memory.update(found(&[("a.yaml", &service("a"))]), "x").is_none());
}

#[test]
fn an_empty_directory_is_listed_as_empty() {
    let view = Memory::default().update(Vec::new(), "x").unwrap();
    assert!(view.items.is_empty() && view.doubt.is_empty());
}

#[test]
fn only_visible_yaml_is_read() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.yaml", "b.yml", ".c.yaml", "d.txt"] {
        std::fs::write(directory.path().join(name), service(&name.replace('.', "-"))).unwrap();
    }
    let scanned = scan(directory.path()).unwrap();
    let names: Vec<_> = scanned.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a.yaml", "b.yml"]);
    assert!(scan(&directory.path().join("missing")).is_err());
}

#[test]
fn the_example_in_the_documentation_and_the_shipped_ones_are_understood() {
    let text: String = include_str!("../files.rs")
        .lines()
        .skip_while(|line| *line != "//! ```yaml")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| format!("{}\n", line.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default()))
        .collect();
    let view = Memory::default().update(found(&[("doc.yaml", &text)]), "x").unwrap();
    assert_eq!(view.problems, []);
    assert!(view.items.iter().any(|item| *item.key() == Key::Endpoint("shop/reviews-2".into())));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/files");
    let view = Memory::default().update(scan(&shipped).unwrap(), "x").unwrap();
    assert_eq!(view.problems, []);
    assert!(!view.items.is_empty());
}
