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
        stored_at_seconds: 9,
        created_at_seconds: 7,
    };
    Snapshot { revision: 1, documents: BTreeMap::from([(key(), Arc::new(document))]) }
}

fn told(owner: &str, yaml: &str, good: Option<&str>) -> SourceDocument {
    let text = |yaml: &str| Arc::new(DocumentText { yaml: yaml.into(), origin: "api.yaml".into(), line: 3 });
    let document = DocumentFact {
        key: key(),
        text: text(yaml),
        complaint: good.map(|_| "it cannot be read".into()),
        good: good.map(text),
        since_seconds: 5,
    };
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
    let sources = [told("a", &text("first"), None), told("b", &text("second"), None)];
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
    let broken = text("bad").replace("hosts", "hostss");
    let in_force = Shelf::default().arrange(&Snapshot::default(), &[told("a", &broken, Some(&text("good")))]);
    check(&in_force, "good");
    assert_eq!(&*in_force.problems[0].origin, "api.yaml");
    assert_eq!(&*in_force.problems[0].document, "VirtualService/default/api");
}

#[test]
fn a_document_is_as_old_as_its_keeper_says() {
    let dated =
        text("api").replace("  name: api\n", "  name: api\n  creationTimestamp: 1970-01-01T00:00:03Z\n");
    let age = |stored: &Snapshot, told: &[SourceDocument]| {
        Shelf::default().arrange(stored, told).set.iter().next().unwrap().created_at_seconds
    };
    assert_eq!(age(&stored(&dated), &[]), 7);
    assert_eq!(age(&Snapshot::default(), &[told("a", &text("api"), None)]), 5);
    assert_eq!(age(&Snapshot::default(), &[told("a", &dated, None)]), 3);
}

#[test]
fn what_is_gone_is_no_longer_in_force() {
    let mut shelf = Shelf::default();
    shelf.arrange(&stored(&text("api")), &[]);
    assert_eq!(shelf.arrange(&Snapshot::default(), &[]).set.iter().count(), 0);
}
