//! Marathon: apps, pods and the stream of events, as a leader or as a standby that says where the leader is.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};

use super::server::{Asked, Content, Platform, Reply};

/// Events that wait for a slow reader; who is slower than that loses its stream.
const OUTSTANDING_MAX: usize = 1024;
/// Time between two signs of life on the stream.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Pieces of a stream on their way.
const PIECES_MAX: usize = 64;

/// One instance of Marathon.
pub struct Marathon {
    state: Mutex<State>,
    events: broadcast::Sender<(String, Value)>,
}

#[derive(Default)]
struct State {
    apps: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    /// Where the leader is, when it is somebody else.
    leader: Option<String>,
    /// What `Authorization` must say.
    authorization: Option<String>,
    /// Whether changes are told.
    mute: bool,
}

impl Default for Marathon {
    fn default() -> Self {
        Self { state: Mutex::default(), events: broadcast::Sender::new(OUTSTANDING_MAX) }
    }
}

impl Marathon {
    /// Puts an app on the host's network, with one HTTP port and a running task at each address.
    pub fn run(&self, id: &str, labels: &Value, at: &[SocketAddr]) {
        let name = id.trim_matches('/').replace('/', "_");
        let task = |(n, at): (usize, &SocketAddr)| {
            json!({"id": format!("{name}.instance-{n}._app.1"), "appId": id, "host": at.ip(), "ports": [at.port()],
                "servicePorts": [10001], "state": "TASK_RUNNING", "stagedAt": "2026-01-01T00:00:00Z",
                "startedAt": "2026-01-01T00:00:00Z", "version": "2026-01-01T00:00:00Z", "region": "eu", "zone": "a",
                "ipAddresses": [{"ipAddress": at.ip(), "protocol": "IPv4"}]})
        };
        let tasks: Vec<Value> = at.iter().enumerate().map(task).collect();
        self.put_app(
            &json!({"id": id, "labels": labels, "instances": tasks.len(), "networks": [{"mode": "host"}],
            "portDefinitions": [{"port": 10001, "name": "http", "protocol": "tcp"}], "tasks": tasks,
            "deployments": [], "healthChecks": [], "readinessChecks": []}),
        );
    }

    /// Puts an app as it is written.
    pub fn put_app(&self, app: &Value) {
        let id = app["id"].as_str().unwrap_or_default().to_owned();
        self.state().apps.insert(id.clone(), app.clone());
        self.tell("status_update_event", json!({"appId": id, "taskStatus": "TASK_RUNNING"}));
    }

    /// Changes fields of a task.
    pub fn task(&self, app: &str, place: usize, fields: &Value) {
        let mut state = self.state();
        let Some(found) = state.apps.get_mut(app) else { return };
        for (name, value) in fields.as_object().into_iter().flatten() {
            found["tasks"][place][name.as_str()] = value.clone();
        }
        drop(state);
        self.tell("instance_changed_event", json!({"runSpecId": app, "condition": "Running"}));
    }

    /// Removes an app.
    pub fn remove(&self, id: &str) {
        self.state().apps.remove(id);
        self.state().pods.remove(id);
        self.tell("app_terminated_event", json!({"appId": id}));
    }

    /// Puts a pod's status as it is written.
    pub fn put_pod(&self, pod: &Value) {
        let id = pod["id"].as_str().unwrap_or_default().to_owned();
        self.state().pods.insert(id, pod.clone());
        self.tell("pod_updated_event", json!({"uri": "/v2/pods"}));
    }

    /// Tells an event, whatever it says.
    pub fn tell(&self, kind: &str, mut event: Value) {
        event["eventType"] = kind.into();
        if !self.state().mute {
            // Without a reader it is lost, as it should be.
            let _ = self.events.send((kind.to_owned(), event));
        }
    }

    /// Whether changes are told from now on.
    pub fn mute(&self, mute: bool) {
        self.state().mute = mute;
    }

