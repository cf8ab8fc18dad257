//! What a reader of the log is told, position by position.

use weft_proto::registry::v1 as proto;

use super::*;

fn endpoint(id: &str, port: u32) -> Item {
    Item::endpoint(proto::Endpoint {
        id: id.into(),
        service: Some(proto::ServiceKey { namespace: "default".into(), name: "api".into() }),
        address: "10.0.0.1".into(),
        ports: [("http".to_owned(), port)].into(),
        ..Default::default()
    })
    .unwrap()
}

fn listed() -> Log {
    let mut log = Log::new(8);
    log.listing(vec![endpoint("a", 1), endpoint("b", 2)], "");
    log
}

#[track_caller]
fn steps(log: &mut Log, position: u64) -> Vec<Step> {
    match log.plan(Some(position)) {
        Plan::Steps { steps, .. } => steps,
        other => panic!("expected steps, got {other:?}"),
    }
}

#[test]
fn nothing_is_listed_before_the_source_has_listed() {
    let mut log = Log::new(8);
    assert_eq!(log.plan(None), Plan::Wait);
    let stale = Condition::Stale("no answer".into());
    log.condition(stale.clone());
    assert_eq!(log.plan(None), Plan::Steps { steps: vec![Step::Condition(stale)], position: 1 });
}

#[test]
fn a_newcomer_gets_the_view_as_a_listing() {
    let Plan::Listing(listing) = listed().plan(None) else { panic!("no listing") };
    assert_eq!((listing.epoch, listing.items.len(), listing.position), (1, 2, 1));
}

#[test]
fn an_unchanged_object_is_not_sent_again() {
    let mut log = listed();
    log.upsert(endpoint("a", 1));
    log.listing(vec![endpoint("a", 1), endpoint("b", 2)], "");
    assert_eq!(log.plan(Some(1)), Plan::Wait);
}

#[test]
fn a_trusted_listing_becomes_the_difference() {
    let mut log = listed();
    log.listing(vec![endpoint("b", 3)], "");
    assert_eq!(steps(&mut log, 1), [Step::Upsert(endpoint("b", 3)), Step::Remove(Key::Endpoint("a".into()))]);
    assert_eq!(log.counts().endpoints, 1);
}

#[test]
fn a_doubtful_listing_that_shrinks_is_told_as_a_listing_with_its_doubt() {
    let mut log = listed();
    log.listing(vec![endpoint("b", 2)], "the index went back");
    let Plan::Listing(listing) = log.plan(Some(1)) else { panic!("no listing") };
    assert_eq!((listing.items.len(), listing.doubt.as_str()), (1, "the index went back"));
}

#[test]
fn a_doubtful_listing_that_loses_nothing_is_told_as_steps() {
    let mut log = listed();
    log.listing(vec![endpoint("a", 1), endpoint("b", 2), endpoint("c", 3)], "the index went back");
    assert_eq!(steps(&mut log, 1), [Step::Upsert(endpoint("c", 3))]);
}

#[test]
fn a_reader_behind_the_kept_steps_gets_a_listing() {
    let mut log = listed();
    for port in 1..=9 {
        log.upsert(endpoint("c", port));
    }
    assert!(matches!(log.plan(Some(1)), Plan::Listing(_)));
    assert_eq!(steps(&mut log, 2).len(), 8);
}

#[test]
fn a_position_that_was_never_given_out_gets_a_listing() {
    assert!(matches!(listed().plan(Some(7)), Plan::Listing(_)));
}
