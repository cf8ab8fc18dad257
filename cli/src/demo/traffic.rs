//! Load for the demo: connections that ask the ingress one request after another, and count who answered.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::service::USER_HEADER;

/// Connections used at once.
const CONNECTIONS: u64 = 16;

/// Largest answer taken.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed request, so that a mesh that is down is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);

/// Who answered.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers of api v1.
    pub v1: AtomicU64,
    /// Answers of api v2.
    pub v2: AtomicU64,
    /// Everything else: errors, wrong status, no answer.
    pub failed: AtomicU64,
    /// One example of a failure.
    first_failure: std::sync::OnceLock<String>,
}

impl Tally {
    /// Requests that got an answer.
    pub fn answered(&self) -> u64 {
        self.v1.load(Ordering::Relaxed) + self.v2.load(Ordering::Relaxed)
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Share of v2 among the answers, 0 to 1.
    pub fn share(&self) -> f64 {
        let answered = self.answered();
        if answered == 0 { 0.0 } else { self.v2.load(Ordering::Relaxed) as f64 / answered as f64 }
    }

    /// "1000 answered, 0 failed, v2 5.02%".
    pub fn text(&self) -> String {
        let example = self.first_failure.get().map(|text| format!(" ({text})")).unwrap_or_default();
        format!(
            "{} answered, {} failed{example}, v2 {:.2}%",
            self.answered(),
            self.failed(),
            self.share() * 100.0
        )
    }

    fn count(&self, answer: Result<String, String>) -> bool {
        let (counter, failure) = match answer {
            Ok(text) if text.contains("api v1\n") && text.contains("db: row") => (&self.v1, None),
            Ok(text) if text.contains("api v2\n") && text.contains("db: row") => (&self.v2, None),
            Ok(text) => (&self.failed, Some(text)),
            Err(problem) => (&self.failed, Some(problem)),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(failure) = failure {
            self.first_failure.get_or_init(|| failure.trim().replace('\n', " | "));
            return false;
        }
        true
    }
}

/// How many requests to send, and how.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Where to.
    pub ingress: SocketAddr,
    /// How many.
    pub requests: u64,
    /// The user in whose name.
    pub user: Option<&'a str>,
}

impl Load<'_> {
    /// Sends them all.
    pub async fn run(self, tally: &Tally) {
        let left = AtomicU64::new(self.requests);
        let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        let connections = (0..CONNECTIONS.min(self.requests)).map(|_| async {
            let mut client = Client { ingress: self.ingress, connection: None };
            while take() {
                if !tally.count(client.get(self.user).await) {
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        });
        futures::future::join_all(connections).await;
    }
}

/// One connection that is made anew when it broke.
pub struct Client {
    /// Where to.
    pub ingress: SocketAddr,
    /// The connection, when there is one.
    pub connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    /// One request through the mesh; the text of a 200 or what went wrong.
    pub async fn get(&mut self, user: Option<&str>) -> Result<String, String> {
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, self.ask(user)).await;
        asked.unwrap_or_else(|_| {
            self.connection = None;
            Err(format!("no answer within {ANSWER_TIMEOUT:?}"))
        })
    }

    async fn ask(&mut self, user: Option<&str>) -> Result<String, String> {
        let mut kept = self.connection.take();
        if let Some(connection) = &mut kept
            && connection.ready().await.is_err()
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => connect(self.ingress).await.map_err(|error| format!("connect: {error}"))?,
        };
        let mut request = Request::get("/basket").header("host", "shop.example");
        if let Some(user) = user {
            request = request.header(USER_HEADER, user);
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let text = String::from_utf8_lossy(&body.map_err(|error| error.to_string())?.to_bytes()).into_owned();
        self.connection = Some(connection);
        if status.is_success() { Ok(text) } else { Err(format!("status {status}: {text}")) }
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}
