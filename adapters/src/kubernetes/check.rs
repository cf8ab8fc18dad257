//! One look at a cluster: does it answer, what may we read, and what would be told.

use super::api::Api;
use super::cluster::Cluster;
use super::kind::{KINDS, Meaning};
use super::{advice, map, part};
use crate::gather::Gathered;
use crate::http::ReadError;
use crate::report::{Report, Trouble};
use crate::settings::KubernetesSettings;

/// Asks for everything once.
pub async fn check(settings: &KubernetesSettings, report: &mut Report) {
    let api = match Api::new(settings) {
        Ok(api) => api,
        Err(error) => return report.bad(Trouble::Platform, error.to_string()),
    };
    let at = api.http.server();
    let mut cluster = Cluster::default();
    for kind in KINDS {
        match api.list(kind).await {
            Ok((objects, _)) => {
                report.good(format!("{}: {} are read", kind.plural, objects.len()));
                for problem in cluster.list(kind, objects) {
                    report.bad(Trouble::Content, problem);
                }
            }
            Err(ReadError::Status { status: 404, .. }) if matches!(kind.meaning, Meaning::Document(_)) => {}
            Err(error) => {
                let what = kind.plural;
                report.bad(
                    Trouble::of(&error),
                    format!("{what}: kubernetes at {at} {error}{}", advice(&error)),
                );
                // What stops the first question stops the others.
                if kind.is_needed() {
                    return;
                }
            }
        }
    }
    let mut gathered = Gathered::default();
    for name in cluster.services() {
        for problem in gathered.set(&part(name), map::claims(&cluster, name, settings)).problems {
            report.bad(Trouble::Content, problem);
        }
    }
    report.items = gathered.items().into_iter().chain(cluster.documents()).collect();
}
