//! One kind, followed: list, watch from the list's version, resume from the last version heard of, list again when that
//! is gone. Versions are opaque; none is ever compared.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;

use super::api::Api;
use super::kind::Kind;
use crate::http::ReadError;
use crate::watch::Pace;

/// Watches that are opened: two at once, then one in each such time.
const OPEN_EVERY: Duration = Duration::from_secs(1);
/// How often a kind is looked for that the cluster does not have, or that may not be read.
const MISSING_EVERY: Duration = Duration::from_secs(300);

/// What has happened to a kind.
#[derive(Debug)]
pub(super) enum News {
    /// These are all.
    Listed(Kind, Vec<Value>),
    /// It is not there, or may not be read: what was known of it stays.
    Missing(Kind, String),
    /// One is new or other than before.
    Put(Kind, Value),
    /// One is gone.
    Gone(Kind, Value),
    /// Nothing has, but the server lives.
    Alive,
}

/// Follows a kind until it cannot; says why.
pub(super) async fn reflect(api: Api, kind: Kind, news: mpsc::Sender<News>) -> ReadError {
    loop {
        match follow(&api, kind, &news).await {
            Ok(()) => {}
            Err(ReadError::Status { status: 403 | 404, reason }) if !kind.is_needed() => {
                if news.send(News::Missing(kind, reason)).await.is_err() {
                    return silent();
                }
                tokio::time::sleep(MISSING_EVERY).await;
            }
            Err(error) => return error,
        }
    }
}

/// Lists and watches until the version is gone, which is not an error.
async fn follow(api: &Api, kind: Kind, news: &mpsc::Sender<News>) -> Result<(), ReadError> {
    let (objects, mut version) = match api.list(kind).await {
        // The rest of a list that takes too long: it begins anew.
        Err(ReadError::Status { status: 410, .. }) => api.list(kind).await?,
        listed => listed?,
    };
    let say = async |what: News| news.send(what).await.map_err(|_| silent());
    say(News::Listed(kind, objects)).await?;
    let mut pace = Pace::new(2, OPEN_EVERY, Instant::now());
    loop {
        tokio::time::sleep(pace.take(Instant::now())).await;
        let mut watch = match api.watch(kind, &version).await {
            Ok(watch) => watch,
            Err(ReadError::Status { status: 410, .. }) => return Ok(()),
            // A server that is behind the one that gave us the version: it will catch up.
            Err(ReadError::Status { status: 504, .. }) => continue,
            Err(error) => return Err(error),
        };
        // An end, a cut and silence are the same: on from the last version that was heard of.
        while let Ok(Some(line)) = watch.next().await {
            let said = line.object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            match line.kind.as_str() {
                "ADDED" | "MODIFIED" => say(News::Put(kind, line.object)).await?,
                "DELETED" => say(News::Gone(kind, line.object)).await?,
                "BOOKMARK" => say(News::Alive).await?,
                "ERROR" if line.object["code"] == 410 => return Ok(()),
                "ERROR" => return Err(refused(&line.object)),
                _ => {}
            }
            version = said.unwrap_or(version);
        }
    }
}

/// An error inside of a watch, which began well.
fn refused(status: &Value) -> ReadError {
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let reason = status["message"].as_str().unwrap_or_default().to_owned();
    ReadError::Status { status: code.unwrap_or(500), reason }
}

fn silent() -> ReadError {
    ReadError::Transport("nobody listens any more".to_owned())
}
