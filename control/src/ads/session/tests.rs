//! What a session sends, for each thing that a client may say.

use std::collections::HashMap;

use super::*;

mod model;

impl Session {
    /// Takes a request and says what follows, where it changes nothing of what is served.
    pub(crate) fn handle_request(&mut self, request: Request) -> Result<Vec<Response>, TooManyNames> {
        self.take(request)?;
        Ok(self.advance())
    }
}

/// `clusters a=1 b=2; routes r=1` as a set: a name and its version.
fn set(text: &str) -> Arc<ResourceSet> {
    let mut set = ResourceSet::default();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let mut words = part.split_whitespace();
        let kind = kind(words.next().unwrap());
        for word in words {
            let (name, version) = word.split_once('=').unwrap();
            set.insert(kind, resource(name, version.parse().unwrap()));
        }
    }
    Arc::new(set)
}

fn kind(word: &str) -> Kind {
    match word {
        "clusters" => Kind::Cluster,
        "endpoints" => Kind::Endpoints,
        "listeners" => Kind::Listener,
        "routes" => Kind::Routes,
        "hosts" => Kind::VirtualHost,
        other => panic!("{other} is no kind"),
    }
}

fn resource(name: &str, version: u64) -> Arc<Resource> {
    let documents = Arc::from([Arc::from(format!("VirtualService/default/{name}"))]);
    Arc::new(Resource::new(Kind::Cluster, name.into(), version, version.to_string().into(), documents))
}

/// A response as text: `clusters a=1 -b`.
fn text(responses: &[Response]) -> String {
    let word = |kind| match kind {
        Kind::Cluster => "clusters",
        Kind::Endpoints => "endpoints",
        Kind::Secret => "secrets",
        Kind::Listener => "listeners",
        Kind::Routes => "routes",
        Kind::VirtualHost => "hosts",
        Kind::Names => "names",
    };
    let one = |response: &Response| {
        let mut text = word(response.kind).to_owned();
        for resource in &response.resources {
            text += &format!(" {}={}", resource.name, resource.version);
        }
        for name in &response.removed {
            text += &format!(" -{name}");
        }
        text
    };
    responses.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn delta(kind: Kind, subscribe: &[&str], unsubscribe: &[&str]) -> Request {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let names = Names::Change {
        subscribe: owned(subscribe),
        unsubscribe: owned(unsubscribe),
        initial: HashMap::new(),
    };
    Request { kind, nonce: String::new(), error: None, names }
}

fn sotw(kind: Kind, nonce: u64, names: &[&str]) -> Request {
    let nonce = if nonce == 0 { String::new() } else { nonce.to_string() };
    let names = Names::All(names.iter().map(|name| (*name).to_owned()).collect());
    Request { kind, nonce, error: None, names }
}

fn ack(response: &Response) -> Request {
    Request { nonce: response.nonce.to_string(), ..delta(response.kind, &[], &[]) }
}

fn nack(response: &Response, message: &str) -> Request {
    Request { error: Some(message.to_owned()), ..ack(response) }
}

fn session(protocol: Protocol, world: &str) -> Session {
    Session::new(protocol, set(world), 1)
}

/// A delta client that has said `*` for every type and taken everything.
fn settled(world: &str) -> Session {
    let mut session = session(Protocol::Delta, world);
    for kind in Kind::ALL {
        let sent = session.handle_request(delta(kind, &["*"], &[])).unwrap();
        ack_all(&mut session, sent);
    }
    assert!(session.is_settled());
    session
}

/// Acknowledges everything until nothing more comes; returns all that came.
#[track_caller]
fn ack_all(session: &mut Session, sent: Vec<Response>) -> Vec<Response> {
    let mut queue = std::collections::VecDeque::from(sent);
    let mut all = Vec::new();
    while let Some(response) = queue.pop_front() {
        queue.extend(session.handle_request(ack(&response)).unwrap());
        all.push(response);
    }
    all
}

#[test]
fn a_first_request_without_names_asks_for_all_clusters_but_for_no_endpoints() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut session = session(protocol, "clusters a=1 b=1; endpoints a=1");
        let first = |kind| match protocol {
            Protocol::Delta => delta(kind, &[], &[]),
            Protocol::Sotw => sotw(kind, 0, &[]),
        };
        assert_eq!(text(&session.handle_request(first(Kind::Cluster)).unwrap()), "clusters a=1 b=1");
        assert_eq!(text(&session.handle_request(first(Kind::Endpoints)).unwrap()), "");
    }
}

