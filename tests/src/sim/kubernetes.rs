//! A Kubernetes API server: lists in pages, and watches with bookmarks and versions that are gone.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::server::{Asked, Content, Platform, Reply};

/// Time between two bookmarks.
const BOOKMARK: Duration = Duration::from_secs(1);
/// Lines of a watch on their way.
const LINES_MAX: usize = 256;
/// Kinds that this cluster has, by their last part of a path.
const KINDS: [&str; 5] = ["services", "endpointslices", "nodes", "pods", "virtualservices"];

/// An API server.
pub struct Kubernetes {
    state: Mutex<State>,
    /// The newest version; rung at every change.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// Objects by kind and name.
    objects: BTreeMap<(String, String), Value>,
    /// Kind, line and version of everything that happened.
    log: Vec<(String, Value, u64)>,
    /// Versions before this one are gone.
    compacted: u64,
    /// Most objects of a page, however many are asked for.
    page_max: usize,
    /// Whether the next page of a list is gone, once.
    loses_page: bool,
    authorization: Option<String>,
    /// Who has a token, and for which audience it is.
    tokens: BTreeMap<String, (String, String)>,
}

impl Default for Kubernetes {
    fn default() -> Self {
        let state = State { version: 100, page_max: usize::MAX, ..State::default() };
        Self { state: Mutex::new(state), version: watch::Sender::new(100) }
    }
}

