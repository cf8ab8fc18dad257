//! Questions to a platform over HTTP: which server, token, TLS, limits, and which answers count.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Certificate, Identity, Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::settings::{Access, Token};
use crate::source::SourceError;

/// Largest answer that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest time that an answer may take beyond what it was asked to wait.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Most redirects that are followed to a leader.
const REDIRECTS_MAX: usize = 3;
/// Most of an error's text that is told to people, in characters.
const REASON_CHARS_MAX: usize = 200;

/// How a platform is told the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// In a header of its own.
    Header(&'static str),
    /// `Authorization: Bearer`.
    Bearer,
    /// `user:password` as `Authorization: Basic`, anything else as DC/OS has it: `Authorization: token=`.
    BasicOrDcos,
}

/// A client of one platform. Cheap to clone; clones agree on the server.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    access: Arc<Access>,
    credential: Credential,
    /// Which of the servers is asked.
    turn: Arc<AtomicUsize>,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing came, or not all of it.
    #[error("does not answer: {0}")]
    Transport(String),
    /// The answer is an error.
    #[error("answers {status}: {reason}")]
    Status {
        /// HTTP status.
        status: u16,
        /// What the server says about it.
        reason: String,
    },
    /// The answer is larger than [`ANSWER_BYTES_MAX`].
    #[error("answers more than {} MiB", ANSWER_BYTES_MAX >> 20)]
    TooLarge,
    /// The answer is not what such a platform says.
    #[error("answers what cannot be read: {0}")]
    Body(String),
    /// The token cannot be read.
    #[error("token file {file}: {error}")]
    Token {
        /// The file.
        file: String,
        /// What the system said.
        error: std::io::Error,
    },
}

impl ReadError {
    /// Whether the platform knows who asks, or does not want to, and refuses.
    pub fn is_refusal(&self) -> bool {
        matches!(self, ReadError::Status { status: 401 | 403, .. } | ReadError::Token { .. })
    }
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

/// A good answer.
#[derive(Debug)]
pub struct Answer<T> {
    /// What it says.
    pub body: T,
    /// Its headers.
    pub headers: HeaderMap,
}

impl<T> Answer<T> {
    /// A header that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// A header that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Http {
    /// A client of the servers that `access` names, called `platform` in errors.
    pub fn new(platform: &str, access: Access, credential: Credential) -> Result<Self, SourceError> {
        let unusable = |error: reqwest::Error| SourceError::Settings(format!("TLS to {platform}: {error}"));
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .tcp_keepalive(Duration::from_secs(15))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if access.servers.iter().any(|server| server.starts_with("https://")) {
            let roots = match &access.ca_file {
                Some(file) => Some(file.clone()),
                None => openssl_probe::probe().cert_file,
            };
            let roots = roots.ok_or_else(|| {
                SourceError::Settings("no root certificates on this host; give ca_file".to_owned())
            })?;
            builder =
                builder.tls_certs_only(Certificate::from_pem_bundle(&read_file(&roots)?).map_err(unusable)?);
        }
        if let Some(file) = &access.client_cert_file {
            builder = builder.identity(Identity::from_pem(&read_file(file)?).map_err(unusable)?);
        }
        let client = builder.build().map_err(unusable)?;
        Ok(Http { client, access: Arc::new(access), credential, turn: Arc::default() })
    }

    /// The server that is asked.
    pub fn server(&self) -> &str {
        let servers = &self.access.servers;
        &servers[self.turn.load(Ordering::Relaxed) % servers.len()]
    }

    /// Asks the next server from now on.
    pub fn turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether nobody says who asks.
    pub fn is_anonymous(&self) -> bool {
        self.access.token == Token::Anonymous
    }

    /// Whether an address is that of a server that the settings name, and so may be told the token.
    pub fn knows(&self, url: &Url) -> bool {
        let known = self.access.servers.iter().filter_map(|server| Url::parse(server).ok());
        known.into_iter().any(|known| known.origin() == url.origin())
    }

    /// The address of a path on the server that is asked.
    pub fn url(&self, path: &[&str]) -> Result<Url, ReadError> {
        let mut url = Url::parse(self.server()).map_err(|error| ReadError::Transport(error.to_string()))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        Ok(url)
    }

    /// A question with the token; the caller adds what else it has.
    pub async fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, ReadError> {
        let told = self.knows(&url);
        let request = self.client.request(method, url);
        let token = if told { self.token().await? } else { None };
        Ok(match (token, self.credential) {
            (None, _) => request,
            (Some(token), Credential::Header(name)) => {
                request.header(HeaderName::from_static(name), secret(&token)?)
            }
            (Some(token), Credential::Bearer) => {
                request.header(AUTHORIZATION, secret(&format!("Bearer {token}"))?)
            }
            (Some(token), Credential::BasicOrDcos) => match token.split_once(':') {
                Some((user, password)) => request.basic_auth(user, Some(password)),
                None => request.header(AUTHORIZATION, secret(&format!("token={token}"))?),
            },
        })
    }

