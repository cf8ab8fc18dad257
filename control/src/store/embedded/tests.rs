//! What a commit promises, tried on a real file.

use super::*;

fn put(name: &str, yaml: &str, expected: Option<u64>) -> Write {
    Write::Put {
        key: DocumentKey::new("VirtualService", "default", name),
        yaml: yaml.into(),
        owner: "api".into(),
        expected,
    }
}

fn open(folder: &tempfile::TempDir) -> EmbeddedStore {
    EmbeddedStore::open(&folder.path().join("documents.redb")).unwrap()
}

#[tokio::test]
async fn an_acknowledged_write_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let committed = store.commit(vec![put("a", "one", None), put("b", "two", None)]).await.unwrap();
    assert_eq!(committed.outcomes, [(Outcome::Created, 1), (Outcome::Created, 1)]);
    drop(store);
    let again = open(&folder).snapshot();
    assert_eq!(again.revision, 1);
    assert_eq!(again.documents.len(), 2);
}

#[tokio::test]
async fn one_conflict_refuses_the_whole_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.commit(vec![put("a", "one", Some(0))]).await.unwrap();
    let refused = store.commit(vec![put("b", "two", None), put("a", "three", Some(7))]).await;
    assert!(matches!(refused, Err(StoreError::Conflict { expected: 7, found: 1, .. })));
    assert_eq!(store.snapshot().documents.len(), 1);
    assert_eq!(store.snapshot().revision, 1);
}

#[tokio::test]
async fn the_same_text_again_changes_no_revision() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.commit(vec![put("a", "one", None)]).await.unwrap();
    let again = store.commit(vec![put("a", "one", None)]).await.unwrap();
    assert_eq!((again.revision, again.outcomes[0].0), (1, Outcome::Unchanged));
}

#[tokio::test]
async fn a_version_is_never_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let key = DocumentKey::new("VirtualService", "default", "a");
    let first = store.commit(vec![put("a", "one", None)]).await.unwrap().outcomes[0].1;
    store.commit(vec![Write::Delete { key: key.clone(), expected: Some(first) }]).await.unwrap();
    let second = store.commit(vec![put("a", "one", None)]).await.unwrap().outcomes[0].1;
    assert!(second > first);
    drop(store);
    assert_eq!(open(&folder).snapshot().documents[&key].version, second);
}

#[tokio::test]
async fn a_watcher_hears_of_a_commit_after_it_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut watch = store.watch();
    store.commit(vec![put("a", "one", None)]).await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow(), store.snapshot().revision);
}

#[tokio::test]
async fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let _store = open(&folder);
    let mode = std::fs::metadata(folder.path().join("documents.redb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_reserved_number_is_never_given_twice_not_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    assert_eq!(store.reserve(100).await, Ok(1));
    assert_eq!(store.reserve(100).await, Ok(101));
    drop(store);
    assert_eq!(open(&folder).reserve(1).await, Ok(201));
}

#[tokio::test]
async fn an_update_keeps_the_age_of_its_document() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let key = DocumentKey::new("VirtualService", "default", "a");
    let first = plan(&Snapshot::default(), vec![put("a", "one", None)], 10).unwrap().0;
    let second = plan(&first, vec![put("a", "two", None)], 20).unwrap().0;
    let times = (second.documents[&key].created_at_seconds, second.documents[&key].stored_at_seconds);
    assert_eq!(times, (10, 20));
    store.commit(vec![put("a", "one", None)]).await.unwrap();
    let created = store.snapshot().documents[&key].created_at_seconds;
    assert!(created > 0);
    drop(store);
    assert_eq!(open(&folder).snapshot().documents[&key].created_at_seconds, created);
}
