//! Nomad: its native services, one region.
//!
//! | in the mesh | in Nomad |
//! | --- | --- |
//! | namespace, service | namespace, `service` block with `provider = "nomad"` |
//! | port | one, named for its protocol; number: tag `port=`, else 80 (HTTP) or 443 (TLS), else the most common one |
//! | protocol | tag `http`, `http2`, `grpc`, `tls`, or `protocol=` |
//! | labels | tags `name=value`, `v2` (version), task group; `canary` of a canary, which has its `canary_tags` |
//! | health | the allocation: running and found healthy by its deployment; stopped or migrating ones drain |
//! | weight, identity, mTLS, network | tags `weight=`, `identity=`, `mtls=true`, `network=` |
//! | identity with mTLS | `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/JOB` |
//! | locality | node meta `region`, `zone`, `subzone` or `rack`; the cloud's zone; the datacenter |
//!
//! The event stream is opened first, then everything is listed, then events past the lists' indexes are applied. Where
//! the token may not have events, blocking queries say when to list again. Rights: `read-job` in the namespaces and
//! `node:read`; with a workload identity alone services are read, but not how their allocations are.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use self::api::{Api, Events};
pub use self::check::check;
use self::region::{Name, Region};
use crate::blocking::Ask;
use crate::conversation::{Break, Conversation, Teller};
use crate::description::Description;
use crate::gather::Claim;
use crate::http::ReadError;
use crate::metrics::Metrics;
use crate::settings::NomadSettings;
use crate::source::SourceError;
use crate::watch::Pace;

mod api;
mod check;
mod map;
mod region;
mod wire;

/// How long a question may block.
const WAIT: Duration = Duration::from_secs(55);
/// The buffer of events is in one server's memory and has its limits: everything is listed anew this often.
const RENEW_EVERY: Duration = Duration::from_secs(10 * 60);
/// Without events, lists follow each other no faster.
const LIST_EVERY: Duration = Duration::from_secs(1);
/// Without events, the stream is tried again after this time.
const STREAM_AGAIN: Duration = Duration::from_secs(5 * 60);
/// Events within this time are told together.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// The source that watches one region.
#[derive(Debug)]
pub struct Nomad {
    settings: NomadSettings,
    metrics: Metrics,
    api: Api,
}

impl Nomad {
    /// A source for the Nomad that the settings name.
    pub fn new(settings: NomadSettings, metrics: Metrics) -> Result<Self, SourceError> {
        let api = Api::new(&settings)?;
        Ok(Nomad { settings, metrics, api })
    }

    /// Who a source with these settings is.
    pub fn description(settings: &NomadSettings) -> Description {
        Description {
            source: settings.source.clone(),
            platform: "nomad",
            cluster: settings.nomad_region.clone().unwrap_or_else(|| "nomad".to_owned()),
            region: settings.region.clone(),
        }
    }
}

/// What to do about an error, where that is known.
fn advice(error: &ReadError) -> &'static str {
    match error {
        ReadError::Status { status: 401 | 403, .. } => "; give a token with read-job in its namespaces",
        ReadError::Status { status: 429, .. } => "; raise its limits.http_max_conns_per_client",
        _ => "",
    }
}

impl Conversation for Nomad {
    fn describe(&self) -> Description {
        Nomad::description(&self.settings)
    }

    fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    fn advice(&self, error: &ReadError) -> &'static str {
        advice(error)
    }

    fn peer(&self) -> String {
        format!("nomad at {}", self.api.http.server())
    }

    fn turn(&self) {
        self.api.http.turn();
    }

    async fn speak(&mut self, teller: &mut Teller) -> Break {
        let ended = match self.stream().await {
            Some(events) => self.follow(events, teller).await,
            None => self.block(teller).await,
        };
        ended.err().unwrap_or(Break::Renew)
    }
}

impl Nomad {
    /// The event stream with as much as the token may see; none where it may see nothing of it.
    async fn stream(&self) -> Option<Events> {
        let mut reason = None;
        for topics in [&["Service", "Allocation", "Node"][..], &["Service", "Allocation"]] {
            match self.api.events(topics).await {
                Ok(events) => return Some(events),
                Err(error) => reason = Some(error),
            }
            if !reason.as_ref().is_some_and(ReadError::is_refusal) {
                break;
            }
        }
        if let Some(reason) = reason {
            tracing::info!(%reason, "no event stream; blocking queries follow the changes");
        }
        None
    }

    /// Lists everything and tells it.
    async fn list(&self, teller: &mut Teller) -> Result<Region, Break> {
        let (names, index) = self.api.names(Ask::Now, WAIT).await?;
        let region = self.api.region(&names, index).await?;
        let parts = region.names().map(|name| (part(name), self.claims(&region, name))).collect();
        teller.listing(parts, Vec::new(), Some(index), "")?;
        Ok(region)
    }

    fn claims(&self, region: &Region, name: &Name) -> Vec<Claim> {
        map::claims(region, name, &self.settings)
    }

    async fn follow(&self, mut events: Events, teller: &mut Teller) -> Result<(), Break> {
        let mut region = self.list(teller).await?;
        let renew = tokio::time::Instant::now() + RENEW_EVERY;
        let mut changed = BTreeSet::<Name>::new();
        let mut tell_at = renew;
        loop {
            tokio::select! {
                batch = events.next() => {
                    let batch = batch?;
                    teller.live((batch.index > 0).then_some(batch.index));
                    if changed.is_empty() {
                        tell_at = tokio::time::Instant::now() + DEBOUNCE;
                    }
                    changed.extend(batch.events.into_iter().flat_map(|event| region.event(event)));
                }
                () = tokio::time::sleep_until(tell_at), if !changed.is_empty() => {
                    for name in std::mem::take(&mut changed) {
                        teller.part(&part(&name), self.claims(&region, &name));
                    }
                }
                () = tokio::time::sleep_until(renew) => return Ok(()),
            }
        }
    }

    /// Lists whenever registrations or allocations have moved, and where nothing does, now and then.
    async fn block(&self, teller: &mut Teller) -> Result<(), Break> {
        let again = Instant::now() + STREAM_AGAIN;
        let mut pace = Pace::new(2, LIST_EVERY, Instant::now());
        while Instant::now() < again {
            let region = self.list(teller).await?;
            // The indexes are from before the lists: what changed meanwhile ends the wait at once.
            let names = self.api.names(Ask::Past(region.index()), WAIT);
            let allocs = async {
                match region.allocs_index() {
                    Some(index) => self.api.allocs(Ask::Past(index), WAIT).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                moved = names => drop(moved?),
                moved = allocs => drop(moved?),
            }
            tokio::time::sleep(pace.take(Instant::now())).await;
        }
        Ok(())
    }
}

fn part((namespace, name): &Name) -> String {
    format!("{namespace}/{name}")
}