    /// Lets somebody else lead; `None` leads again.
    pub fn follow(&self, leader: Option<&str>) {
        self.state().leader = leader.map(str::to_owned);
    }

    /// Asks for this `Authorization` from now on.
    pub fn guard(&self, authorization: Option<&str>) {
        self.state().authorization = authorization.map(str::to_owned);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("plain data")
    }

    fn stream(&self) -> Reply {
        let (pieces, stream) = mpsc::channel(PIECES_MAX);
        let mut events = self.events.subscribe();
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(HEARTBEAT);
            let attached = json!({"remoteAddress": "127.0.0.1", "eventType": "event_stream_attached"});
            let mut next = Some(("event_stream_attached".to_owned(), attached));
            loop {
                let piece = match next.take() {
                    Some((kind, event)) => format!("event: {kind}\r\ndata: {event}\r\n\r\n"),
                    None => "\r\n".to_owned(),
                };
                if pieces.send(piece).await.is_err() {
                    return;
                }
                tokio::select! {
                    // A reader that lags loses the stream.
                    told = events.recv() => match told { Ok(told) => next = Some(told), Err(_) => return },
                    _ = beat.tick() => {}
                    () = pieces.closed() => return,
                }
            }
        });
        let headers = vec![("content-type", "text/event-stream;charset=UTF-8".to_owned())];
        Reply { status: 200, headers, body: Content::Stream(stream) }
    }
}

impl Platform for Marathon {
    const LISTS: &str = "/v2/apps";

    async fn answer(self: Arc<Self>, asked: Asked) -> Reply {
        let said = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
        let (leader, may) = {
            let state = self.state();
            let may = state.authorization.as_deref().is_none_or(|needed| said == Some(needed));
            (state.leader.clone(), may)
        };
        if !may {
            return Reply::error(401, "{\"message\":\"Invalid username or password.\"}");
        }
        let gone = |id: &str| Reply::error(404, &format!("{{\"message\":\"App '/{id}' does not exist\"}}"));
        match (asked.path.as_str(), leader) {
            ("/v2/events", Some(leader)) => {
                Reply { headers: vec![("location", format!("{leader}/v2/events"))], ..Reply::error(302, "") }
            }
            ("/v2/events", None) => self.stream(),
            ("/v2/apps", _) => {
                Reply::json(&json!({"apps": self.state().apps.values().collect::<Vec<_>>()}), vec![])
            }
            ("/v2/pods/::status", _) => Reply::json(&self.state().pods.values().cloned().collect(), vec![]),
            (path, _) => {
                let state = self.state();
                if let Some(id) = path.strip_prefix("/v2/apps/") {
                    let app = state.apps.get(&format!("/{id}"));
                    return app.map_or_else(|| gone(id), |app| Reply::json(&json!({"app": app}), vec![]));
                }
                let id = path.strip_prefix("/v2/pods/").and_then(|id| id.strip_suffix("::status"));
                let pod = id.and_then(|id| state.pods.get(&format!("/{id}")));
                pod.map_or_else(|| gone(id.unwrap_or_default()), |pod| Reply::json(pod, vec![]))
            }
        }
    }

    fn empty(&self, asked: &Asked) -> Reply {
        let body = if asked.path == "/v2/apps" { json!({"apps": []}) } else { json!([]) };
        Reply::json(&body, vec![])
    }

    fn command(&self, words: &[&str]) -> Result<String, String> {
        match *words {
            ["run", id, ref at @ ..] => {
                let at: Result<Vec<SocketAddr>, _> = at.iter().map(|at| at.parse()).collect();
                self.run(id, &json!({}), &at.map_err(|error| error.to_string())?);
            }
            ["remove", id] => self.remove(id),
            ["mute", word] => self.mute(word == "on"),
            ["follow", leader] => self.follow(Some(leader)),
            ["follow"] => self.follow(None),
            _ => return Err("no such command".to_owned()),
        }
        Ok("ok".to_owned())
    }
}
