//! Mesos: the tasks of every framework that one cluster runs.
//!
//! | in the mesh | in Mesos |
//! | --- | --- |
//! | service | label `weft.service`, else the name of the task's discovery info, else the task's; not with visibility `FRAMEWORK` |
//! | namespace | label `weft.namespace`, else the adapter's setting |
//! | ports | TCP ports of the discovery info, else those that the task was given; number: label `weft.port.NAME`, `VIP_0`, 80 (HTTP) or 443 (TLS), the port itself |
//! | protocol | label `weft.protocol` (of the first port, or `weft.protocol.NAME`), the beginning of the port's name |
//! | address | that of the container's own network; else the agent's, ports mapped as the container's are |
//! | labels | labels of the task; `weft.version` is `version` |
//! | health | running, and healthy where there is a health check; a task that is being killed drains |
//! | locality | fault domain of the agent |
//!
//! The masters are named in the settings; each says which one leads. The subscription begins with everything. A master
//! that has just taken over knows no tasks of agents that it has not heard of yet: those stay as they were.

use std::time::Duration;

use tokio::time::Instant;

use self::api::Api;
pub use self::check::check;
use self::cluster::{Cluster, TaskId};
use crate::conversation::{Break, Conversation, Teller};
use crate::description::Description;
use crate::gather::Claim;
use crate::http::ReadError;
use crate::metrics::Metrics;
use crate::settings::MesosSettings;
use crate::source::SourceError;

mod api;
mod check;
mod cluster;
mod map;
mod recordio;
mod wire;

/// Some things are never announced: everything is read anew this often.
const RENEW_EVERY: Duration = Duration::from_secs(10 * 60);
/// The tasks of an agent that has come back to a new master are all there this long after it.
const RETURNED_AFTER: Duration = Duration::from_secs(2);

/// The source that watches one cluster.
#[derive(Debug)]
pub struct Mesos {
    settings: MesosSettings,
    metrics: Metrics,
    api: Api,
    cluster: Cluster,
}

impl Mesos {
    /// A source for the Mesos that the settings name.
    pub fn new(settings: MesosSettings, metrics: Metrics) -> Result<Self, SourceError> {
        let api = Api::new(&settings)?;
        Ok(Mesos { settings, metrics, api, cluster: Cluster::default() })
    }

    /// Who a source with these settings is.
    pub fn description(settings: &MesosSettings) -> Description {
        Description {
            source: settings.source.clone(),
            platform: "mesos",
            cluster: "mesos".to_owned(),
            region: settings.region.clone(),
        }
    }
}

/// What to do about an error, where that is known.
fn advice(error: &ReadError) -> &'static str {
    match error {
        ReadError::Status { status: 401 | 403, .. } => {
            "; give user:password of a principal that may view tasks"
        }
        ReadError::Status { status: 503, .. } => "; the masters have no leader, or it is still recovering",
        _ => "",
    }
}

impl Conversation for Mesos {
    fn describe(&self) -> Description {
        Mesos::description(&self.settings)
    }

    fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    fn advice(&self, error: &ReadError) -> &'static str {
        advice(error)
    }

    fn peer(&self) -> String {
        format!("mesos at {}", self.api.http.server())
    }

    fn turn(&self) {
        self.api.http.turn();
    }

    async fn speak(&mut self, teller: &mut Teller) -> Break {
        self.follow(teller).await.err().unwrap_or(Break::Renew)
    }
}

impl Mesos {
    async fn follow(&mut self, teller: &mut Teller) -> Result<(), Break> {
        let (state, mut events) = self.api.subscribe().await?;
        self.cluster.subscribed(state);
        let parts = self.cluster.tasks().map(|id| (part(id), claims(&self.cluster, id, &self.settings)));
        let parts = parts.collect();
        let doubt = match self.cluster.recovered() {
            0 => String::new(),
            waiting => format!("{waiting} agents have not come back to the new master yet"),
        };
        teller.listing(parts, Vec::new(), None, &doubt)?;
        let mut renew = Instant::now() + RENEW_EVERY;
        loop {
            let event = tokio::select! {
                event = events.next() => event?,
                () = tokio::time::sleep_until(renew) => return Ok(()),
            };
            let changed = self.cluster.event(event);
            for id in &changed.tasks {
                teller.part(&part(id), claims(&self.cluster, id, &self.settings));
            }
            if changed.returned {
                renew = renew.min(Instant::now() + RETURNED_AFTER);
            }
            teller.live(None);
        }
    }
}

fn claims(cluster: &Cluster, id: &TaskId, settings: &MesosSettings) -> Vec<Claim> {
    let task = cluster.task(id);
    task.map(|(running, agent)| map::claims(running, agent, settings)).unwrap_or_default()
}

fn part((framework, task): &TaskId) -> String {
    format!("{framework}/{task}")
}
