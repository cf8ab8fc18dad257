//! Questions to Marathon: apps, pods, one of them, and the stream of events with its redirect to the leader.

use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, Response};
use serde::Deserialize;

use super::sse::{Event, Parser};
use super::wire::{App, Apps, OneApp, Pod};
use crate::http::{ANSWER_MAX, Credential, Http, ReadError, next_piece};
use crate::lines::Lines;
use crate::settings::MarathonSettings;
use crate::source::SourceError;

/// What comes with an app.
const EMBED: [&str; 4] = ["tasks", "deployments", "readiness", "counts"];
/// The stream may be silent for long; that the leader lives is seen by the lists.
const SILENCE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Events after which an app or a pod may be other than before.
const EVENTS: [&str; 17] = [
    "event_stream_attached",
    "status_update_event",
    "instance_changed_event",
    "instance_health_changed_event",
    "health_status_changed_event",
    "deployment_info",
    "deployment_success",
    "deployment_failed",
    "deployment_step_success",
    "deployment_step_failure",
    "app_terminated_event",
    "unknown_instance_terminated_event",
    "group_change_success",
    "api_post_event",
    "pod_created_event",
    "pod_updated_event",
    "pod_deleted_event",
];

/// A client of one Marathon.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) http: Http,
}

impl Api {
    pub(super) fn new(settings: &MarathonSettings) -> Result<Self, SourceError> {
        Ok(Api { http: Http::new("Marathon", settings.access.clone(), Credential::BasicOrDcos)? })
    }

    /// Every app with its tasks.
    pub(super) async fn apps(&self) -> Result<Vec<App>, ReadError> {
        let mut url = self.http.url(&["v2", "apps"])?;
        for embed in EMBED {
            url.query_pairs_mut().append_pair("embed", &format!("apps.{embed}"));
        }
        self.http.get::<Apps>(url, ANSWER_MAX).await.map(|answer| answer.body.apps)
    }

    /// Every pod with its instances; none where there are no pods.
    pub(super) async fn pods(&self) -> Result<Vec<Pod>, ReadError> {
        let url = self.http.url(&["v2", "pods", "::status"])?;
        match self.http.get::<Vec<Pod>>(url, ANSWER_MAX).await {
            Ok(answer) => Ok(answer.body),
            // Marathon before 1.4 has none.
            Err(ReadError::Status { status: 404, .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// One app; `None` where Marathon says that there is none.
    pub(super) async fn app(&self, id: &str) -> Result<Option<App>, ReadError> {
        let path: Vec<&str> =
            ["v2", "apps"].into_iter().chain(id.trim_start_matches('/').split('/')).collect();
        let mut url = self.http.url(&path)?;
        for embed in EMBED {
            url.query_pairs_mut().append_pair("embed", &format!("app.{embed}"));
        }
        there(self.http.get::<OneApp>(url, ANSWER_MAX).await.map(|answer| answer.body.app))
    }

    /// One pod; `None` where Marathon says that there is none.
    pub(super) async fn pod(&self, id: &str) -> Result<Option<Pod>, ReadError> {
        let id = format!("{}::status", id.trim_start_matches('/'));
        let path: Vec<&str> = ["v2", "pods"].into_iter().chain(id.split('/')).collect();
        let url = self.http.url(&path)?;
        there(self.http.get::<Pod>(url, ANSWER_MAX).await.map(|answer| answer.body))
    }

    /// The stream of events, attached. Only the leader has one; others say where it is.
    pub(super) async fn events(&self) -> Result<Events, ReadError> {
        let mut url = self.http.url(&["v2", "events"])?;
        for kind in EVENTS {
            url.query_pairs_mut().append_pair("event_type", kind);
        }
        let dress = |request: reqwest::RequestBuilder| request.header(ACCEPT, "text/event-stream");
        let response = self.http.follow(Method::GET, url, dress, "text/event-stream").await?;
        let mut events =
            Events { response, lines: Lines::default(), parser: Parser::default(), silence_max: ANSWER_MAX };
        // A standby that takes the stream by mistake ends it at once.
        events.next().await?;
        events.silence_max = SILENCE_MAX;
        Ok(events)
    }
}

/// A 404 of Marathon itself means that it is gone.
fn there<T>(answer: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ReadError::Status { status: 404, reason }) if reason.contains("does not exist") => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an event may have changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    /// Nothing that we read.
    Nothing,
    /// One app or pod, by its id.
    One(String),
    /// Anything.
    All,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Names {
    app_id: Option<String>,
    run_spec_id: Option<String>,
}

/// Reads an event. Its order and its content are no promise: it only says where to look.
pub(super) fn touched(event: &Event) -> Touched {
    let names: Names = serde_json::from_str(&event.data).unwrap_or_default();
    match names.app_id.or(names.run_spec_id) {
        Some(id) => Touched::One(id),
        None if event.kind == "event_stream_attached" => Touched::Nothing,
        None => Touched::All,
    }
}

/// An open stream of events.
pub(super) struct Events {
    response: Response,
    lines: Lines,
    parser: Parser,
    silence_max: Duration,
}

impl Events {
    /// The next event. Cancel safe: a line is taken whole or not at all.
    pub(super) async fn next(&mut self) -> Result<Event, ReadError> {
        loop {
            while let Some(line) = self.lines.next() {
                if let Some(event) = self.parser.line(&String::from_utf8_lossy(line)) {
                    return Ok(event);
                }
            }
            let piece = next_piece(&mut self.response, self.silence_max).await?;
            let piece = piece.ok_or_else(|| ReadError::Transport("the event stream ended".to_owned()))?;
            self.lines.push(&piece).map_err(|error| ReadError::Body(error.to_string()))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_where_to_look() {
        let look = |kind: &str, data: &str| touched(&Event { kind: kind.into(), data: data.into() });
        let one = |id: &str| Touched::One(id.to_owned());
        assert_eq!(
            look("status_update_event", r#"{"appId":"/shop/web","taskStatus":"x"}"#),
            one("/shop/web")
        );
        assert_eq!(look("instance_changed_event", r#"{"runSpecId":"/web"}"#), one("/web"));
        assert_eq!(look("event_stream_attached", r#"{"remoteAddress":"127.0.0.1"}"#), Touched::Nothing);
        assert_eq!(look("deployment_success", r#"{"id":"d"}"#), Touched::All);
        assert_eq!(look("status_update_event", "{cut"), Touched::All);
    }
}
