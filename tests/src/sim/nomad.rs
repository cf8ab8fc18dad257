//! Nomad: services, allocations, nodes, blocking queries with the index of a whole table, and the stream of events with
//! its limited buffer.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::server::{Asked, Content, Platform, Reply};

/// Events that are kept for who comes late.
const EVENTS_MAX: usize = 100;
/// Time between two signs of life on the stream.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Lines of a stream on their way.
const LINES_MAX: usize = 256;
/// The one node.
const NODE: &str = "6f4a5c9e-0000-4000-8000-000000000001";

/// A server of one region.
pub struct Nomad {
    state: Mutex<State>,
    /// The newest index; rung at every change.
    index: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    index: u64,
    services_index: u64,
    allocs_index: u64,
    registrations: BTreeMap<String, Value>,
    allocs: BTreeMap<String, Value>,
    events: VecDeque<Value>,
    token: Option<String>,
    /// Whether the stream says 200 and ends before it says anything, as it does to who may not have it.
    denies_events: bool,
}

impl Default for Nomad {
    fn default() -> Self {
        let state = State { index: 40, services_index: 40, allocs_index: 40, ..State::default() };
        Self { state: Mutex::new(state), index: watch::Sender::new(40) }
    }
}

impl Nomad {
    /// Registers an instance with an allocation that runs.
    pub fn register(&self, service: &str, id: &str, tags: &[&str], at: SocketAddr) {
        let mut state = self.state();
        state.index += 1;
        let index = state.index;
        let alloc = json!({"ID": format!("alloc-{id}"), "Namespace": "default", "NodeID": NODE, "JobID": service,
            "JobType": "service", "TaskGroup": "g", "DesiredStatus": "run", "ClientStatus": "running",
            "DesiredTransition": {"Migrate": null}, "DeploymentID": "", "ModifyIndex": index,
            "DeploymentStatus": {"Healthy": true, "Canary": false}});
        state.allocs_index = index;
        state.allocs.insert(format!("alloc-{id}"), alloc.clone());
        state.tell("Allocation", "AllocationUpdated", &json!({"Allocation": alloc}));
        state.index += 1;
        let index = state.index;
        let found = json!({"ID": id, "ServiceName": service, "Namespace": "default", "NodeID": NODE,
            "Datacenter": "dc1", "JobID": service, "AllocID": format!("alloc-{id}"), "Tags": tags,
            "Address": at.ip(), "Port": at.port(), "CreateIndex": index, "ModifyIndex": index});
        state.services_index = index;
        state.registrations.insert(id.to_owned(), found.clone());
        state.tell("Service", "ServiceRegistration", &json!({"Service": found}));
        self.ring(state);
    }

    /// Takes instances out, all under one index.
    pub fn deregister(&self, ids: &[&str]) {
        let mut state = self.state();
        state.index += 1;
        state.services_index = state.index;
        let gone: Vec<Value> = ids.iter().filter_map(|id| state.registrations.remove(*id)).collect();
        let events = gone
            .iter()
            .map(|found| state.event("Service", "ServiceDeregistration", &json!({"Service": found})));
        let events: Vec<Value> = events.collect();
        state.keep(events);
        self.ring(state);
    }

    /// Changes fields of an instance's allocation.
    pub fn alloc(&self, id: &str, fields: &Value) {
        let mut state = self.state();
        state.index += 1;
        let index = state.index;
        state.allocs_index = index;
        let Some(alloc) = state.allocs.get_mut(&format!("alloc-{id}")) else { return };
        for (name, value) in fields.as_object().into_iter().flatten() {
            alloc[name.as_str()] = value.clone();
        }
        alloc["ModifyIndex"] = index.into();
        let alloc = alloc.clone();
        state.tell("Allocation", "AllocationUpdated", &json!({"Allocation": alloc}));
        self.ring(state);
    }

    /// Takes instances out without an event that anybody could still read, as when the buffer has run over.
    pub fn forget(&self, ids: &[&str]) {
        self.deregister(ids);
        self.state().events.clear();
    }

    /// Goes back to an index, as a server that was restored from a snapshot.
    pub fn reset_index(&self, index: u64) {
        let mut state = self.state();
        (state.index, state.services_index, state.allocs_index) = (index, index, index);
        state.events.clear();
        self.ring(state);
    }

    /// Lets nobody read without this token; `None` lets everybody.
    pub fn guard(&self, token: Option<&str>) {
        self.state().token = token.map(str::to_owned);
    }

    /// Denies the stream of events the way servers do: 200, and then nothing.
    pub fn deny_events(&self, deny: bool) {
        self.state().denies_events = deny;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("plain data")
    }

    fn ring(&self, state: MutexGuard<'_, State>) {
        let index = state.index;
        drop(state);
        self.index.send_replace(index);
    }

    /// Blocks as the query asks, then answers with what there is.
    async fn list(&self, asked: &Asked, table: fn(&State) -> u64, body: impl Fn(&State) -> Value) -> Reply {
        if let Some(past) = asked.number("index").filter(|past| *past > 0) {
            let wait = Duration::from_secs(asked.number("wait").unwrap_or(300));
            let mut rung = self.index.subscribe();
            let moved = async {
                // An index that went back ends no wait.
                while table(&self.state()) <= past {
                    let _ = rung.changed().await;
                }
            };
            let _ = tokio::time::timeout(wait, moved).await;
        }
        let state = self.state();
        Reply::json(&body(&state), vec![("x-nomad-index", table(&state).to_string())])
    }

