//! Marathon: apps and pods.
//!
//! | in the mesh | in Marathon |
//! | --- | --- |
//! | service | id from the last part to the first, as Mesos-DNS has it (`/shop/web` is `web-shop`); label `weft.service` |
//! | namespace | label `weft.namespace`, else the adapter's setting |
//! | ports | TCP ports of every networking mode; number: label `weft.port.NAME`, `VIP_0`, 80 (HTTP) or 443 (TLS), `servicePort`, `containerPort` |
//! | protocol | label `weft.protocol` (of the first port, or `weft.protocol.NAME`), or the beginning of the port's name |
//! | labels | labels of the app; `weft.version` is `version`; apps of one `weft.service` are joined, so blue and green are subsets |
//! | health | health checks; during a deployment readiness checks, too; a task that is being killed drains |
//! | weight, identity, mTLS, network | labels `weft.weight`, `weft.identity`, `weft.mtls=true`, `weft.network` |
//! | locality | region and zone of the agent |
//! | nothing | label `weft.ignore=true`, or no TCP port |
//!
//! Upgrade strategies need no setting of their own: an old task is heard of as draining before it ends, a new one serves
//! once its checks pass. Events only say where to look, since their order is no promise: the stream is attached first, then
//! everything is listed, what an event names is read again, and everything every minute.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use self::api::{Api, Events, Touched, touched};
pub use self::check::check;
use crate::conversation::{Break, Conversation, Teller};
use crate::description::Description;
use crate::gather::Claim;
use crate::http::ReadError;
use crate::metrics::Metrics;
use crate::settings::MarathonSettings;
use crate::source::SourceError;

mod api;
mod check;
mod map;
mod port;
mod sse;
mod wire;

/// Everything is read this often, whatever the events said.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// What an event named is read this long after it, and once more: Marathon tells before its own lists know.
const LOOKS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// More things to read than this, and everything is read instead.
const ONE_BY_ONE_MAX: usize = 32;

/// The source that watches one Marathon.
#[derive(Debug)]
pub struct Marathon {
    settings: MarathonSettings,
    metrics: Metrics,
    api: Api,
}

impl Marathon {
    /// A source for the Marathon that the settings name.
    pub fn new(settings: MarathonSettings, metrics: Metrics) -> Result<Self, SourceError> {
        let api = Api::new(&settings)?;
        Ok(Marathon { settings, metrics, api })
    }

    /// Who a source with these settings is.
    pub fn description(settings: &MarathonSettings) -> Description {
        Description {
            source: settings.source.clone(),
            platform: "marathon",
            cluster: "marathon".to_owned(),
            region: settings.region.clone(),
        }
    }
}

/// What to do about an error, where that is known.
fn advice(error: &ReadError) -> &'static str {
    match error {
        ReadError::Status { status: 401 | 403, .. } => "; give user:password, or a token of DC/OS",
        _ => "",
    }
}

impl Conversation for Marathon {
    fn describe(&self) -> Description {
        Marathon::description(&self.settings)
    }

    fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    fn advice(&self, error: &ReadError) -> &'static str {
        advice(error)
    }

    fn peer(&self) -> String {
        format!("marathon at {}", self.api.http.server())
    }

    fn turn(&self) {
        self.api.http.turn();
    }

    async fn speak(&mut self, teller: &mut Teller) -> Break {
        match self.api.events().await {
            Ok(events) => self.follow(events, teller).await.err().unwrap_or(Break::Renew),
            Err(error) => error.into(),
        }
    }
}

/// What must be read, when, and how often it has been since its last event.
#[derive(Debug, Default)]
struct Agenda {
    due: BTreeMap<Touched, (Instant, usize)>,
}

impl Agenda {
    fn note(&mut self, what: Touched, now: Instant) {
        if what != Touched::Nothing {
            // What is due already stays so: events that come without end must not put it off.
            self.due.entry(what).and_modify(|(_, looks)| *looks = 0).or_insert((now + LOOKS[0], 0));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.values().map(|(at, _)| *at).min()
    }

    /// What is due; it comes once more where that was its first time.
    fn take(&mut self, now: Instant) -> Vec<Touched> {
        let due: Vec<Touched> =
            self.due.iter().filter(|(_, (at, _))| *at <= now).map(|(what, _)| what.clone()).collect();
        for what in &due {
            let looks = self.due.get(what).map_or(0, |(_, looks)| looks + 1);
            match LOOKS.get(looks) {
                Some(later) => self.due.insert(what.clone(), (now + *later, looks)),
                None => self.due.remove(what),
            };
        }
        due
    }
}

impl Marathon {
    async fn follow(&self, mut events: Events, teller: &mut Teller) -> Result<(), Break> {
        self.list(teller).await?;
        let (mut agenda, mut list_at) = (Agenda::default(), Instant::now() + LIST_EVERY);
        loop {
            let look_at = agenda.next().unwrap_or(list_at).min(list_at);
            tokio::select! {
                event = events.next() => agenda.note(touched(&event?), Instant::now()),
                () = tokio::time::sleep_until(look_at) => {
                    let due = agenda.take(Instant::now());
                    if due.contains(&Touched::All) || due.len() > ONE_BY_ONE_MAX || list_at <= Instant::now() {
                        self.list(teller).await?;
                        list_at = Instant::now() + LIST_EVERY;
                        continue;
                    }
                    for what in due {
                        if let Touched::One(id) = what {
                            teller.part(&id, self.look(&id).await?);
                        }
                    }
                    teller.live(None);
                }
            }
        }
    }

    /// Lists everything and tells it.
    async fn list(&self, teller: &mut Teller) -> Result<(), Break> {
        let (apps, pods) = (self.api.apps().await?, self.api.pods().await?);
        let now = SystemTime::now();
        let apps = apps.into_iter().map(|app| (app.id.clone(), map::app(&app, &self.settings, now)));
        let pods = pods.into_iter().map(|pod| (pod.id.clone(), map::pod(&pod, &self.settings)));
        teller.listing(apps.chain(pods).collect(), Vec::new(), None, "")
    }

    /// What one id says now: an app, a pod, or nothing any more.
    async fn look(&self, id: &str) -> Result<Vec<Claim>, ReadError> {
        if let Some(app) = self.api.app(id).await? {
            return Ok(map::app(&app, &self.settings, SystemTime::now()));
        }
        let pod = self.api.pod(id).await?;
        Ok(pod.map(|pod| map::pod(&pod, &self.settings)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_event_names_is_read_twice_and_is_not_put_off_by_more_events() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        let web = Touched::One("/web".into());
        agenda.note(web.clone(), start);
        agenda.note(web.clone(), start + LOOKS[0] / 2);
        assert_eq!(agenda.next(), Some(start + LOOKS[0]));
        assert_eq!(agenda.take(start + LOOKS[0]), std::slice::from_ref(&web));
        let second = agenda.next().unwrap();
        assert_eq!(second, start + LOOKS[0] + LOOKS[1]);
        assert_eq!(agenda.take(second), [web]);
        assert_eq!(agenda.next(), None);
    }
}
