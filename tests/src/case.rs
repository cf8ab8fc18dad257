//! The differential table: what a case file says, and what it means for an answer.

use std::{collections::BTreeMap, net::SocketAddr};

use http::Request;
use serde::Deserialize;

use crate::{
    backend::{Attempts, Seen, tcp_exchange},
    client::{self, Answer, Connection, Protocol},
};

/// One file under `cases/`: services, documents, and what must then happen to requests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Versions of each service that have a backend; none is a service without endpoints.
    pub services: BTreeMap<String, Vec<String>>,
    /// The documents, as an operator writes them.
    pub documents: String,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is claimed.
    pub name: String,
    /// What is sent.
    #[serde(flatten)]
    pub send: Send,
    /// What must come.
    pub expect: Expect,
}

/// What is sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Send {
    /// An HTTP request.
    Request(Ask),
    /// Bytes to the declared upstream of a TCP service.
    Tcp {
        /// The service.
        service: String,
        /// The bytes.
        text: String,
    },
}

/// An HTTP request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// `Host` or `:authority`.
    pub host: String,
    /// Path and query.
    #[serde(default = "root")]
    pub path: String,
    /// Method.
    #[serde(default = "get")]
    pub method: String,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Bytes of body to send.
    #[serde(default)]
    pub body: usize,
    /// Sends the body in chunks, without a length.
    #[serde(default)]
    pub chunked: bool,
    /// Protocol of the client.
    #[serde(default)]
    pub protocol: Protocol,
    /// How often; more than one is for `expect.share`.
    #[serde(default = "once")]
    pub times: u32,
}

/// What must come. What is left out is not looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Status.
    pub status: Option<u16>,
    /// Backend that answered: `service@version`.
    pub from: Option<String>,
    /// Method that the backend saw.
    pub method: Option<String>,
    /// Path and query that the backend saw.
    pub path: Option<String>,
    /// Host that the backend saw.
    pub host: Option<String>,
    /// Bytes of body that the backend saw.
    pub body_bytes: Option<usize>,
    /// Headers that the backend saw; null: must be absent.
    pub seen: BTreeMap<String, Option<String>>,
    /// Headers of the answer; null: must be absent.
    pub headers: BTreeMap<String, Option<String>>,
    /// Trailers of the answer.
    pub trailers: BTreeMap<String, String>,
    /// Body of the answer.
    pub body: Option<String>,
    /// Bytes in the body of the answer.
    pub size: Option<usize>,
    /// Attempts that the backends counted.
    pub attempts: Option<u32>,
    /// Share of the answers of each version, in percent.
    pub share: BTreeMap<String, f64>,
    /// How many versions answered.
    pub distinct: Option<usize>,
    /// What the share may differ, in percent.
    pub tolerance: Option<f64>,
    /// TCP: what the backend greets with.
    pub greeting: Option<String>,
}

fn root() -> String {
    "/".into()
}

fn get() -> String {
    "GET".into()
}

fn once() -> u32 {
    1
}

/// Where a dataplane takes requests.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// HTTP routed by host.
    pub http: Option<SocketAddr>,
    /// Declared upstreams of TCP services.
    pub tcp: BTreeMap<String, SocketAddr>,
}

impl Group {
    /// Every case file, by its name.
    pub fn all() -> BTreeMap<String, Self> {
        let folder = crate::program::root().join("tests/cases");
        let files = std::fs::read_dir(&folder).expect("the case files are in the repository");
        files
            .map(|entry| {
                let path = entry.expect("the folder can be read").path();
                let text = std::fs::read_to_string(&path).expect("a case file can be read");
                let group = serde_saphyr::from_str(&text);
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                (name, group.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
            })
            .collect()
    }
}

impl Case {
    /// Runs the case; every difference from what is expected, or nothing. `run` makes request ids unique.
    pub async fn run(&self, doors: &Doors, attempts: &Attempts, run: &str) -> Vec<String> {
        match &self.send {
            Send::Request(ask) => self.run_http(ask, doors, attempts, run).await,
            Send::Tcp { service, text } => match tcp_exchange(doors.tcp[service], text).await {
                Ok((greeting, echo)) => {
                    let mut wrong = Vec::new();
                    compare(&mut wrong, "greeting", self.expect.greeting.as_ref(), &greeting);
                    compare(&mut wrong, "body", self.expect.body.as_ref(), &echo);
                    wrong
                }
                Err(error) => vec![format!("tcp: {error}")],
            },
        }
    }