    fn events(self: Arc<Self>, asked: &Asked) -> Reply {
        let headers = vec![("content-type", "application/json".to_owned())];
        if self.state().denies_events {
            return Reply { status: 200, headers, body: Content::Whole(String::new()) };
        }
        let (lines, stream) = mpsc::channel(LINES_MAX);
        let mut past = asked.number("index").unwrap_or(0);
        if past == 0 {
            past = self.state().index;
        }
        tokio::spawn(async move {
            let mut rung = self.index.subscribe();
            let mut beat = tokio::time::interval(HEARTBEAT);
            loop {
                let line = tokio::select! {
                    _ = beat.tick() => Some("{}\n".to_owned()),
                    _ = rung.changed() => None,
                    () = lines.closed() => return,
                };
                let fresh: Vec<Value> = {
                    let state = self.state();
                    // Whoever is ahead of a restored server hears nothing more of it.
                    state
                        .events
                        .iter()
                        .filter(|batch| batch["Index"].as_u64() > Some(past))
                        .cloned()
                        .collect()
                };
                let told = line.into_iter().chain(fresh.iter().map(|batch| format!("{batch}\n")));
                for line in told.collect::<Vec<_>>() {
                    if lines.send(line).await.is_err() {
                        return;
                    }
                }
                past = fresh.last().and_then(|batch| batch["Index"].as_u64()).unwrap_or(past);
            }
        });
        Reply { status: 200, headers, body: Content::Stream(stream) }
    }
}

impl State {
    fn event(&self, topic: &str, kind: &str, payload: &Value) -> Value {
        json!({"Topic": topic, "Type": kind, "Namespace": "default", "Index": self.index, "Payload": payload})
    }

    fn tell(&mut self, topic: &str, kind: &str, payload: &Value) {
        let event = self.event(topic, kind, payload);
        self.keep(vec![event]);
    }

    fn keep(&mut self, events: Vec<Value>) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(json!({"Index": self.index, "Events": events}));
    }

    fn names(&self) -> Value {
        let mut names = BTreeMap::<&str, &Value>::new();
        for found in self.registrations.values() {
            names.insert(found["ServiceName"].as_str().unwrap_or_default(), &found["Tags"]);
        }
        let services: Vec<Value> =
            names.into_iter().map(|(name, tags)| json!({"ServiceName": name, "Tags": tags})).collect();
        if services.is_empty() { json!([]) } else { json!([{"Namespace": "default", "Services": services}]) }
    }

    fn service(&self, name: &str) -> Value {
        self.registrations.values().filter(|found| found["ServiceName"] == name).cloned().collect()
    }
}

impl Platform for Nomad {
    const LISTS: &str = "/v1/service";

    async fn answer(self: Arc<Self>, asked: Asked) -> Reply {
        let token = asked.headers.get("x-nomad-token").and_then(|value| value.to_str().ok());
        let may = self.state().token.as_deref().is_none_or(|needed| token == Some(needed));
        if !may {
            return Reply::error(403, "Permission denied");
        }
        let path = asked.path.clone();
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        match *parts {
            ["services"] => self.list(&asked, |state| state.services_index, State::names).await,
            ["service", name] => {
                self.list(&asked, |state| state.services_index, |state| state.service(name)).await
            }
            ["allocations"] => {
                // The list leaves the deployment out.
                let stub = |alloc: &Value| {
                    let mut stub = alloc.clone();
                    stub.as_object_mut().map(|fields| fields.remove("DeploymentID"));
                    stub
                };
                let all = move |state: &State| state.allocs.values().map(stub).collect();
                self.list(&asked, |state| state.allocs_index, all).await
            }
            ["allocation", id] => match self.state().allocs.get(id) {
                Some(alloc) => Reply::json(alloc, vec![]),
                None => Reply::error(404, "alloc not found"),
            },
            ["node", id] => Reply::json(
                &json!({"ID": id, "Name": "n1", "Datacenter": "dc1", "Status": "ready", "Attributes": {},
                    "Meta": {"zone": "a", "rack": "r7"}}),
                vec![],
            ),
            ["event", "stream"] => self.events(&asked),
            _ => Reply::error(404, "Invalid URL path"),
        }
    }

    fn empty(&self, _: &Asked) -> Reply {
        let index = self.state().services_index;
        Reply::json(&json!([]), vec![("x-nomad-index", index.to_string())])
    }

    fn command(&self, words: &[&str]) -> Result<String, String> {
        match *words {
            ["register", service, id, at, ref tags @ ..] => {
                let at = at.parse().map_err(|error| format!("{at}: {error}"))?;
                self.register(service, id, tags, at);
            }
            ["deregister", ref ids @ ..] => self.deregister(ids),
            ["alloc", id, fields] => {
                self.alloc(id, &serde_json::from_str(fields).map_err(|error| error.to_string())?);
            }
            ["forget", ref ids @ ..] => self.forget(ids),
            ["reset-index", index] => self.reset_index(index.parse().map_err(|error| format!("{error}"))?),
            ["guard", token] => self.guard(Some(token)),
            ["guard"] => self.guard(None),
            ["deny-events", word] => self.deny_events(word == "on"),
            _ => return Err("no such command".to_owned()),
        }
        Ok(format!("index {}", self.state().index))
    }
}