impl Kubernetes {
    /// Puts a Service with one HTTP port.
    pub fn service(&self, name: &str) {
        self.put(
            "services",
            &json!({"metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "ClusterIP", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}),
        );
    }

    /// Puts a slice of a service: addresses of one port, each with its conditions.
    pub fn slice(&self, service: &str, name: &str, port: u16, endpoints: &[(&str, Value)]) {
        let endpoint = |(address, conditions): &(&str, Value)| {
            json!({"addresses": [address], "conditions": conditions, "nodeName": "n1",
                "targetRef": {"kind": "Pod", "name": format!("pod-{address}"), "namespace": "default"}})
        };
        self.put(
            "endpointslices",
            &json!({"metadata": {"name": name, "namespace": "default",
                "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()}),
        );
    }

    /// Slices of one address each, ready.
    pub fn ready(&self, service: &str, at: &[SocketAddr]) {
        for (n, at) in at.iter().enumerate() {
            let address = at.ip().to_string();
            self.slice(service, &format!("{service}-{n}"), at.port(), &[(&address, json!({"ready": true}))]);
        }
    }

    /// Adds or replaces an object of a kind.
    pub fn put(&self, kind: &str, object: &Value) {
        let mut object = object.clone();
        let mut state = self.state();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let before = state.objects.insert((kind.to_owned(), name_of(&object)), object.clone());
        self.tell(state, kind, if before.is_some() { "MODIFIED" } else { "ADDED" }, object);
    }

    /// Removes an object by its name.
    pub fn delete(&self, kind: &str, name: &str) {
        let mut state = self.state();
        let Some(mut object) = state.objects.remove(&(kind.to_owned(), name.to_owned())) else { return };
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        self.tell(state, kind, "DELETED", object);
    }

    /// Forgets every version before the newest, and what happened up to it.
    pub fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.version;
        state.log.clear();
    }

    /// Gives pages of so many objects, and loses the second page of the next list.
    pub fn pages(&self, page_max: usize, loses_page: bool) {
        let mut state = self.state();
        (state.page_max, state.loses_page) = (page_max, loses_page);
    }

    /// Asks for this `Authorization` from now on.
    pub fn guard(&self, authorization: Option<&str>) {
        self.state().authorization = authorization.map(str::to_owned);
    }

    /// Knows a token: a user's, for one audience.
    pub fn token(&self, token: &str, user: &str, audience: &str) {
        self.state().tokens.insert(token.to_owned(), (user.to_owned(), audience.to_owned()));
    }

    /// What a token review says: a token for other audiences than those that are asked for is not authenticated.
    fn review(&self, asked: &Asked) -> Reply {
        let mut review: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        let wanted = review["spec"]["audiences"].as_array().cloned().unwrap_or_default();
        let found = self.state().tokens.get(token).cloned();
        review["status"] = match found.filter(|(_, audience)| wanted.iter().any(|one| one == audience)) {
            Some((user, audience)) => {
                json!({"authenticated": true, "user": {"username": user}, "audiences": [audience]})
            }
            None => {
                json!({"authenticated": false, "error": "[invalid bearer token, token audiences are invalid]"})
            }
        };
        Reply { status: 201, ..Reply::json(&review, vec![]) }
    }

    fn tell(&self, mut state: MutexGuard<'_, State>, kind: &str, what: &str, object: Value) {
        let version = state.version;
        state.log.push((kind.to_owned(), json!({"type": what, "object": object}), version));
        drop(state);
        self.version.send_replace(version);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("plain data")
    }

    fn list(&self, kind: &str, asked: &Asked) -> Reply {
        let mut state = self.state();
        let from: usize = asked.query.get("continue").and_then(|next| next.parse().ok()).unwrap_or(0);
        if from > 0 && std::mem::take(&mut state.loses_page) {
            return Reply { status: 410, ..Reply::json(&gone(), vec![]) };
        }
        let limit = asked.number("limit").map_or(usize::MAX, |limit| limit as usize).min(state.page_max);
        let all: Vec<&Value> =
            state.objects.iter().filter(|((of, _), _)| of == kind).map(|(_, object)| object).collect();
        let to = from.saturating_add(limit);
        let next = if to < all.len() { to.to_string() } else { String::new() };
        let items: Vec<&Value> = all.into_iter().skip(from).take(limit).collect();
        let metadata = json!({"resourceVersion": state.version.to_string(), "continue": next});
        Reply::json(&json!({"kind": "List", "metadata": metadata, "items": items}), vec![])
    }

    fn watch(self: Arc<Self>, kind: String, asked: &Asked) -> Reply {
        let (lines, stream) = mpsc::channel(LINES_MAX);
        let mut past = asked.number("resourceVersion").unwrap_or(0);
        tokio::spawn(async move {
            let mut rung = self.version.subscribe();
            let mut beat = tokio::time::interval(BOOKMARK);
            loop {
                let told: Vec<Value> = {
                    let state = self.state();
                    if past < state.compacted {
                        vec![json!({"type": "ERROR", "object": gone()})]
                    } else {
                        let fresh =
                            state.log.iter().filter(|(of, _, version)| *of == kind && *version > past);
                        fresh.map(|(_, line, _)| line.clone()).collect()
                    }
                };
                past = past.max(self.state().version);
                for line in &told {
                    if lines.send(format!("{line}\n")).await.is_err() || line["type"] == "ERROR" {
                        return;
                    }
                }
                tokio::select! {
                    _ = rung.changed() => {}
                    _ = beat.tick() => {
                        let metadata = json!({"resourceVersion": past.to_string()});
                        let line = json!({"type": "BOOKMARK", "object": {"metadata": metadata}});
                        if lines.send(format!("{line}\n")).await.is_err() {
                            return;
                        }
                    }
                    () = lines.closed() => return,
                }
            }
        });
        let headers = vec![("content-type", "application/json".to_owned())];
        Reply { status: 200, headers, body: Content::Stream(stream) }
    }
}

fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn gone() -> Value {
    json!({"kind": "Status", "status": "Failure", "message": "too old resource version", "reason": "Expired", "code": 410})
}

impl Platform for Kubernetes {
    const LISTS: &str = "/api";

    async fn answer(self: Arc<Self>, asked: Asked) -> Reply {
        let said = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
        let may = self.state().authorization.as_deref().is_none_or(|needed| said == Some(needed));
        let kind = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
        if !may {
            return Reply::error(401, "Unauthorized");
        }
        if asked.path == "/apis/authentication.k8s.io/v1/tokenreviews" {
            return self.review(&asked);
        }
        if !KINDS.contains(&kind.as_str()) {
            return Reply::error(404, "the server could not find the requested resource");
        }
        if asked.query.contains_key("watch") { self.watch(kind, &asked) } else { self.list(&kind, &asked) }
    }

    fn empty(&self, _: &Asked) -> Reply {
        let version = self.state().version.to_string();
        Reply::json(&json!({"kind": "List", "metadata": {"resourceVersion": version}, "items": []}), vec![])
    }

    fn command(&self, words: &[&str]) -> Result<String, String> {
        match *words {
            ["service", name] => self.service(name),
            ["ready", service, ref at @ ..] => {
                let at: Result<Vec<SocketAddr>, _> = at.iter().map(|at| at.parse()).collect();
                self.ready(service, &at.map_err(|error| error.to_string())?);
            }
            ["put", kind, object] => {
                self.put(kind, &serde_json::from_str(object).map_err(|error| error.to_string())?);
            }
            ["delete", kind, name] => self.delete(kind, name),
            ["compact"] => self.compact(),
            ["token", token, user, audience] => self.token(token, user, audience),
            _ => return Err("no such command".to_owned()),
        }
        Ok(format!("version {}", self.state().version))
    }
}
