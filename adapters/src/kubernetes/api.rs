//! Lists and watches of one API server.

use std::time::Duration;

use reqwest::{Method, Response, Url};

use super::kind::Kind;
use super::wire::{Line, Page};
use crate::http::{self, Credential, Http, ReadError, next_piece};
use crate::lines::Lines;
use crate::settings::KubernetesSettings;
use crate::source::SourceError;

/// Objects of a page.
const PAGE: &str = "500";
/// How long a list may take.
const LIST_MAX: Duration = Duration::from_secs(60);
/// How long the server lets a watch live, and how long one may be silent: a bookmark comes every minute, from most.
const WATCH_SECONDS: &str = "290";
const SILENCE_MAX: Duration = Duration::from_secs(150);

/// A client of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) http: Http,
    only_namespace: Option<String>,
}

impl Api {
    pub(super) fn new(settings: &KubernetesSettings) -> Result<Self, SourceError> {
        let http = Http::new("Kubernetes", settings.access.clone(), Credential::Bearer)?;
        Ok(Api { http, only_namespace: settings.only_namespace.clone() })
    }

    fn url(&self, kind: Kind) -> Result<Url, ReadError> {
        let mut path = vec![if kind.api == "v1" { "api" } else { "apis" }];
        path.extend(kind.api.split('/'));
        if let Some(namespace) = self.only_namespace.as_deref().filter(|_| kind.namespaced) {
            path.extend(["namespaces", namespace]);
        }
        path.push(kind.plural);
        self.http.url(&path)
    }

    /// Every object of a kind, page by page, and the version of the whole.
    pub(super) async fn list(&self, kind: Kind) -> Result<(Vec<serde_json::Value>, String), ReadError> {
        let (mut objects, mut next) = (Vec::new(), String::new());
        loop {
            let mut url = self.url(kind)?;
            url.query_pairs_mut().append_pair("limit", PAGE);
            if !next.is_empty() {
                url.query_pairs_mut().append_pair("continue", &next);
            }
            let page = self.http.get::<Page>(url, LIST_MAX).await?.body;
            objects.extend(page.items);
            next = page.metadata.next;
            if next.is_empty() {
                return Ok((objects, page.metadata.resource_version));
            }
        }
    }

    /// What happens to a kind after a version.
    pub(super) async fn watch(&self, kind: Kind, version: &str) -> Result<Watch, ReadError> {
        let mut url = self.url(kind)?;
        url.query_pairs_mut()
            .append_pair("watch", "1")
            .append_pair("allowWatchBookmarks", "true")
            .append_pair("timeoutSeconds", WATCH_SECONDS)
            .append_pair("resourceVersion", version);
        let request = self.http.request(Method::GET, url).await?;
        let response = http::stream(http::head(request).await?, "json").await?;
        Ok(Watch { response, lines: Lines::default() })
    }
}

/// An open watch.
pub(super) struct Watch {
    response: Response,
    lines: Lines,
}

impl Watch {
    /// The next line; `None` when the server has ended the watch.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, ReadError> {
        loop {
            while let Some(line) = self.lines.next() {
                if !line.is_empty() {
                    let line = serde_json::from_slice(line);
                    return line.map(Some).map_err(|error| ReadError::Body(error.to_string()));
                }
            }
            match next_piece(&mut self.response, SILENCE_MAX).await? {
                None => return Ok(None),
                Some(piece) => {
                    self.lines.push(&piece).map_err(|error| ReadError::Body(error.to_string()))?;
                }
            }
        }
    }
}