#[test]
fn an_empty_world_is_answered_so_that_the_client_need_not_wait() {
    let mut by_delta = session(Protocol::Delta, "");
    assert_eq!(text(&by_delta.handle_request(delta(Kind::Cluster, &[], &[])).unwrap()), "clusters");
    let mut by_sotw = session(Protocol::Sotw, "");
    assert_eq!(text(&by_sotw.handle_request(sotw(Kind::Listener, 0, &["x"])).unwrap()), "listeners");
}

#[test]
fn a_name_that_does_not_exist_is_told_removed_once_and_sent_when_it_appears() {
    let mut session = session(Protocol::Delta, "routes r=1");
    let sent = session.handle_request(delta(Kind::Routes, &["r", "nowhere"], &[])).unwrap();
    assert_eq!(text(&sent), "routes r=1 -nowhere");
    assert_eq!(text(&session.handle_request(ack(&sent[0])).unwrap()), "");
    assert_eq!(text(&session.handle_world(set("routes r=1 nowhere=4"), 2)), "routes nowhere=4");
}

#[test]
fn only_changes_are_sent_and_an_equal_world_sends_nothing() {
    let mut session = settled("endpoints a=1 b=1");
    let sent = session.handle_world(set("endpoints a=2 b=1"), 2);
    assert_eq!(text(&sent), "endpoints a=2");
    ack_all(&mut session, sent);
    assert_eq!(text(&session.handle_world(set("endpoints a=2 b=1"), 3)), "");
    assert_eq!(session.acked_revision(), 3, "what does not concern it needs no ACK");
}

#[test]
fn routes_wait_for_the_clusters_they_may_name_and_old_clusters_for_the_routes() {
    let mut session = settled("clusters old=1; endpoints old=1; listeners l=1; routes r=1");
    let sent = session.handle_world(set("clusters new=1; endpoints new=1; listeners l=1; routes r=2"), 2);
    assert_eq!(text(&sent), "clusters new=1; endpoints new=1");
    assert_eq!(
        text(&session.handle_request(ack(&sent[0])).unwrap()),
        "",
        "its endpoints are still under way"
    );
    let sent = session.handle_request(ack(&sent[1])).unwrap();
    assert_eq!(text(&sent), "routes r=2");
    assert_eq!(session.acked_revision(), 1);
    let sent = session.handle_request(ack(&sent[0])).unwrap();
    assert_eq!(text(&sent), "endpoints -old; clusters -old");
    ack_all(&mut session, sent);
    assert_eq!((session.acked_revision(), session.is_settled()), (2, true));
}

#[test]
fn in_state_of_the_world_an_old_cluster_stays_listed_until_the_routes_have_changed() {
    let mut session = session(Protocol::Sotw, "clusters old=1; routes r=1");
    session.handle_request(sotw(Kind::Cluster, 0, &[])).unwrap();
    session.handle_request(sotw(Kind::Cluster, 1, &[])).unwrap();
    assert_eq!(text(&session.handle_request(sotw(Kind::Routes, 0, &["r"])).unwrap()), "routes r=1");
    session.handle_request(sotw(Kind::Routes, 2, &["r"])).unwrap();
    let sent = session.handle_world(set("clusters new=1; routes r=2"), 2);
    assert_eq!(text(&sent), "clusters new=1 old=1");
    assert_eq!(text(&session.handle_request(sotw(Kind::Cluster, 3, &[])).unwrap()), "routes r=2");
    assert_eq!(text(&session.handle_request(sotw(Kind::Routes, 4, &["r"])).unwrap()), "clusters new=1");
}