    /// Asks for JSON, whole.
    pub async fn get<T: DeserializeOwned>(&self, url: Url, limit: Duration) -> Result<Answer<T>, ReadError> {
        let request = self.request(Method::GET, url).await?;
        let mut response = good(request.timeout(limit).send().await?).await?;
        said_to_be(&response, "json")?;
        let headers = std::mem::take(response.headers_mut());
        let body = read_body(response, ANSWER_BYTES_MAX).await?;
        let body = serde_json::from_slice(&body).map_err(|error| ReadError::Body(error.to_string()))?;
        Ok(Answer { body, headers })
    }

    /// Opens a stream at whoever leads: others redirect there. `dress` adds to each question what it needs.
    pub async fn follow(
        &self,
        method: Method,
        mut url: Url,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
        content: &str,
    ) -> Result<Response, ReadError> {
        for _ in 0..=REDIRECTS_MAX {
            let answer = head(dress(self.request(method.clone(), url.clone()).await?)).await?;
            if !matches!(answer.status(), StatusCode::FOUND | StatusCode::TEMPORARY_REDIRECT) {
                return stream(answer, content).await;
            }
            url = self.leader(&url, &answer)?;
        }
        Err(ReadError::Body("one redirect after the other; is there a leader?".to_owned()))
    }

    /// Where a redirect leads: never out of TLS, and never with the token to whom the settings do not name.
    fn leader(&self, from: &Url, answer: &Response) -> Result<Url, ReadError> {
        let to = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let to = from.join(to).map_err(|error| ReadError::Body(format!("a redirect to '{to}': {error}")))?;
        if to.scheme() != from.scheme() {
            return Err(ReadError::Body(format!("a redirect from {} to {}", from.scheme(), to.scheme())));
        }
        if !self.is_anonymous() && !self.knows(&to) {
            return Err(ReadError::Body(format!(
                "the leader is {}, which the settings do not name and the token must not reach; add it to address",
                to.origin().ascii_serialization()
            )));
        }
        Ok(to)
    }

    /// The token, from its file every time: a new one works from the next question on.
    async fn token(&self) -> Result<Option<String>, ReadError> {
        match &self.access.token {
            Token::Anonymous => Ok(None),
            Token::Value(token) => Ok(Some(token.clone())),
            Token::File(file) => match tokio::fs::read_to_string(file).await {
                Ok(token) => Ok(Some(token.trim().to_owned())),
                Err(error) => Err(ReadError::Token { file: file.display().to_string(), error }),
            },
        }
    }
}

/// Sends a question whose answer streams: the answer's head must come within [`ANSWER_MAX`].
pub async fn head(request: RequestBuilder) -> Result<Response, ReadError> {
    match tokio::time::timeout(ANSWER_MAX, request.send()).await {
        Ok(response) => Ok(response?),
        Err(_) => Err(ReadError::Transport("timed out".to_owned())),
    }
}

/// Takes an answer as a stream of a content type.
pub async fn stream(response: Response, content: &str) -> Result<Response, ReadError> {
    let response = good(response).await?;
    said_to_be(&response, content)?;
    Ok(response)
}

/// The next piece of a stream; `None` at its end. Silence longer than `silence_max` is a break: a peer that is gone
/// without a word looks like that.
pub async fn next_piece(
    response: &mut Response,
    silence_max: Duration,
) -> Result<Option<Vec<u8>>, ReadError> {
    match tokio::time::timeout(silence_max, response.chunk()).await {
        Ok(piece) => Ok(piece?.map(Into::into)),
        Err(_) => Err(ReadError::Transport(format!("silent for {} s", silence_max.as_secs()))),
    }
}

async fn good(response: Response) -> Result<Response, ReadError> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let body = read_body(response, ANSWER_BYTES_MAX).await.unwrap_or_default();
    let reason = String::from_utf8_lossy(&body).trim().chars().take(REASON_CHARS_MAX).collect();
    Err(ReadError::Status { status: status.as_u16(), reason })
}

/// A page of some proxy in between is no answer of the platform.
fn said_to_be(response: &Response, content: &str) -> Result<(), ReadError> {
    let said = response.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or_default());
    if said.is_empty() || said.contains(content) {
        return Ok(());
    }
    Err(ReadError::Body(format!("it is '{said}', not {content}")))
}

async fn read_body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Err(ReadError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn secret(token: &str) -> Result<HeaderValue, ReadError> {
    let mut value = HeaderValue::from_str(token)
        .map_err(|_| ReadError::Body("the token has characters that no header may have".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_file(path: &Path) -> Result<Vec<u8>, SourceError> {
    std::fs::read(path).map_err(|error| SourceError::Settings(format!("{}: {error}", path.display())))
}
