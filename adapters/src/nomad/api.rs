//! Questions to Nomad: lists, one allocation, one node, and the stream of events.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Method, Response, Url};
use serde::de::DeserializeOwned;

use super::region::{Name, Region};
use super::wire::{Alloc, Batch, Names, Node, Registration};
use crate::blocking::Ask;
use crate::http::{self, ANSWER_MAX, Answer, Credential, Http, ReadError, next_piece};
use crate::lines::Lines;
use crate::settings::NomadSettings;
use crate::source::SourceError;

/// Most questions at once; a server refuses more than 100 connections from one address.
const QUESTIONS_MAX: usize = 16;
/// The stream has a heartbeat every 30 s.
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// A client of one region.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) http: Http,
    region: Option<String>,
    namespace: String,
}

impl Api {
    pub(super) fn new(settings: &NomadSettings) -> Result<Self, SourceError> {
        let http = Http::new("Nomad", settings.access.clone(), Credential::Header("x-nomad-token"))?;
        Ok(Api { http, region: settings.nomad_region.clone(), namespace: settings.nomad_namespace.clone() })
    }

    fn url(&self, path: &[&str], namespace: &str) -> Result<Url, ReadError> {
        let mut url = self.http.url(path)?;
        url.query_pairs_mut().append_pair("namespace", namespace);
        if let Some(region) = &self.region {
            url.query_pairs_mut().append_pair("region", region);
        }
        Ok(url)
    }

    /// Asks for a list, which has an index.
    async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        namespace: &str,
        ask: Ask,
        wait: Duration,
    ) -> Result<(T, u64), ReadError> {
        let mut url = self.url(path, namespace)?;
        let limit = ANSWER_MAX + ask.add_to(&mut url, wait);
        let answer: Answer<T> = self.http.get(url, limit).await?;
        let no_index = || ReadError::Body("there is no index; is it a Nomad?".to_owned());
        let index = answer.number("X-Nomad-Index").ok_or_else(no_index)?;
        Ok((answer.body, index))
    }

    /// Every name, and the index of all registrations together.
    pub(super) async fn names(&self, ask: Ask, wait: Duration) -> Result<(Vec<Name>, u64), ReadError> {
        let (found, index): (Vec<Names>, u64) =
            self.list(&["v1", "services"], &self.namespace, ask, wait).await?;
        let pair = |namespace: &str, name: String| (namespace.to_owned(), name);
        let names = found.into_iter().flat_map(|in_one| {
            let namespace = in_one.namespace;
            in_one.services.into_iter().map(move |name| pair(&namespace, name.service_name))
        });
        Ok((names.collect(), index))
    }

    /// Every allocation, and the index of all.
    pub(super) async fn allocs(&self, ask: Ask, wait: Duration) -> Result<(Vec<Alloc>, u64), ReadError> {
        let path = ["v1", "allocations"];
        self.list(&path, &self.namespace, ask, wait).await
    }

    /// Everything that these names say: registrations, and of allocations and nodes what may be read.
    pub(super) async fn region(&self, names: &[Name], index: u64) -> Result<Region, ReadError> {
        let mut region = Region::new(index);
        let lists = names.iter().cloned().map(|name| self.service(name));
        let mut lists = stream::iter(lists).buffer_unordered(QUESTIONS_MAX);
        while let Some((name, index, found)) = lists.try_next().await? {
            region.list(&name, index, found);
        }
        if let Some((allocs, index)) = permitted(self.allocs(Ask::Now, Duration::ZERO).await)? {
            region.allocs(index, allocs);
        }
        for alloc in self.each("allocation", region.undecided()).await? {
            region.alloc(alloc);
        }
        for node in self.each::<Node>("node", region.needed_nodes()).await? {
            region.node(node);
        }
        Ok(region)
    }

    async fn service(&self, name: Name) -> Result<(Name, u64, Vec<Registration>), ReadError> {
        let path = ["v1", "service", name.1.as_str()];
        let (found, index) = self.list(&path, &name.0, Ask::Now, Duration::ZERO).await?;
        Ok((name, index, found))
    }

    /// Single things by their ids; what is gone or may not be read is left out.
    async fn each<T: DeserializeOwned>(
        &self,
        kind: &str,
        ids: impl IntoIterator<Item = String>,
    ) -> Result<Vec<T>, ReadError> {
        let asked = ids.into_iter().map(async |id: String| {
            let url = self.url(&["v1", kind, &id], "*")?;
            permitted(self.http.get::<T>(url, ANSWER_MAX).await)
        });
        let mut found = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(QUESTIONS_MAX);
        let mut all = Vec::new();
        while let Some(one) = found.try_next().await? {
            all.extend(one.map(|answer| answer.body));
        }
        Ok(all)
    }

    /// The stream of events, once it has proved to be one. A server may say 200 before it looks at the token: then it
    /// ends without a first heartbeat.
    pub(super) async fn events(&self, topics: &[&str]) -> Result<Events, ReadError> {
        let mut url = self.url(&["v1", "event", "stream"], &self.namespace)?;
        for topic in topics {
            url.query_pairs_mut().append_pair("topic", &format!("{topic}:*"));
        }
        let request = self.http.request(Method::GET, url).await?;
        let response = http::stream(http::head(request).await?, "json").await?;
        let mut events = Events { response, lines: Lines::default(), first: None, silence_max: ANSWER_MAX };
        events.first = Some(events.next().await?);
        events.silence_max = SILENCE_MAX;
        Ok(events)
    }
}

/// What may not be read, or is gone meanwhile, is not an error.
fn permitted<T>(answer: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ReadError::Status { status: 403 | 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An open stream of events.
pub(super) struct Events {
    response: Response,
    lines: Lines,
    first: Option<Batch>,
    silence_max: Duration,
}

impl Events {
    /// The next line. Cancel safe: a line is taken whole or not at all.
    pub(super) async fn next(&mut self) -> Result<Batch, ReadError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        loop {
            while let Some(line) = self.lines.next() {
                if !line.is_empty() {
                    return serde_json::from_slice(line).map_err(|error| ReadError::Body(error.to_string()));
                }
            }
            let piece = next_piece(&mut self.response, self.silence_max).await?;
            let piece = piece.ok_or_else(|| ReadError::Transport("the event stream ended".to_owned()))?;
            self.lines.push(&piece).map_err(|error| ReadError::Body(error.to_string()))?;
        }
    }
}
