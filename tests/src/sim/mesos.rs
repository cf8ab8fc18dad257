//! A Mesos master: the operator API's subscription in RecordIO, as a leader, or as another master that says who leads.
//! The shapes are those of a real master 1.11.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};

use super::server::{Asked, Content, Platform, Reply};

/// Records that wait for a slow subscriber.
const RECORDS_MAX: usize = 1024;
/// Time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Pieces of a stream on their way.
const PIECES_MAX: usize = 64;
/// The one agent and the one framework.
const AGENT: &str = "agent-S0";
const FRAMEWORK: &str = "framework-0000";

/// One master.
pub struct Mesos {
    state: Mutex<State>,
    records: broadcast::Sender<Value>,
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<String, Value>,
    /// Whether the agent has not come back to this master yet.
    recovered: bool,
    /// `//host:port` of the master that leads, when it is another one.
    leader: Option<String>,
    authorization: Option<String>,
    subscriptions: u64,
}

impl Default for Mesos {
    fn default() -> Self {
        Self { state: Mutex::default(), records: broadcast::Sender::new(RECORDS_MAX) }
    }
}

impl Mesos {
    /// Runs a task with one HTTP port on the agent.
    pub fn run(&self, name: &str, id: &str, at: SocketAddr) {
        let network = json!([{"name": "cni", "ip_addresses": [{"protocol": "IPv4", "ip_address": at.ip()}]}]);
        let status = json!({"task_id": {"value": id}, "state": "TASK_RUNNING", "agent_id": {"value": AGENT},
            "timestamp": 1.0, "container_status": {"network_infos": network}});
        let task = json!({"name": name, "task_id": {"value": id}, "framework_id": {"value": FRAMEWORK},
            "agent_id": {"value": AGENT}, "state": "TASK_RUNNING", "statuses": [status],
            "discovery": {"visibility": "CLUSTER", "name": name,
                "ports": {"ports": [{"number": at.port(), "name": "http", "protocol": "tcp"}]}}});
        self.state().tasks.insert(id.to_owned(), task.clone());
        self.tell(json!({"type": "TASK_ADDED", "task_added": {"task": task}}));
    }

    /// Tells a state of a task, and whether it is healthy.
    pub fn update(&self, id: &str, state: &str, healthy: Option<bool>) {
        let mut known = self.state();
        let Some(task) = known.tasks.get_mut(id) else { return };
        let mut status = task["statuses"][0].clone();
        status["state"] = state.into();
        if let Some(healthy) = healthy {
            status["healthy"] = healthy.into();
        }
        task["state"] = state.into();
        task["statuses"] = json!([status]);
        if matches!(state, "TASK_KILLED" | "TASK_FAILED" | "TASK_FINISHED") {
            known.tasks.remove(id);
        }
        drop(known);
        let framework = json!({"value": FRAMEWORK});
        self.tell(json!({"type": "TASK_UPDATED",
            "task_updated": {"framework_id": framework, "status": status, "state": state}}));
    }

    /// Forgets what runs until the agent comes back, as a master that has just taken over.
    pub fn recover(&self) {
        self.state().recovered = true;
    }

