//! One look at Mesos: does a master lead, may we subscribe, and what would be told.

use super::api::Api;
use super::cluster::Cluster;
use super::{advice, claims, part};
use crate::gather::Gathered;
use crate::report::{Report, Trouble};
use crate::settings::MesosSettings;

/// Asks for everything once.
pub async fn check(settings: &MesosSettings, report: &mut Report) {
    let api = match Api::new(settings) {
        Ok(api) => api,
        Err(error) => return report.bad(Trouble::Platform, error.to_string()),
    };
    let at = api.http.server();
    let mut cluster = Cluster::default();
    match api.subscribe().await {
        Ok((state, _)) => cluster.subscribed(state),
        Err(error) => {
            return report.bad(Trouble::of(&error), format!("mesos at {at} {error}{}", advice(&error)));
        }
    }
    report.good(format!("mesos at {at} answers: {} tasks", cluster.tasks().count()));
    if cluster.tasks().next().is_none() {
        report.bad(
            Trouble::NotAuthorised,
            "no task is visible; do the masters' ACLs let the principal view tasks?",
        );
    }
    if cluster.recovered() > 0 {
        let waiting = format!("{} agents have not come back to the new master yet", cluster.recovered());
        report.bad(Trouble::Content, waiting);
    }
    let mut gathered = Gathered::default();
    for id in cluster.tasks() {
        for problem in gathered.set(&part(id), claims(&cluster, id, settings)).problems {
            report.bad(Trouble::Content, problem);
        }
    }
    report.items = gathered.items();
}
