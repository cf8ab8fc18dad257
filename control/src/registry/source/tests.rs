//! What keeps a source's facts, and what lets them go.

use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{
    model::{Endpoint, Health, Locality, Resolution, ServiceKey},
    registry::fact::{DocumentFact, DocumentText, EndpointFact, ServiceFact},
    store::DocumentKey,
};

const HOLD_DOWN: Duration = Duration::from_secs(60);

fn speaker() -> Speaker {
    Speaker { name: "consul".into(), platform: "consul".into(), cluster: "dc1".into(), region: "".into() }
}

fn key() -> ServiceKey {
    ServiceKey::new("default", "api")
}

fn service() -> Object {
    Object::Service(ServiceFact {
        key: key(),
        ports: Vec::new(),
        aliases: Vec::new(),
        resolution: Resolution::Static,
    })
}

fn endpoint(number: usize) -> Object {
    let endpoint = Endpoint {
        id: format!("consul/{number}").into(),
        address: format!("10.0.0.{number}").into(),
        ports: BTreeMap::new(),
        weight: 1,
        health: Health::Healthy,
        locality: Locality::default(),
        labels: BTreeMap::new(),
        identity: "".into(),
        workload: "".into(),
        cluster: "dc1".into(),
        mtls: false,
        network: "".into(),
        stale: false,
    };
    Object::Endpoint(EndpointFact { service: key(), endpoint: Arc::new(endpoint), network: "".into() })
}

fn document(name: &str, yaml: &str) -> Object {
    Object::Document(DocumentFact {
        key: DocumentKey::new("Gateway", "default", name),
        text: Arc::new(DocumentText { yaml: yaml.into(), origin: format!("{name}.yaml").into(), line: 1 }),
        complaint: yaml.starts_with("bad").then(|| "bad".into()),
        good: None,
        since_seconds: 0,
    })
}

/// A source and its log.
struct Story {
    source: Source,
    sequence: u64,
    now: Now,
}

impl Story {
    fn new() -> Self {
        let mut source = Source::new(speaker());
        source.connect(speaker(), "one");
        Self { source, sequence: 0, now: Now { instant: Instant::now(), unix_seconds: 1 } }
    }

    #[track_caller]
    fn step(&mut self, step: Step) -> Changed {
        self.sequence += 1;
        self.source.step(self.sequence, step, self.now).unwrap()
    }

    fn list(&mut self, endpoints: std::ops::Range<usize>, doubt: &str) {
        self.step(Step::Begin(1));
        self.step(Step::Upsert(Box::new(service())));
        for number in endpoints {
            self.step(Step::Upsert(Box::new(endpoint(number))));
        }
        self.step(Step::End(1, doubt.to_owned()));
    }

    /// Text and text in force of every document.
    fn documents(&self) -> Vec<(&str, Option<&str>)> {
        let facts = self.source.facts().documents();
        facts.map(|fact| (&*fact.text.yaml, fact.readable().map(|text| &*text.yaml))).collect()
    }

    #[track_caller]
    fn check(&self, endpoints: usize, held: usize, state: State) {
        let found = (self.source.facts().endpoints().len(), self.source.held(), self.source.state().0);
        assert_eq!(found, (endpoints, held, state));
    }
}

#[test]
fn a_partial_listing_removes_nothing() {
    let mut story = Story::new();
    story.list(0..10, "");
    story.step(Step::Begin(2));
    story.step(Step::Upsert(Box::new(endpoint(0))));
    story.check(10, 0, State::Live);
}

#[test]
fn a_trusted_listing_replaces_the_one_before() {
    let mut story = Story::new();
    story.list(0..10, "");
    story.list(0..1, "");
    story.check(1, 0, State::Live);
}

#[test]
fn a_doubtful_listing_that_shrinks_much_is_held_and_marked_stale() {
    let mut story = Story::new();
    story.list(0..10, "");
    story.list(0..4, "index went back");
    story.check(10, 6, State::Held);
    assert_eq!(story.source.facts().endpoints().filter(|fact| fact.endpoint.stale).count(), 6);
}

#[test]
fn a_doubtful_listing_that_shrinks_little_is_let_through() {
    let mut story = Story::new();
    story.list(0..10, "");
    story.list(0..5, "index went back");
    story.check(5, 0, State::Live);
}

#[test]
fn a_doubtful_listing_never_empties_a_service() {
    let mut story = Story::new();
    story.list(0..1, "");
    story.list(0..0, "server changed");
    story.check(1, 1, State::Held);
}

#[test]
fn the_hold_down_runs_out() {
    let mut story = Story::new();
    story.list(0..10, "");
    story.list(0..1, "server changed");
    let almost = story.now.instant + HOLD_DOWN - Duration::from_millis(1);
    assert!(story.source.tick(almost, HOLD_DOWN).is_empty());
    assert!(!story.source.tick(story.now.instant + HOLD_DOWN, HOLD_DOWN).is_empty());
    story.check(1, 0, State::Live);
}

#[test]
fn more_doubt_does_not_lengthen_the_hold_down() {
    let mut story = Story::new();
    story.list(0..10, "");
    story.list(0..1, "server changed");
    let start = story.now.instant;
    story.now.instant += Duration::from_secs(50);
    story.list(0..1, "server changed");
    story.check(10, 9, State::Held);
    story.source.tick(start + HOLD_DOWN, HOLD_DOWN);
    story.check(1, 0, State::Live);
}

