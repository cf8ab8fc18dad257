//! Questions to Consul over HTTP: token, TLS, consistency, limits, and which answers count.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Identity, StatusCode};
use serde::de::DeserializeOwned;

use super::cursor::Ask;
use crate::settings::{ConsulSettings, Token};
use crate::source::SourceError;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest time that an answer may take beyond what was asked for.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Most of an error's text that is told to people, in characters.
const REASON_CHARS_MAX: usize = 200;

/// A client of one Consul.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    settings: ConsulSettings,
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) body: T,
    pub(super) index: u64,
    /// Why the server itself is not sure; empty when it is.
    pub(super) doubt: &'static str,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("does not answer: {0}")]
    Transport(String),
    #[error("answers {status}: {reason}")]
    Status { status: u16, reason: String },
    #[error("answers more than {} MiB", ANSWER_BYTES_MAX >> 20)]
    TooLarge,
    #[error("answers what cannot be read: {0}")]
    Body(serde_json::Error),
    #[error("gives no index; is it a Consul?")]
    NoIndex,
    #[error("token file {file}: {error}")]
    Token { file: String, error: std::io::Error },
}

impl From<reqwest::Error> for ReadError {
    fn from(error: reqwest::Error) -> Self {
        // The innermost cause says what happened; the others repeat the address.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        ReadError::Transport(if error.is_timeout() { "timed out".to_owned() } else { cause.to_string() })
    }
}

impl Http {
    pub(super) fn new(settings: ConsulSettings) -> Result<Self, SourceError> {
        let unusable = |error: reqwest::Error| SourceError::Settings(format!("TLS to Consul: {error}"));
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if settings.address.starts_with("https://") {
            let roots = match &settings.ca_file {
                Some(file) => Some(file.clone()),
                None => openssl_probe::probe().cert_file,
            };
            let roots = roots.ok_or_else(|| {
                SourceError::Settings("no root certificates on this host; give ca_file".to_owned())
            })?;
            builder =
                builder.tls_certs_only(Certificate::from_pem_bundle(&read_file(&roots)?).map_err(unusable)?);
        }
        if let Some(file) = &settings.client_cert_file {
            builder = builder.identity(Identity::from_pem(&read_file(file)?).map_err(unusable)?);
        }
        Ok(Http { client: builder.build().map_err(unusable)?, settings })
    }

    /// Asks for a path. With stale reads an answer that is too old is asked for again, of the leader.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        ask: Ask,
        wait: Duration,
    ) -> Result<Answer<T>, ReadError> {
        let Some(oldest) = self.settings.stale_max else {
            return self.ask(path, ask, wait, false).await.map(|(answer, _)| answer);
        };
        let (answer, age) = self.ask(path, ask, wait, true).await?;
        if age <= oldest && answer.doubt.is_empty() {
            return Ok(answer);
        }
        self.ask(path, Ask::Now, wait, false).await.map(|(answer, _)| answer)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &[&str],
        ask: Ask,
        wait: Duration,
        stale: bool,
    ) -> Result<(Answer<T>, Duration), ReadError> {
        let mut url = reqwest::Url::parse(&self.settings.address)
            .map_err(|error| ReadError::Transport(error.to_string()))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if let Some(datacenter) = &self.settings.datacenter {
            url.query_pairs_mut().append_pair("dc", datacenter);
        }
        if stale {
            url.query_pairs_mut().append_pair("stale", "");
        }
        let mut limit = ANSWER_MAX;
        if let Ask::Past(index) = ask {
            url.query_pairs_mut()
                .append_pair("index", &index.to_string())
                .append_pair("wait", &format!("{}s", wait.as_secs()));
            // The server adds up to a sixteenth, so that waiting clients do not come back together.
            limit += wait + wait / 16;
        }
        let mut request = self.client.get(url).timeout(limit);
        if let Some(token) = self.token().await? {
            request = request.header("X-Consul-Token", token);
        }
        let response = request.send().await?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = read_body(response).await?;
        if status != StatusCode::OK {
            let text = String::from_utf8_lossy(&body);
            let reason = text.trim().chars().take(REASON_CHARS_MAX).collect();
            return Err(ReadError::Status { status: status.as_u16(), reason });
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| header(name).and_then(|value| value.parse::<u64>().ok());
        let index = number("X-Consul-Index").ok_or(ReadError::NoIndex)?;
        let doubt = if header("X-Consul-KnownLeader") == Some("false") {
            "consul knows no leader"
        } else if header("X-Consul-Results-Filtered-By-ACLs") == Some("true") {
            "consul filtered the answer: the token may not see everything"
        } else {
            ""
        };
        let age = Duration::from_millis(number("X-Consul-LastContact").unwrap_or(0));
        let body = serde_json::from_slice(&body).map_err(ReadError::Body)?;
        Ok((Answer { body, index, doubt }, age))
    }

    /// The token, from its file every time: a new one works from the next question on.
    async fn token(&self) -> Result<Option<String>, ReadError> {
        match &self.settings.token {
            Token::Anonymous => Ok(None),
            Token::Value(token) => Ok(Some(token.clone())),
            Token::File(file) => match tokio::fs::read_to_string(file).await {
                Ok(token) => Ok(Some(token.trim().to_owned())),
                Err(error) => Err(ReadError::Token { file: file.display().to_string(), error }),
            },
        }
    }
}

async fn read_body(mut response: reqwest::Response) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ReadError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn read_file(path: &Path) -> Result<Vec<u8>, SourceError> {
    std::fs::read(path).map_err(|error| SourceError::Settings(format!("{}: {error}", path.display())))
}
