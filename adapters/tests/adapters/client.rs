//! The registry client against a control plane: listing, resume, several at once, lost acks.

use std::path::Path;
use std::sync::Arc;

use crate::control_plane::ControlPlane;
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_adapters::app;
use weft_adapters::client::Plaintext;
use weft_adapters::settings::{RawAdapterSettings, RawFilesSettings, RawPlatform};

fn write(directory: &Path, service: &str, ports: &[u16]) {
    let endpoints: String = ports
        .iter()
        .map(|port| format!("  - {{id: {service}-{port}, address: 10.0.0.1, port: {port}}}\n"))
        .collect();
    let text = format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {service}}}\nspec:\n  ports: [{{name: http, number: 80}}]\n  endpoints:\n{endpoints}"
    );
    std::fs::write(directory.join(format!("{service}.yaml")), text).unwrap();
}

/// Runs the files adapter until the guard is dropped.
fn adapt(directory: &Path, planes: &[String]) -> DropGuard {
    let files = RawFilesSettings { directory: Some(directory.to_owned()), ..Default::default() };
    let raw = RawAdapterSettings {
        control: planes.to_vec(),
        platform: RawPlatform::Files(files),
        ..Default::default()
    };
    let stop = CancellationToken::new();
    tokio::spawn(app::run(raw.check().expect("good settings"), Arc::new(Plaintext), stop.clone()));
    stop.drop_guard()
}

#[tokio::test]
async fn a_change_of_one_file_is_told_alone_to_every_control_plane() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "api", &[1, 2]);
    write(directory.path(), "web", &[3]);
    let planes = [ControlPlane::start().await, ControlPlane::start().await];
    let dead = format!("http://127.0.0.1:{}", 1);
    let _adapter = adapt(directory.path(), &[dead, planes[0].url(), planes[1].url()]);
    for plane in &planes {
        let known = plane.until("listed", |known| known.endpoints.len() == 3).await;
        assert_eq!((known.services.len(), known.upserts), (2, 5));
    }
    write(directory.path(), "api", &[1, 4]);
    for plane in &planes {
        let known = plane
            .until("changed", |known| {
                known.endpoints.contains_key("api-4") && !known.endpoints.contains_key("api-2")
            })
            .await;
        assert_eq!((known.upserts, known.listings.len()), (6, 1), "only the difference is told");
    }
}

#[tokio::test]
async fn a_broken_stream_is_resumed_without_a_new_listing() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "api", &[1, 2]);
    let plane = ControlPlane::start().await;
    let _adapter = adapt(directory.path(), &[plane.url()]);
    plane.until("listed", |known| known.endpoints.len() == 2).await;
    write(directory.path(), "api", &[1, 2, 3]);
    plane.until("followed", |known| known.endpoints.len() == 3).await;
    plane.break_streams();
    write(directory.path(), "api", &[2, 3]);
    let known = plane.until("resumed", |known| known.endpoints.len() == 2 && known.connections > 1).await;
    assert_eq!(known.listings.len(), 1);
}

#[tokio::test]
async fn a_control_plane_that_lost_its_memory_gets_a_listing() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "api", &[1, 2]);
    let plane = ControlPlane::start().await;
    let _adapter = adapt(directory.path(), &[plane.url()]);
    plane.until("listed", |known| known.endpoints.len() == 2).await;
    plane.forget();
    plane.break_streams();
    let known = plane.until("listed again", |known| known.endpoints.len() == 2).await;
    assert_eq!(known.listings.len(), 1);
}

#[tokio::test]
async fn lost_acks_lose_no_facts() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "api", &[1]);
    let plane = ControlPlane::start().await;
    plane.send_acks(false);
    let _adapter = adapt(directory.path(), &[plane.url()]);
    plane.until("listed", |known| known.endpoints.len() == 1).await;
    plane.break_streams();
    write(directory.path(), "api", &[1, 2]);
    let known = plane.until("followed", |known| known.endpoints.len() == 2).await;
    assert_eq!(known.listings.len(), 1, "the control plane says what it has, acked or not");
}

#[tokio::test]
async fn a_broken_file_and_a_missing_directory_are_told_and_remove_nothing() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("mesh");
    let plane = ControlPlane::start().await;
    let _adapter = adapt(&directory, &[plane.url()]);
    let known = plane.until("stale", |known| known.stale.is_some()).await;
    assert!(known.listings.is_empty(), "a missing directory is not an empty one");

    std::fs::create_dir(&directory).unwrap();
    write(&directory, "api", &[1]);
    plane.until("listed", |known| known.endpoints.len() == 1 && known.stale.is_none()).await;
    std::fs::write(directory.join("api.yaml"), "kind: [").unwrap();
    let known = plane.until("stale", |known| known.stale.is_some()).await;
    assert!(known.stale.as_deref().is_some_and(|reason| reason.contains("api.yaml:1:")), "{:?}", known.stale);
    assert_eq!(plane.known().endpoints.len(), 1);

    std::fs::remove_dir_all(&directory).unwrap();
    plane
        .until("missing", |known| {
            known.stale.as_deref().is_some_and(|reason| reason.contains("what it said last stays"))
        })
        .await;
    assert_eq!(plane.known().endpoints.len(), 1);
}
