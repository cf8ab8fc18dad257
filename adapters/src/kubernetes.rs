//! Kubernetes: Services with their EndpointSlices, and the documents that are kept as objects.
//!
//! | in the mesh | in Kubernetes |
//! | --- | --- |
//! | namespace, service | those of the Service; `ExternalName` is a host name that proxies resolve |
//! | ports | TCP ports of the Service; protocol: `appProtocol`, else the beginning of the name |
//! | endpoints | EndpointSlices, an address once even while it moves between two |
//! | health | conditions `ready`, `serving`, `terminating`; a pod that is being deleted drains |
//! | labels, weight | of the pod; `app.kubernetes.io/version` is `version`, too; annotation `weft.dev/weight` |
//! | mTLS, identity | annotation `weft.dev/mtls: "true"` or Istio's label of its proxies; `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT` |
//! | locality | zone of the endpoint; labels `topology.kubernetes.io/region`, `/zone` and `topology.istio.io/subzone` of the node |
//! | documents | Istio's networking kinds, the Gateway API's, `weft.dev`'s, as far as the cluster has them |
//!
//! Rights: `get`, `list` and `watch` on services and endpointslices; on pods, nodes and the documents' kinds as far as they
//! are wanted: what may not be read is done without.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::api::Api;
pub use self::check::check;
use self::cluster::{Cluster, Name};
use self::kind::{KINDS, Kind};
use self::reflect::{News, reflect};
use crate::conversation::{Break, Conversation, Teller};
use crate::description::Description;
use crate::gather::Claim;
use crate::http::ReadError;
use crate::metrics::Metrics;
use crate::settings::KubernetesSettings;
use crate::source::SourceError;

mod api;
mod check;
mod cluster;
mod kind;
mod map;
mod reflect;
mod wire;

/// News between the watches and the cluster; a full queue slows the watches down.
const NEWS_MAX: usize = 256;
/// What happens within this time is told together: a rollout touches slices and pods again and again.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// The source that watches one cluster.
#[derive(Debug)]
pub struct Kubernetes {
    settings: KubernetesSettings,
    metrics: Metrics,
    api: Api,
    cluster: Cluster,
}

impl Kubernetes {
    /// A source for the cluster that the settings name.
    pub fn new(settings: KubernetesSettings, metrics: Metrics) -> Result<Self, SourceError> {
        let api = Api::new(&settings)?;
        Ok(Kubernetes { settings, metrics, api, cluster: Cluster::default() })
    }

    /// Who a source with these settings is.
    pub fn description(settings: &KubernetesSettings) -> Description {
        Description {
            source: settings.source.clone(),
            platform: "kubernetes",
            cluster: settings.cluster.clone(),
            region: settings.region.clone(),
        }
    }
}

/// What to do about an error, where that is known.
fn advice(error: &ReadError) -> &'static str {
    match error {
        ReadError::Status { status: 401 | 403, .. } => {
            "; give a token whose account may list and watch services and endpointslices"
        }
        _ => "",
    }
}

impl Conversation for Kubernetes {
    fn describe(&self) -> Description {
        Kubernetes::description(&self.settings)
    }

    fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    fn advice(&self, error: &ReadError) -> &'static str {
        advice(error)
    }

    fn peer(&self) -> String {
        format!("kubernetes at {}", self.api.http.server())
    }

    fn turn(&self) {
        self.api.http.turn();
    }

    async fn speak(&mut self, teller: &mut Teller) -> Break {
        let (news, heard) = mpsc::channel(NEWS_MAX);
        // Ends the watches with the conversation.
        let mut watches = JoinSet::new();
        for kind in KINDS {
            watches.spawn(reflect(self.api.clone(), kind, news.clone()));
        }
        drop(news);
        tokio::select! {
            Err(ended) = self.follow(heard, teller) => ended,
            Some(ended) = watches.join_next() => match ended {
                Ok(error) => Break::Error(error),
                Err(panicked) => Break::Doubtful(panicked.to_string()),
            },
            else => Break::Renew,
        }
    }
}

impl Kubernetes {
    async fn follow(&mut self, mut heard: mpsc::Receiver<News>, teller: &mut Teller) -> Result<(), Break> {
        let mut waiting: Vec<Kind> = KINDS.to_vec();
        let mut changed = BTreeSet::<Name>::new();
        let mut tell_at = tokio::time::Instant::now();
        loop {
            let news = tokio::select! {
                news = heard.recv() => news,
                () = tokio::time::sleep_until(tell_at), if !changed.is_empty() => {
                    for name in std::mem::take(&mut changed) {
                        teller.part(&part(&name), self.claims(&name));
                    }
                    continue;
                }
            };
            let Some(news) = news else { return Ok(()) };
            let kind = match news {
                News::Alive => {
                    teller.live(None);
                    continue;
                }
                News::Put(kind, object) => {
                    let object = self.cluster.put(kind, object);
                    note(self.told(object, waiting.is_empty(), teller), &mut changed, &mut tell_at);
                    continue;
                }
                News::Gone(kind, object) => {
                    let object = self.cluster.remove(kind, object);
                    note(self.told(object, waiting.is_empty(), teller), &mut changed, &mut tell_at);
                    continue;
                }
                News::Missing(kind, reason) => {
                    tracing::info!(kind = kind.plural, reason, "not read");
                    kind
                }
                News::Listed(kind, objects) => {
                    teller.complain(&self.cluster.list(kind, objects));
                    kind
                }
            };
            // A part of the cluster must not replace the whole that is known from before.
            waiting.retain(|other| *other != kind);
            if waiting.is_empty() {
                changed.clear();
                let parts = self.cluster.services().map(|name| (part(name), self.claims(name))).collect();
                teller.listing(parts, self.cluster.documents(), None, "")?;
            }
        }
    }

    /// Tells what a change says of documents at once; the services that it changed are for later.
    fn told(&self, changed: cluster::Changed, listed: bool, teller: &mut Teller) -> BTreeSet<Name> {
        teller.complain(changed.problem.as_slice());
        if !listed {
            return BTreeSet::new();
        }
        teller.live(None);
        if let Some(item) = changed.upsert {
            teller.loose(item);
        }
        if let Some(key) = changed.remove {
            teller.loosen(&key);
        }
        changed.services
    }

    fn claims(&self, name: &Name) -> Vec<Claim> {
        map::claims(&self.cluster, name, &self.settings)
    }
}

/// Adds to what must be told, which waits no longer for it.
fn note(new: BTreeSet<Name>, changed: &mut BTreeSet<Name>, tell_at: &mut tokio::time::Instant) {
    if changed.is_empty() {
        *tell_at = tokio::time::Instant::now() + DEBOUNCE;
    }
    changed.extend(new);
}

fn part((namespace, name): &Name) -> String {
    format!("{namespace}/{name}")
}
