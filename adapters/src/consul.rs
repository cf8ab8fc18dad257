//! Consul: the catalogue and the health of every service in it, by blocking queries.
//!
//! One watch follows the names, and one for each name its instances. What they find meets in one view, which decides
//! what to tell. An error is never a removal: it makes the source stale until the next good answer, and that answer is
//! in doubt, since the server may have come back without its memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::check::check;
use self::http::Http;
use self::view::{News, Tell, View};
use self::wire::{Instance, Names};
use crate::blocking::{Ask, Cursor, Worth};
use crate::client::Sink;
use crate::description::{Condition, Description};
use crate::http::ReadError;
use crate::metrics::Metrics;
use crate::settings::ConsulSettings;
use crate::source::{Source, SourceError};
use crate::watch::{Backoff, Pace};

mod check;
mod http;
mod map;
mod view;
mod wire;

/// How long a question may block: short enough to notice an index that is too high.
const WAIT: Duration = Duration::from_secs(55);
/// Most services that are watched at once; an agent refuses more than 200 connections from one address.
const WATCHED_MAX: usize = 128;
/// How long a question may block when the services take turns.
const WAIT_IN_TURN: Duration = Duration::from_secs(2);
/// Wake-ups of one watch: two at once, then one in each such time.
const WAKE_EVERY: Duration = Duration::from_millis(200);
/// After one watch has its first good answer again the others ask within this time, whatever their backoff.
const REVIVE_WITHIN: Duration = Duration::from_secs(1);
/// News between the watches and the view; a full queue slows the watches down.
const NEWS_MAX: usize = 256;
/// Consul's own service, which no workload calls.
const CONSUL_ITSELF: &str = "consul";

/// The source that watches one datacenter of Consul.
#[derive(Debug)]
pub struct Consul {
    settings: ConsulSettings,
    metrics: Metrics,
    http: Http,
}

impl Consul {
    /// A source for the Consul that the settings name.
    pub fn new(settings: ConsulSettings, metrics: Metrics) -> Result<Self, SourceError> {
        let http = Http::new(&settings)?;
        Ok(Consul { settings, metrics, http })
    }

    /// Who a source with these settings is.
    pub fn description(settings: &ConsulSettings) -> Description {
        Description {
            source: settings.source.clone(),
            platform: "consul",
            cluster: settings.datacenter.clone().unwrap_or_else(|| "consul".to_owned()),
            region: settings.region.clone(),
        }
    }
}

/// Spreads the questions of watches that come back together.
fn spread() -> Duration {
    REVIVE_WITHIN.mul_f64(rand::random::<f64>())
}

/// What to do about an error, where that is known.
fn advice(error: &ReadError) -> &'static str {
    match error {
        ReadError::Status { status: 401 | 403, .. } => "; give a token that may read services and nodes",
        ReadError::Status { status: 429, .. } => "; raise its limits.http_max_conns_per_client",
        _ => "",
    }
}

impl Source for Consul {
    fn describe(&self) -> Description {
        Consul::description(&self.settings)
    }

    async fn run(self, sink: Sink, stop: CancellationToken) -> Result<(), SourceError> {
        let (news, mut heard) = mpsc::channel(NEWS_MAX);
        let watch = Watch {
            settings: Arc::new(self.settings),
            http: self.http,
            metrics: self.metrics,
            news,
            turns: Arc::new(Semaphore::new(WATCHED_MAX)),
            revived: watch::Sender::new(()),
            watched: Arc::new(AtomicUsize::new(0)),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(watch.clone().names());
        let mut running = BTreeMap::new();
        let mut view = View::default();
        loop {
            let found = tokio::select! {
                Some(found) = heard.recv() => found,
                () = stop.cancelled() => break,
            };
            let answered = !matches!(found, News::Failed(..));
            let renamed = matches!(found, News::Names(..));
            match view.apply(found) {
                Tell::Nothing => {}
                Tell::Changes { upserts, removes } => {
                    upserts.into_iter().for_each(|item| sink.upsert(item));
                    removes.iter().for_each(|key| sink.remove(key));
                }
                Tell::Listing(items, doubt) => sink.listing(items, &doubt),
            }
            let condition = view.condition();
            if answered || condition != Condition::Live {
                sink.condition(condition);
            }
            if renamed {
                watch.follow(&view, &mut running, &mut tasks);
            }
        }
        tasks.shutdown().await;
        Ok(())
    }
}

/// What every watch shares.
#[derive(Clone)]
struct Watch {
    settings: Arc<ConsulSettings>,
    http: Http,
    metrics: Metrics,
    news: mpsc::Sender<News>,
    turns: Arc<Semaphore>,
    /// Rung by the first good answer after a failure: what ends for one watch ends for the others, too.
    revived: watch::Sender<()>,
    watched: Arc<AtomicUsize>,
}

impl Watch {
    /// Starts a watch for each new name and ends those of names that are gone.
    fn follow(
        &self,
        view: &View,
        running: &mut BTreeMap<String, tokio::task::AbortHandle>,
        tasks: &mut JoinSet<()>,
    ) {
        let names: std::collections::BTreeSet<&String> = view.names().collect();
        running.retain(|name, task| {
            let stays = names.contains(name);
            if !stays {
                task.abort();
            }
            stays
        });
        for name in names {
            if !running.contains_key(name) {
                running.insert(name.clone(), tasks.spawn(self.clone().health(name.clone())));
            }
        }
        self.watched.store(running.len(), Ordering::Relaxed);
        // Ended watches leave their handles behind.
        while tasks.try_join_next().is_some() {}
    }