#[test]
fn worlds_that_come_before_the_ack_become_one_response() {
    let mut session = settled("endpoints a=1");
    let sent = session.handle_world(set("endpoints a=2"), 2);
    assert_eq!(text(&session.handle_world(set("endpoints a=3"), 3)), "");
    assert_eq!(text(&session.handle_world(set("endpoints a=4"), 4)), "");
    let next = session.handle_request(ack(&sent[0])).unwrap();
    assert_eq!(text(&next), "endpoints a=4");
    assert_eq!(session.acked_revision(), 2);
}

#[test]
fn an_updated_cluster_brings_its_endpoints_again_and_a_new_one_only_once() {
    let mut session = settled("clusters a=1 b=1; endpoints a=1 b=1");
    let sent = session.handle_world(set("clusters a=2 b=1 c=1; endpoints a=1 b=1 c=1"), 2);
    assert_eq!(text(&sent), "clusters a=2 c=1; endpoints a=1 c=1");
}

#[test]
fn a_refused_resource_is_not_sent_again_until_it_changes() {
    let mut session = settled("routes r=1");
    let sent = session.handle_world(set("routes r=2"), 2);
    assert_eq!(text(&session.handle_request(nack(&sent[0], "bad r")).unwrap()), "");
    assert_eq!(text(&session.handle_world(set("routes r=2 other=1"), 3)), "routes other=1");
    let (kind, refusal) = session.refusals().next().unwrap();
    assert_eq!((kind, &*refusal.message), (Kind::Routes, "bad r"));
    assert_eq!(refusal.documents, [Arc::from("VirtualService/default/r")]);
    assert_eq!(session.acked_revision(), 1);
}

#[test]
fn going_back_to_the_last_good_version_is_sent_and_clears_the_refusal() {
    let mut session = settled("routes r=1");
    let sent = session.handle_world(set("routes r=2"), 2);
    session.handle_request(nack(&sent[0], "bad")).unwrap();
    let sent = session.handle_world(set("routes r=1"), 3);
    assert_eq!(text(&sent), "routes r=1", "it may have taken part of the refused response");
    ack_all(&mut session, sent);
    assert_eq!((session.refusals().count(), session.acked_revision()), (0, 3));
}

#[test]
fn the_culprit_named_by_a_refusal_is_held_back_and_the_others_are_sent_again() {
    let mut session = settled("");
    let sent = session.handle_world(set("clusters api=1 api-v2=1 web=1"), 2);
    let sent = session.handle_request(nack(&sent[0], "cluster api-v2: no such filter")).unwrap();
    assert_eq!(text(&sent), "clusters api=1 web=1");
    ack_all(&mut session, sent);
    let (_, refusal) = session.refusals().next().unwrap();
    assert_eq!(refusal.documents, [Arc::from("VirtualService/default/api-v2")]);
}

#[test]
fn a_refusal_without_names_is_narrowed_down_to_the_one_bad_resource() {
    let mut session = settled("");
    let names: Vec<String> = (0..37).map(|i| format!("c{i:02}=1")).collect();
    let mut queue = session.handle_world(set(&format!("clusters {}", names.join(" "))), 2);
    let (mut taken, mut rounds) = (0, 0);
    while let Some(response) = queue.pop() {
        rounds += 1;
        assert!(rounds < 40, "it takes a few rounds, not one for each resource");
        let bad = response.resources.iter().any(|resource| &*resource.name == "c21");
        taken += if bad { 0 } else { response.resources.len() };
        let answer = if bad { nack(&response, "no") } else { ack(&response) };
        queue.extend(session.handle_request(answer).unwrap());
    }
    assert_eq!(taken, 36);
    assert_eq!(session.refusals().next().unwrap().1.documents, [Arc::from("VirtualService/default/c21")]);
}

#[test]
fn a_client_that_refuses_everything_is_left_alone_after_a_while() {
    let mut session = settled("");
    let names: Vec<String> = (0..500).map(|i| format!("c{i:03}=1")).collect();
    let mut queue = session.handle_world(set(&format!("clusters {}", names.join(" "))), 2);
    let mut rounds = 0;
    while let Some(response) = queue.pop() {
        rounds += 1;
        queue.extend(session.handle_request(nack(&response, "no")).unwrap());
    }
    assert!(rounds < 50, "{rounds} pushes");
}

