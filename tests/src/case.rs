//! The differential table: what a case file says. `play` runs a case, `outcome` says what came of it and compares.

pub mod frames;
pub mod outcome;
pub mod play;
pub mod raw;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::Deserialize;

use crate::client::Protocol;

/// One file under `cases/`: services, documents, and what must then happen to requests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Versions of each service that have a backend; none is a service without endpoints, `dead` is one whose endpoint
    /// refuses connections.
    pub services: BTreeMap<String, Vec<String>>,
    /// The documents, as an operator writes them.
    pub documents: String,
    /// Whether its cases disturb each other: they then run one after another.
    #[serde(default)]
    pub alone: bool,
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
    /// What must come from both, beside being equal.
    #[serde(default)]
    pub expect: Expect,
    /// What differs on purpose, by field as the test names it, with the reason. What is expected is then ours alone.
    #[serde(default)]
    pub differs: BTreeMap<String, String>,
    /// Fields whose values are chance: only their presence is compared.
    #[serde(default)]
    pub random: Vec<String>,
    /// One of the two refuses it before it reads headers, so that the line in its log cannot be found.
    #[serde(default)]
    pub unlogged: bool,
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
    /// Bytes to an HTTP port, however malformed. `$ID` stands for the request's id.
    Raw {
        /// The bytes.
        text: String,
        /// Where.
        #[serde(default)]
        door: Door,
    },
    /// Fields of an HTTP/2 request, however malformed. `$ID` stands for the request's id.
    H2 {
        /// Names and values, in order.
        fields: Vec<(String, String)>,
        /// A body; none ends the request with its head.
        #[serde(default)]
        body: Option<String>,
        /// Fields after the body.
        #[serde(default)]
        trailers: Vec<(String, String)>,
        /// Where.
        #[serde(default)]
        door: Door,
    },
}

/// Where a request goes in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// The port that routes by host.
    #[default]
    Http,
    /// The declared upstream of a service.
    Upstream(String),
    /// A port of the gateway.
    Gateway(u16),
    /// The inbound port of a service's workload.
    Inbound(String),
}

/// An HTTP request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// `Host` or `:authority`.
    pub host: String,
    /// Where it goes in.
    #[serde(default)]
    pub door: Door,
    /// Path and query.
    #[serde(default = "root")]
    pub path: String,
    /// Method.
    #[serde(default = "get")]
    pub method: String,
    /// Headers; a list is several lines.
    #[serde(default)]
    pub headers: BTreeMap<String, Lines>,
    /// Bytes of body to send.
    #[serde(default)]
    pub body: usize,
    /// Sends the body in chunks, without a length.
    #[serde(default)]
    pub chunked: bool,
    /// Trailers after a body in chunks.
    #[serde(default)]
    pub trailers: BTreeMap<String, String>,
    /// Protocol of the client.
    #[serde(default)]
    pub protocol: Protocol,
    /// How often; more than one is for `expect.share`.
    #[serde(default = "once")]
    pub times: u32,
    /// How many of them at once.
    #[serde(default = "once")]
    pub at_once: u32,
}

/// One header line or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Lines {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Lines {
    /// The values.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(line) => std::slice::from_ref(line),
            Self::Many(lines) => lines,
        }
    }
}

/// What must come. What is left out is only compared.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Status; of raw bytes those of all answers, `400` or `200 400`.
    pub status: Option<Status>,
    /// Backend that answered: `service@version`.
    pub from: Option<String>,
    /// Response flags.
    pub flags: Option<String>,
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
    /// Backends that must get a copy of the request, sooner or later: `service@version`. They are no attempts.
    pub copies: Vec<String>,
    /// How many versions were asked.
    pub tried: Option<usize>,
    /// Share of the answers of each version, in percent.
    pub share: BTreeMap<String, f64>,
    /// Share of the answers of each status, in percent.
    pub statuses: BTreeMap<u16, f64>,
    /// How many versions answered.
    pub distinct: Option<usize>,
    /// What the shares may differ, in percent.
    pub tolerance: Option<f64>,
    /// TCP: what the backend greets with.
    pub greeting: Option<String>,
}

/// A status, or what stands for several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Status {
    /// One.
    One(u16),
    /// Several, or none: `200 400`, `closed`, `reset`.
    Text(String),
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(status) => status.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
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
    /// HTTP ports.
    pub http: BTreeMap<Door, SocketAddr>,
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

    /// The doors that its cases go in by.
    pub fn doors(&self) -> BTreeSet<Door> {
        let door = |case: &Case| match &case.send {
            Send::Request(Ask { door, .. }) | Send::Raw { door, .. } | Send::H2 { door, .. } => {
                Some(door.clone())
            }
            Send::Tcp { .. } => None,
        };
        self.cases.iter().filter_map(door).collect()
    }
}