    async fn names(self) {
        let anonymous = self.http.is_anonymous();
        let found = |names: Names, doubt: String| {
            let unseen = doubt.is_empty() && names.is_empty() && anonymous;
            let doubt = if unseen { "no service is visible without a token".to_owned() } else { doubt };
            News::Names(names.into_keys().filter(|name| name != CONSUL_ITSELF).collect(), doubt)
        };
        self.repeat(None, &["v1", "catalog", "services"], found).await;
    }

    async fn health(self, name: String) {
        let found = |instances: Vec<Instance>, doubt: String| {
            let (namespace, region) = (&self.settings.namespace, &self.settings.region);
            let (items, refused) = map::map(&name, namespace, region, &instances);
            for invalid in refused {
                self.metrics.error();
                tracing::debug!(service = name, %invalid, "instance left out");
            }
            News::Health { name: name.clone(), items, doubt }
        };
        self.repeat(Some(name.clone()), &["v1", "health", "service", &name], found).await;
    }

    /// Asks one question for ever. Ends only when nobody listens.
    async fn repeat<T: serde::de::DeserializeOwned>(
        &self,
        question: Option<String>,
        path: &[&str],
        found: impl Fn(T, String) -> News,
    ) {
        let (mut cursor, mut backoff) = (Cursor::default(), Backoff::usual());
        let mut pace = Pace::new(2, WAKE_EVERY, Instant::now());
        let (mut revived, mut failing) = (self.revived.subscribe(), false);
        loop {
            revived.mark_unchanged();
            let asked = self.ask::<T>(question.is_some(), path, cursor.ask()).await;
            let (news, delay) = match asked {
                Ok(answer) => {
                    self.metrics.read();
                    backoff.succeeded(Instant::now());
                    if std::mem::take(&mut failing) {
                        self.revived.send_replace(());
                    }
                    let delay = pace.take(Instant::now());
                    match cursor.answered(answer.index) {
                        // Asked again at once, but no faster than the pace.
                        Worth::Nothing => (None, delay),
                        Worth::Current(doubt) if doubt.is_empty() => {
                            (Some(found(answer.body, answer.doubt.to_owned())), delay)
                        }
                        Worth::Current(doubt) => (Some(found(answer.body, doubt)), delay),
                    }
                }
                Err(error) => {
                    self.metrics.error();
                    let reason = format!("consul at {} {error}{}", self.http.address(), advice(&error));
                    cursor.failed(&reason);
                    failing = true;
                    let delay = backoff.failed(Instant::now(), &mut rand::rng());
                    (Some(News::Failed(question.clone(), reason)), delay)
                }
            };
            if let Some(news) = news
                && self.news.send(news).await.is_err()
            {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = revived.changed(), if failing => tokio::time::sleep(delay.min(spread())).await,
            }
        }
    }

    /// One question. Those about services take turns when there are too many to ask all at once.
    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        in_turn: bool,
        path: &[&str],
        ask: Ask,
    ) -> Result<http::Answer<T>, ReadError> {
        let crowded = in_turn && self.watched.load(Ordering::Relaxed) > WATCHED_MAX;
        let wait = if crowded { WAIT_IN_TURN } else { WAIT };
        let _turn = if in_turn { self.turns.acquire().await.ok() } else { None };
        self.http.get(path, ask, wait).await
    }
}