#[test]
fn in_state_of_the_world_the_last_good_version_is_repeated_beside_other_changes() {
    let mut session = session(Protocol::Sotw, "clusters a=1 b=1");
    session.handle_request(sotw(Kind::Cluster, 0, &[])).unwrap();
    session.handle_request(sotw(Kind::Cluster, 1, &[])).unwrap();
    assert_eq!(text(&session.handle_world(set("clusters a=2 b=1"), 2)), "clusters a=2 b=1");
    let refused = Request { error: Some("a is bad".into()), ..sotw(Kind::Cluster, 2, &[]) };
    assert_eq!(text(&session.handle_request(refused).unwrap()), "");
    assert_eq!(text(&session.handle_world(set("clusters a=2 b=2"), 3)), "clusters a=1 b=2");
}

#[test]
fn in_state_of_the_world_an_ack_with_other_names_is_a_subscription() {
    let mut session = session(Protocol::Sotw, "endpoints a=1 b=1");
    assert_eq!(text(&session.handle_request(sotw(Kind::Endpoints, 0, &["a"])).unwrap()), "endpoints a=1");
    let sent = session.handle_request(sotw(Kind::Endpoints, 1, &["a", "b"])).unwrap();
    assert_eq!(text(&sent), "endpoints b=1");
    assert_eq!(text(&session.handle_request(sotw(Kind::Endpoints, 2, &["b"])).unwrap()), "");
    assert_eq!(text(&session.handle_world(set("endpoints a=2 b=2"), 2)), "endpoints b=2");
}

#[test]
fn an_answer_to_an_older_response_is_passed_over() {
    let mut session = session(Protocol::Sotw, "endpoints a=1 b=1");
    session.handle_request(sotw(Kind::Endpoints, 0, &["a"])).unwrap();
    session.handle_request(sotw(Kind::Endpoints, 1, &["a"])).unwrap();
    session.handle_world(set("endpoints a=2 b=1"), 2);
    assert_eq!(text(&session.handle_request(sotw(Kind::Endpoints, 1, &["a", "b"])).unwrap()), "");
    assert_eq!(session.acked_revision(), 1);
    assert_eq!(
        text(&session.handle_request(sotw(Kind::Endpoints, 2, &["a", "b"])).unwrap()),
        "endpoints b=1"
    );
}

#[test]
fn a_delta_subscription_counts_even_beside_an_old_nonce() {
    let mut session = session(Protocol::Delta, "endpoints a=1 b=1");
    let first = session.handle_request(delta(Kind::Endpoints, &["a"], &[])).unwrap();
    ack_all(&mut session, first);
    let late = Request { nonce: "1".into(), ..delta(Kind::Endpoints, &["b"], &[]) };
    assert_eq!(text(&session.handle_request(late).unwrap()), "endpoints b=1");
}

#[test]
fn asking_again_for_a_name_sends_it_again() {
    let mut session = settled("endpoints a=1");
    let sent = session.handle_request(delta(Kind::Endpoints, &["a"], &[])).unwrap();
    assert_eq!(text(&sent), "endpoints a=1");
}

#[test]
fn an_unsubscribed_name_is_not_sent_any_more() {
    let mut session = session(Protocol::Delta, "endpoints a=1 b=1");
    let sent = session.handle_request(delta(Kind::Endpoints, &["a", "b"], &[])).unwrap();
    ack_all(&mut session, sent);
    assert_eq!(text(&session.handle_request(delta(Kind::Endpoints, &[], &["a"])).unwrap()), "");
    assert_eq!(text(&session.handle_world(set("endpoints a=2 b=2"), 2)), "endpoints b=2");
}

#[test]
fn a_client_that_comes_back_is_sent_only_what_it_missed() {
    let mut session = session(Protocol::Delta, "clusters a=1 b=2");
    let held = [("a", 1_u64), ("b", 1), ("gone", 1)];
    let request = Request {
        names: Names::Change {
            subscribe: vec!["*".into()],
            unsubscribe: vec![],
            initial: held.map(|(name, version)| (name.to_owned(), format!("{version:016x}"))).into(),
        },
        ..delta(Kind::Cluster, &[], &[])
    };
    let sent = session.handle_request(request).unwrap();
    let sent = ack_all(&mut session, sent);
    assert_eq!(text(&sent), "clusters b=2; clusters -gone");
}