    async fn run_http(&self, ask: &Ask, doors: &Doors, attempts: &Attempts, run: &str) -> Vec<String> {
        let door = doors.http.expect("every dataplane has an HTTP door");
        let id = format!("{run}/{}", self.name);
        let mut versions = BTreeMap::<String, u32>::new();
        let mut wrong = Vec::new();
        let mut connection = None;
        for _ in 0..ask.times {
            let open = match connection.take() {
                Some(open) => open,
                None => match Connection::open(door, ask.protocol).await {
                    Ok(open) => open,
                    Err(failure) => return vec![failure.to_string()],
                },
            };
            let answer = match connection.insert(open).send(ask.request(&id)).await {
                Ok(answer) => answer,
                Err(failure) => return vec![failure.to_string()],
            };
            if ask.times == 1 {
                self.check(&answer, attempts.of(&id), &mut wrong);
            }
            *versions.entry(answer.version().to_owned()).or_default() += 1;
        }
        compare(&mut wrong, "versions that answered", self.expect.distinct.as_ref(), &versions.len());
        for (version, wanted) in &self.expect.share {
            let got = 100.0 * f64::from(versions.get(version).copied().unwrap_or(0)) / f64::from(ask.times);
            if (got - wanted).abs() > self.expect.tolerance.unwrap_or(5.0) {
                wrong.push(format!("share of {version}: expected {wanted} %, got {got} % ({versions:?})"));
            }
        }
        wrong
    }

    fn check(&self, answer: &Answer, attempts: u32, wrong: &mut Vec<String>) {
        let expect = &self.expect;
        compare(wrong, "status", expect.status.as_ref(), &answer.status.as_u16());
        for (name, value) in &expect.headers {
            compare(wrong, &format!("header {name}"), Some(value), &answer.header(name));
        }
        for (name, value) in &expect.trailers {
            compare(wrong, &format!("trailer {name}"), Some(&Some(value)), &answer.trailers.get(name));
        }
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        compare(wrong, "body", expect.body.as_ref(), &text);
        compare(wrong, "size", expect.size.as_ref(), &answer.body.len());
        compare(wrong, "attempts", expect.attempts.as_ref(), &attempts);
        let service = answer.header("x-echo-service").unwrap_or_default();
        let from = format!("{service}@{}", answer.version());
        compare(wrong, "from", expect.from.as_ref(), &from);
        let seen_matters = expect.method.is_some()
            || expect.path.is_some()
            || expect.host.is_some()
            || expect.body_bytes.is_some()
            || !expect.seen.is_empty();
        if seen_matters {
            match serde_json::from_str::<Seen>(&text) {
                Ok(seen) => self.check_seen(&seen, wrong),
                Err(_) => wrong.push(format!("no backend answered, but: {} {text:?}", answer.status)),
            }
        }
    }

    fn check_seen(&self, seen: &Seen, wrong: &mut Vec<String>) {
        let expect = &self.expect;
        compare(wrong, "seen method", expect.method.as_ref(), &seen.method);
        compare(wrong, "seen path", expect.path.as_ref(), &seen.path);
        compare(wrong, "seen host", expect.host.as_ref(), &seen.host);
        compare(wrong, "seen body bytes", expect.body_bytes.as_ref(), &seen.body_bytes);
        for (name, value) in &expect.seen {
            let got = seen.headers.get(name).map(|values| values.join(","));
            compare(wrong, &format!("seen header {name}"), Some(value), &got);
        }
    }
}

impl Ask {
    fn request(&self, id: &str) -> Request<client::Body> {
        let mut request = client::get(self.protocol, &self.host, &self.path).method(self.method.as_str());
        request = request.header("x-echo-id", id);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let bytes = vec![b'x'; self.body];
        let body = if self.chunked {
            let half = self.body / 2;
            let parts = [bytes[..half].to_vec(), bytes[half..].to_vec()];
            let frames = parts.map(|part| Ok(hyper::body::Frame::data(part.into())));
            http_body_util::BodyExt::boxed(http_body_util::StreamBody::new(futures::stream::iter(frames)))
        } else if self.body > 0 {
            client::full(bytes)
        } else {
            client::empty()
        };
        request.body(body).unwrap_or_else(|error| panic!("case request {}{}: {error}", self.host, self.path))
    }
}

fn compare<T: PartialEq + std::fmt::Debug>(
    wrong: &mut Vec<String>,
    what: &str,
    expected: Option<&T>,
    got: &T,
) {
    if let Some(expected) = expected.filter(|expected| *expected != got) {
        wrong.push(format!("{what}: expected {expected:?}, got {got:?}"));
    }
}
