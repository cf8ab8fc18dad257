//! Keys are fetched from an issuer that answers, and a restart has them though it does not.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::{Router, http::StatusCode, routing::get};

use super::*;

const KEYS: &str = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#;

/// An issuer on loopback, which answers while `open` says so.
async fn issuer(open: Arc<AtomicBool>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let keys = format!("{{\"issuer\":\"i\",\"jwks_uri\":\"{base}/keys\"}}");
    let gone = move || {
        let open = open.load(Ordering::Relaxed);
        async move { if open { (StatusCode::OK, KEYS) } else { (StatusCode::BAD_GATEWAY, "") } }
    };
    let app = Router::new()
        .route("/keys", get(gone))
        .route("/.well-known/openid-configuration", get(async move || keys))
        .route("/moved", get(async || axum::response::Redirect::temporary("/keys")))
        .route("/long", get(async || " ".repeat(crate::documents::jwks::BYTES_MAX + 1)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    base
}

fn local() -> BTreeSet<String> {
    BTreeSet::from(["127.0.0.1".to_owned()])
}

#[tokio::test]
async fn keys_come_from_a_url_or_by_the_issuers_description() {
    let base = issuer(Arc::new(AtomicBool::new(true))).await;
    let fetcher = Fetcher::new(local());
    let fetch = async |path: &str| fetcher.fetch(&format!("{base}{path}"), Duration::from_secs(5)).await;
    assert_eq!(fetch("/keys").await.as_deref(), Ok(KEYS));
    assert_eq!(fetch("/.well-known/openid-configuration").await.as_deref(), Ok(KEYS));
    assert_eq!(fetch("/moved").await, Err("answers 307 Temporary Redirect".to_owned()));
    assert_eq!(fetch("/long").await, Err("answers more than 262144 bytes".to_owned()));
    assert_eq!(fetch("/none").await, Err("answers 404 Not Found".to_owned()));
    // Nobody vouched for this one.
    let stranger = Fetcher::new(BTreeSet::new()).fetch(&base, Duration::from_secs(5)).await;
    assert!(stranger.unwrap_err().contains("jwks_hosts"));
}

#[tokio::test]
async fn a_restart_has_the_keys_of_an_issuer_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let open = Arc::new(AtomicBool::new(true));
    let url: Arc<str> = format!("{}/keys", issuer(open.clone()).await).into();
    let wanted: Arc<Wanted> = Arc::new(BTreeMap::from([(url.clone(), Duration::from_secs(5))]));

    let (keys, mut desk) = Keys::open(file.clone(), local(), SystemTime::now());
    assert!(desk.found.borrow().is_empty());
    let stop = CancellationToken::new();
    let running = tokio::spawn(keys.run(stop.clone()));
    desk.wanted.send_replace(Some(wanted));
    desk.found.wait_for(|found| found.contains_key(&url)).await.unwrap();
    // They are on disk by the next change of what is wanted.
    tokio::time::timeout(Duration::from_secs(5), async {
        while !file.exists() {
            tokio::task::yield_now().await
        }
    })
    .await
    .unwrap();
    stop.cancel();
    running.await.unwrap();

    open.store(false, Ordering::Relaxed);
    let (_, desk) = Keys::open(file, local(), SystemTime::now());
    assert_eq!(desk.found.borrow().get(&url).map(|keys| &**keys), Some(KEYS));
}
