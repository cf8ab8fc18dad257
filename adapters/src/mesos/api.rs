//! The operator API of whichever master leads: one subscription, which begins with everything.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response};

use super::recordio::Records;
use super::wire::{Event, State};
use crate::http::{ANSWER_MAX, Credential, Http, ReadError, next_piece};
use crate::settings::MesosSettings;
use crate::source::SourceError;

/// Heartbeats that may be missed.
const HEARTBEATS_MAX: f64 = 3.0;
/// The interval of heartbeats of a master that does not tell, and the longest that is believed, in seconds.
const HEARTBEAT_SECONDS: f64 = 15.0;
const HEARTBEAT_SECONDS_MAX: f64 = 300.0;

/// A client of one cluster.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) http: Http,
}

impl Api {
    pub(super) fn new(settings: &MesosSettings) -> Result<Self, SourceError> {
        Ok(Api { http: Http::new("Mesos", settings.access.clone(), Credential::BasicOrDcos)? })
    }

    /// Subscribes to the master that leads.
    pub(super) async fn subscribe(&self) -> Result<(State, Events), ReadError> {
        let url = self.http.url(&["master", "api", "v1"])?;
        let dress = |request: reqwest::RequestBuilder| {
            let request = request.header(ACCEPT, "application/json").header(CONTENT_TYPE, "application/json");
            request.body(r#"{"type":"SUBSCRIBE"}"#)
        };
        let response = self.http.follow(Method::POST, url, dress, "json").await?;
        let mut events = Events { response, records: Records::default(), silence_max: ANSWER_MAX };
        let first = events.next().await?;
        let subscribed = first
            .subscribed
            .ok_or_else(|| ReadError::Body(format!("the subscription begins with '{}'", first.kind)))?;
        let interval = subscribed.heartbeat_interval_seconds.filter(|seconds| *seconds > 0.0);
        let interval = interval.unwrap_or(HEARTBEAT_SECONDS).min(HEARTBEAT_SECONDS_MAX);
        events.silence_max = Duration::from_secs_f64(interval * HEARTBEATS_MAX);
        Ok((subscribed.get_state, events))
    }
}

/// An open subscription.
pub(super) struct Events {
    response: Response,
    records: Records,
    silence_max: Duration,
}

impl Events {
    /// The next record. Cancel safe: a record is taken whole or not at all.
    pub(super) async fn next(&mut self) -> Result<Event, ReadError> {
        loop {
            let record = self.records.next().map_err(|error| ReadError::Body(error.to_string()))?;
            if let Some(record) = record {
                return serde_json::from_slice(record).map_err(|error| ReadError::Body(error.to_string()));
            }
            let piece = next_piece(&mut self.response, self.silence_max).await?;
            let piece = piece.ok_or_else(|| ReadError::Transport("the subscription ended".to_owned()))?;
            self.records.push(&piece);
        }
    }
}
