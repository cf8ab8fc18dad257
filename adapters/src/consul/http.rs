//! Questions to Consul: blocking, consistency, and what the headers say about an answer.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::blocking::Ask;
use crate::http::{self, ANSWER_MAX, Credential, ReadError};
use crate::settings::ConsulSettings;
use crate::source::SourceError;

/// A client of one Consul.
#[derive(Clone, Debug)]
pub(super) struct Http {
    http: http::Http,
    datacenter: Option<String>,
    stale_max: Option<Duration>,
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) body: T,
    pub(super) index: u64,
    /// Why the server itself is not sure; empty when it is.
    pub(super) doubt: &'static str,
}

impl Http {
    pub(super) fn new(settings: &ConsulSettings) -> Result<Self, SourceError> {
        let http = http::Http::new("Consul", settings.access.clone(), Credential::Header("x-consul-token"))?;
        Ok(Http { http, datacenter: settings.datacenter.clone(), stale_max: settings.stale_max })
    }

    /// The agent's address.
    pub(super) fn address(&self) -> &str {
        self.http.server()
    }

    /// Whether there is no token.
    pub(super) fn is_anonymous(&self) -> bool {
        self.http.is_anonymous()
    }

    /// Asks for a path. With stale reads an answer that is too old is asked for again, of the leader.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        ask: Ask,
        wait: Duration,
    ) -> Result<Answer<T>, ReadError> {
        let Some(oldest) = self.stale_max else {
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
        let mut url = self.http.url(path)?;
        if let Some(datacenter) = &self.datacenter {
            url.query_pairs_mut().append_pair("dc", datacenter);
        }
        if stale {
            url.query_pairs_mut().append_pair("stale", "");
        }
        let limit = ANSWER_MAX + ask.add_to(&mut url, wait);
        let answer: http::Answer<T> = self.http.get(url, limit).await?;
        let no_index = || ReadError::Body("there is no index; is it a Consul?".to_owned());
        let index = answer.number("X-Consul-Index").ok_or_else(no_index)?;
        let doubt = if answer.text("X-Consul-KnownLeader") == Some("false") {
            "consul knows no leader"
        } else if answer.text("X-Consul-Results-Filtered-By-ACLs") == Some("true") {
            "consul filtered the answer: the token may not see everything"
        } else {
            ""
        };
        let age = Duration::from_millis(answer.number("X-Consul-LastContact").unwrap_or(0));
        Ok((Answer { body: answer.body, index, doubt }, age))
    }
}