    /// The agent comes back, or is given up for good.
    pub fn agent(&self, back: bool) {
        let mut state = self.state();
        state.recovered = false;
        if back {
            drop(state);
            return self.tell(json!({"type": "AGENT_ADDED", "agent_added": {"agent": agent()}}));
        }
        state.tasks.clear();
        drop(state);
        self.tell(json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": AGENT}}}));
    }

    /// Lets another master lead, given as `host:port`; `None` leads again.
    pub fn follow(&self, leader: Option<&str>) {
        self.state().leader = leader.map(|leader| format!("//{leader}"));
    }

    /// Asks for this `Authorization` from now on.
    pub fn guard(&self, authorization: Option<&str>) {
        self.state().authorization = authorization.map(str::to_owned);
    }

    /// How often somebody has subscribed.
    pub fn subscriptions(&self) -> u64 {
        self.state().subscriptions
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("plain data")
    }

    fn tell(&self, record: Value) {
        // Without a subscriber it is lost, as it should be.
        let _ = self.records.send(record);
    }

    fn subscribe(&self) -> Reply {
        let (pieces, stream) = mpsc::channel(PIECES_MAX);
        let (mut records, state) = {
            let mut state = self.state();
            state.subscriptions += 1;
            (self.records.subscribe(), subscribed(&state))
        };
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(HEARTBEAT);
            let mut next = state;
            loop {
                let text = next.to_string();
                if pieces.send(format!("{}\n{text}", text.len())).await.is_err() {
                    return;
                }
                next = tokio::select! {
                    record = records.recv() => match record { Ok(record) => record, Err(_) => return },
                    _ = beat.tick() => json!({"type": "HEARTBEAT"}),
                    () = pieces.closed() => return,
                };
            }
        });
        let headers = vec![("content-type", "application/json".to_owned())];
        Reply { status: 200, headers, body: Content::Stream(stream) }
    }
}

fn agent() -> Value {
    json!({"agent_info": {"hostname": "n1", "port": 5051, "id": {"value": AGENT},
            "domain": {"fault_domain": {"region": {"name": "r1"}, "zone": {"name": "a"}}}},
        "active": true, "version": "1.11.0", "pid": "slave(1)@10.0.0.1:5051"})
}

fn subscribed(state: &State) -> Value {
    let (tasks, agents, recovered) = if state.recovered {
        (Vec::new(), json!([]), json!([agent()["agent_info"]]))
    } else {
        (state.tasks.values().collect(), json!([agent()]), json!([]))
    };
    json!({"type": "SUBSCRIBED", "subscribed": {"heartbeat_interval_seconds": HEARTBEAT.as_secs_f64(), "get_state": {
        "get_tasks": {"tasks": tasks, "unreachable_tasks": [], "completed_tasks": []},
        "get_agents": {"agents": agents, "recovered_agents": recovered}}}})
}

impl Platform for Mesos {
    const LISTS: &str = "/master/api/v1";

    async fn answer(self: Arc<Self>, asked: Asked) -> Reply {
        let said = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
        let (leader, may) = {
            let state = self.state();
            let may = state.authorization.as_deref().is_none_or(|needed| said == Some(needed));
            (state.leader.clone(), may)
        };
        let call: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        match (asked.method.as_str(), asked.path.as_str(), leader) {
            (_, _, _) if !may => Reply::error(401, "Unauthorized"),
            (_, path, Some(leader)) => {
                Reply { headers: vec![("location", format!("{leader}{path}"))], ..Reply::error(307, "") }
            }
            ("POST", "/master/api/v1", None) if call["type"] == "SUBSCRIBE" => self.subscribe(),
            ("POST", "/master/api/v1", None) => Reply::error(400, "Failed to validate master::Call"),
            (_, "/master/api/v1", None) => Reply::error(405, "Expecting one of { 'POST' }"),
            _ => Reply::error(404, ""),
        }
    }

    /// A master that sees no tasks, as when ACLs hide them.
    fn empty(&self, _: &Asked) -> Reply {
        let record = subscribed(&State::default()).to_string();
        let headers = vec![("content-type", "application/json".to_owned())];
        Reply { status: 200, headers, body: Content::Whole(format!("{}\n{record}", record.len())) }
    }

    fn command(&self, words: &[&str]) -> Result<String, String> {
        match *words {
            ["run", name, id, at] => {
                self.run(name, id, at.parse().map_err(|error| format!("{at}: {error}"))?)
            }
            ["update", id, state] => self.update(id, state, None),
            ["update", id, state, healthy] => self.update(id, state, Some(healthy == "true")),
            ["recover"] => self.recover(),
            ["agent", word] => self.agent(word == "back"),
            ["follow", leader] => self.follow(Some(leader)),
            ["follow"] => self.follow(None),
            _ => return Err("no such command".to_owned()),
        }
        Ok("ok".to_owned())
    }
}
