//! The registry as its streams and readers see it.

use std::collections::BTreeMap;

use weft_proto::registry::v1 as wire;

use super::{source::State, source::Step, *};

fn speaker() -> Speaker {
    Speaker { name: "files/a".into(), platform: "files".into(), cluster: "".into(), region: "eu".into() }
}

fn options(file: Option<PathBuf>) -> Options {
    Options { mesh_domain: "cluster.local".to_owned(), hold_down: Duration::from_secs(60), file }
}

fn service(name: &str) -> Step {
    let service = wire::Service {
        key: Some(wire::ServiceKey { namespace: String::new(), name: name.to_owned() }),
        ports: vec![wire::Port {
            name: "http".to_owned(),
            number: 80,
            protocol: wire::Protocol::Http.into(),
        }],
        ..Default::default()
    };
    let upsert = wire::Upsert { object: Some(wire::upsert::Object::Service(service)) };
    Step::Upsert(Box::new(fact::upsert(&speaker(), upsert).unwrap()))
}

fn endpoint(id: &str, service: &str) -> Step {
    let endpoint = wire::Endpoint {
        id: id.to_owned(),
        service: Some(wire::ServiceKey { namespace: String::new(), name: service.to_owned() }),
        address: "10.1.2.3".to_owned(),
        ports: BTreeMap::from([("http".to_owned(), 8080)]),
        ..Default::default()
    };
    let upsert = wire::Upsert { object: Some(wire::upsert::Object::Endpoint(endpoint)) };
    Step::Upsert(Box::new(fact::upsert(&speaker(), upsert).unwrap()))
}

fn list(session: &Session, steps: Vec<Step>) {
    let mut sequence = 1;
    assert_eq!(session.step(sequence, Step::Begin(1)), Ok(None));
    for step in steps {
        sequence += 1;
        assert_eq!(session.step(sequence, step), Ok(None));
    }
    assert_eq!(session.step(sequence + 1, Step::End(1, String::new())), Ok(Some(sequence + 1)));
}

#[tokio::test]
async fn readers_see_a_listing_once_it_ended() {
    let registry = Registry::open(options(None)).unwrap();
    let (session, resume_after) = registry.connect(speaker(), "one").unwrap();
    assert_eq!(resume_after, 0);
    session.step(1, Step::Begin(1)).unwrap();
    session.step(2, service("api")).unwrap();
    registry.publish();
    assert_eq!(registry.view().revision, 0);
    session.step(3, endpoint("1", "api")).unwrap();
    session.step(4, Step::End(1, String::new())).unwrap();
    registry.publish();
    let view = registry.view();
    let api = &view.mesh.services[&crate::model::ServiceKey::new("default", "api")];
    assert_eq!(&*api.endpoints["files/a/1"].locality.region, "eu");
    assert_eq!(*registry.watch().borrow(), view.revision);
}

#[tokio::test]
async fn the_newest_stream_of_a_source_wins() {
    let registry = Registry::open(options(None)).unwrap();
    let (older, _) = registry.connect(speaker(), "one").unwrap();
    let (newer, _) = registry.connect(speaker(), "two").unwrap();
    assert!(older.superseded.is_cancelled());
    assert_eq!(older.step(1, Step::Begin(1)), Err(SessionError::Superseded));
    drop(older);
    assert_eq!(newer.step(1, Step::Begin(1)), Ok(None));
    assert_ne!(registry.sources()[0].state, State::Lost);
}

#[tokio::test]
async fn a_restart_serves_the_last_known_mesh_as_stale() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.bin");
    let registry = Registry::open(options(Some(file.clone()))).unwrap();
    let (session, _) = registry.connect(speaker(), "one").unwrap();
    list(&session, vec![service("api"), endpoint("1", "api")]);
    registry.publish();
    registry.save().await;
    let again = Registry::open(options(Some(file))).unwrap();
    assert_eq!(again.view().mesh.services, registry.view().mesh.services);
    assert_eq!(again.sources()[0].state, State::Stale);
}

fn gateway(spec: &str) -> Step {
    let yaml =
        format!("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec: {spec}\n");
    let document = wire::Document { yaml, origin: "a.yaml".to_owned(), line: 1 };
    let upsert = wire::Upsert { object: Some(wire::upsert::Object::Document(document)) };
    Step::Upsert(Box::new(fact::upsert(&speaker(), upsert).unwrap()))
}

#[tokio::test]
async fn the_good_predecessor_of_a_document_and_its_age_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.bin");
    let registry = Registry::open(options(Some(file.clone()))).unwrap();
    let (session, _) = registry.connect(speaker(), "one").unwrap();
    session.step(1, gateway("{servers: []}")).unwrap();
    session.step(2, gateway("{srvers: []}")).unwrap();
    registry.publish();
    registry.save().await;
    let again = Registry::open(options(Some(file))).unwrap();
    assert_eq!(again.view().documents, registry.view().documents);
    let document = &again.view().documents[0].document;
    assert!(document.complaint.is_some() && document.since_seconds > 0);
    assert!(document.good.as_ref().unwrap().yaml.contains("{servers: []}"));
    // The adapter lists anew, and tells the same broken text.
    let (session, _) = again.connect(speaker(), "two").unwrap();
    list(&session, vec![gateway("{srvers: []}")]);
    again.publish();
    assert_eq!(again.view().documents, registry.view().documents);
}

#[tokio::test]
async fn a_damaged_file_is_put_aside_and_the_registry_starts_empty() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.bin");
    std::fs::write(&file, b"WEFTREG1 and then nonsense that is longer than a checksum").unwrap();
    let registry = Registry::open(options(Some(file.clone()))).unwrap();
    assert!(registry.view().mesh.services.is_empty());
    assert!(!file.exists() && file.with_extension("damaged").exists());
}

#[tokio::test(start_paused = true)]
async fn the_task_merges_and_lets_a_hold_down_run_out() {
    let registry = Registry::open(options(None)).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(registry.clone().run(stop.clone()));
    let mut watch = registry.watch();
    let (session, _) = registry.connect(speaker(), "one").unwrap();
    list(&session, vec![service("api"), endpoint("1", "api")]);
    watch.changed().await.unwrap();
    session.step(5, Step::Begin(2)).unwrap();
    session.step(6, service("api")).unwrap();
    session.step(7, Step::End(2, "server changed".to_owned())).unwrap();
    let key = crate::model::ServiceKey::new("default", "api");
    watch.changed().await.unwrap();
    assert!(registry.view().mesh.services[&key].endpoints["files/a/1"].stale);
    let before = Instant::now();
    watch.changed().await.unwrap();
    assert!(before.elapsed() >= Duration::from_secs(59));
    assert!(registry.view().mesh.services[&key].endpoints.is_empty());
    stop.cancel();
    task.await.unwrap();
}
