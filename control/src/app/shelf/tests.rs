//! Which document is in force.

use super::*;
use crate::{
    registry::fact::DocumentFact,
    store::{DocumentKey, StoredDocument},
};

fn text(host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: api\nspec:\n  \
         hosts: [{host}]\n  http:\n  - route:\n    - destination:\n        host: api\n"
    )
}

fn key() -> DocumentKey {
    DocumentKey::new("VirtualService", "default", "api")
}

fn stored(yaml: &str) -> Snapshot {
    let document = StoredDocument {
        key: key(),
        yaml: yaml.into(),
        version: 1,
        owner: "api".into(),
        stored_at_seconds: 0,
    };
    Snapshot { revision: 1, documents: BTreeMap::from([(key(), Arc::new(document))]) }
}

fn told(owner: &str, yaml: &str) -> SourceDocument {
    let document = DocumentFact { key: key(), yaml: yaml.into(), origin: "api.yaml".into(), line: 3 };
    SourceDocument { owner: owner.into(), document }
}

#[track_caller]
fn check(in_force: &InForce, host: &str) {
    let found: Vec<&str> = in_force.set.iter().map(|document| &*document.yaml).collect();
    assert_eq!(found.len(), 1);
    assert!(found[0].contains(&format!("hosts: [{host}]")), "{found:?}");
}

#[test]
fn an_applied_document_hides_a_told_one_and_the_first_source_hides_the_second() {
    let mut shelf = Shelf::default();
    let sources = [told("a", &text("first")), told("b", &text("second"))];
    check(&shelf.arrange(&Snapshot::default(), &sources), "first");
    check(&shelf.arrange(&stored(&text("applied")), &sources), "applied");
    check(&shelf.arrange(&Snapshot::default(), &sources), "first");
}

#[test]
fn what_stays_the_same_is_parsed_once() {
    let mut shelf = Shelf::default();
    let first = shelf.arrange(&stored(&text("api")), &[]);
    let second = shelf.arrange(&stored(&text("api")), &[]);
    let of = |in_force: &InForce| in_force.set.iter().next().unwrap().clone();
    assert!(Arc::ptr_eq(&of(&first), &of(&second)));
}

#[test]
fn a_text_that_cannot_be_read_does_not_unseat_its_good_predecessor() {
    let mut shelf = Shelf::default();
    check(&shelf.arrange(&Snapshot::default(), &[told("a", &text("good"))]), "good");
    let broken = text("bad").replace("hosts", "hostss");
    for _ in 0..2 {
        let in_force = shelf.arrange(&Snapshot::default(), &[told("a", &broken)]);
        check(&in_force, "good");
        assert_eq!(&*in_force.problems[0].origin, "api.yaml");
    }
}

#[test]
fn what_is_gone_is_no_longer_in_force() {
    let mut shelf = Shelf::default();
    shelf.arrange(&stored(&text("api")), &[]);
    assert_eq!(shelf.arrange(&Snapshot::default(), &[]).set.iter().count(), 0);
}