#[test]
fn a_large_delta_is_split_so_that_a_grpc_client_can_take_it() {
    let mut world = ResourceSet::default();
    for i in 0..5 {
        let message = vec![0; RESPONSE_BYTES_MAX / 2];
        let big = Resource::new(Kind::Cluster, format!("c{i}").into(), 1, message, Arc::from([]));
        world.insert(Kind::Cluster, Arc::new(big));
    }
    let mut session = Session::new(Protocol::Delta, Arc::new(world), 1);
    let sent = session.handle_request(delta(Kind::Cluster, &["*"], &[])).unwrap();
    let sent = ack_all(&mut session, sent);
    assert_eq!(sent.iter().map(|response| response.resources.len()).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(session.acked_revision(), 1);
}

#[test]
fn too_many_names_are_an_error() {
    let mut session = session(Protocol::Sotw, "");
    let names = Names::All(vec![String::from("x"); NAMES_MAX + 1]);
    let request = Request { kind: Kind::Endpoints, nonce: String::new(), error: None, names };
    assert_eq!(session.handle_request(request), Err(TooManyNames { kind: Kind::Endpoints }));
}

#[test]
fn a_host_on_demand_comes_in_one_round_trip_with_its_clusters_and_their_endpoints() {
    let mut session = Session::new(Protocol::Delta, set("listeners l=1; routes t=1"), 1).accompanied(true);
    for kind in [Kind::Cluster, Kind::Listener] {
        let sent = session.handle_request(delta(kind, &[], &[])).unwrap();
        ack_all(&mut session, sent);
    }
    let sent = session.handle_request(delta(Kind::Routes, &["t"], &[])).unwrap();
    ack_all(&mut session, sent);

    assert_eq!(session.take(delta(Kind::VirtualHost, &["t/a", "t/none"], &[])), Ok(true));
    assert_eq!(session.asked().hosts.len(), 2);
    let grown = set("listeners l=1; routes t=1; clusters a=1; endpoints a=1; hosts t/a=1");
    let sent = session.handle_world(grown, 1);
    assert_eq!(text(&sent), "clusters a=1; endpoints a=1; hosts t/a=1 -t/none");
    // The client asks for the endpoints of the cluster, for which they came already.
    assert_eq!(text(&session.handle_request(delta(Kind::Endpoints, &["a"], &[])).unwrap()), "");
    assert_eq!(ack_all(&mut session, sent).len(), 3);
    assert!(session.is_settled());

    // Asking once more says that they were lost.
    let again = session.handle_request(delta(Kind::Endpoints, &["a"], &[])).unwrap();
    assert_eq!(text(&again), "endpoints a=1");
    ack_all(&mut session, again);

    assert_eq!(session.take(delta(Kind::VirtualHost, &[], &["t/a"])), Ok(true));
    let sent = session.handle_world(set("listeners l=1; routes t=1"), 1);
    assert_eq!(text(&sent), "endpoints -a; clusters -a");
}

#[test]
fn a_client_that_comes_back_with_its_hosts_keeps_what_they_lead_to() {
    let mut session = Session::new(Protocol::Delta, set("listeners l=1; routes t=1"), 1).accompanied(true);
    let holding = |kind, name: &str, names: &[&str]| {
        let subscribe = names.iter().map(|name| (*name).to_owned()).collect();
        let initial = HashMap::from([(name.to_owned(), "1".to_owned())]);
        Request {
            names: Names::Change { subscribe, unsubscribe: Vec::new(), initial },
            ..delta(kind, &[], &[])
        }
    };
    assert_eq!(session.take(holding(Kind::VirtualHost, "t/a", &["t/a"])), Ok(true));
    let grown = set("listeners l=1; routes t=1; clusters a=1; endpoints a=1; hosts t/a=1");
    assert_eq!(text(&session.handle_world(grown, 1)), "");
    let sent = session.handle_request(holding(Kind::Cluster, "a", &[])).unwrap();
    assert_eq!(text(&sent), "clusters");
    assert_eq!(ack_all(&mut session, sent).len(), 1);
    assert!(session.is_settled());
}