#[test]
fn a_confirmation_lets_the_removal_through() {
    let mut story = Story::new();
    story.list(0..10, "");
    story.list(0..1, "server changed");
    assert_eq!(story.source.confirm().0, 9);
    story.check(1, 0, State::Live);
}

#[test]
fn facts_that_return_are_no_longer_stale() {
    let mut story = Story::new();
    story.list(0..10, "");
    story.list(0..1, "server changed");
    for number in 1..10 {
        story.step(Step::Upsert(Box::new(endpoint(number))));
    }
    story.check(10, 0, State::Live);
    assert!(story.source.facts().endpoints().all(|fact| !fact.endpoint.stale));
}

#[test]
fn an_explicit_removal_is_not_held() {
    let mut story = Story::new();
    story.list(0..10, "");
    story.list(0..1, "server changed");
    story.step(Step::Remove(Gone::Endpoint("consul/5".into())));
    story.check(9, 8, State::Held);
}

#[test]
fn a_lost_stream_keeps_every_fact() {
    let mut story = Story::new();
    story.list(0..10, "");
    story.source.disconnect();
    story.check(10, 0, State::Lost);
}

#[test]
fn the_same_incarnation_resumes_and_another_lists_anew() {
    let mut story = Story::new();
    story.list(0..3, "");
    story.source.disconnect();
    assert_eq!(story.source.connect(speaker(), "one"), story.sequence);
    assert_eq!(story.source.state().0, State::Live);
    assert_eq!(story.source.connect(speaker(), "two"), 0);
    assert_eq!(story.source.state().0, State::Stale);
}

#[test]
fn a_repeated_step_is_passed_over_and_a_gap_is_refused() {
    let mut story = Story::new();
    story.list(0..3, "");
    let again = Step::Remove(Gone::Endpoint("consul/1".into()));
    assert!(story.source.step(1, again.clone(), story.now).unwrap().is_empty());
    let due = story.sequence + 1;
    assert_eq!(
        story.source.step(due + 1, again, story.now),
        Err(StepError::Gap { expected: due, found: due + 1 })
    );
    assert!(story.source.step(due + 1, Step::Begin(9), story.now).is_ok());
}

#[test]
fn an_end_without_its_begin_is_refused() {
    let mut story = Story::new();
    assert_eq!(story.source.step(1, Step::End(4, String::new()), story.now), Err(StepError::NoListing(4)));
}

#[test]
fn a_document_that_cannot_be_read_keeps_the_last_text_that_could() {
    let mut story = Story::new();
    story.step(Step::Upsert(Box::new(document("a", "good 1"))));
    story.now.unix_seconds = 2;
    story.step(Step::Upsert(Box::new(document("a", "bad 1"))));
    assert_eq!(story.documents(), [("bad 1", Some("good 1"))]);
    // A listing is checked against what was before it, however often it tries.
    for epoch in 1..3 {
        story.step(Step::Begin(epoch));
        story.step(Step::Upsert(Box::new(document("a", "bad 2"))));
        story.step(Step::Upsert(Box::new(document("b", "bad 3"))));
        story.step(Step::End(epoch, String::new()));
        assert_eq!(story.documents(), [("bad 2", Some("good 1")), ("bad 3", None)]);
    }
    story.step(Step::Upsert(Box::new(document("a", "good 2"))));
    assert_eq!(story.documents()[0], ("good 2", Some("good 2")));
    let ages: Vec<i64> = story.source.facts().documents().map(|fact| fact.since_seconds).collect();
    assert_eq!(ages, [1, 2]);
}

#[test]
fn what_a_refused_object_would_have_replaced_outlives_the_listing() {
    let mut story = Story::new();
    story.list(0..3, "");
    story.step(Step::Upsert(Box::new(document("a", "good"))));
    story.step(Step::Begin(2));
    story.step(Step::Upsert(Box::new(service())));
    for replaces in [
        Replaces::One(Gone::Endpoint("consul/1".into())),
        Replaces::One(Gone::Endpoint("consul/never-seen".into())),
        Replaces::DocumentsOf("a.yaml".into()),
    ] {
        story.sequence += 1;
        story.source.refuse(story.sequence, Some(replaces)).unwrap();
    }
    story.step(Step::End(2, String::new()));
    story.check(1, 0, State::Live);
    assert_eq!(story.documents(), [("good", Some("good"))]);
}

#[test]
fn a_doubtful_listing_drops_no_document() {
    let mut story = Story::new();
    story.step(Step::Upsert(Box::new(document("a", "good"))));
    story.step(Step::Begin(1));
    story.step(Step::End(1, "a file was never understood".to_owned()));
    assert_eq!(story.documents().len(), 1);
    let reason = "removal of 0 endpoints and 1 documents held back: a file was never understood";
    assert_eq!(story.source.state(), (State::Held, reason.to_owned()));
    assert!(!story.source.tick(story.now.instant + HOLD_DOWN, HOLD_DOWN).is_empty());
    assert_eq!(story.documents().len(), 0);
}
