//! One look at Marathon: does it answer, may we read and hear, and what would be told.

use std::time::SystemTime;

use super::api::Api;
use super::{advice, map};
use crate::gather::Gathered;
use crate::report::{Report, Trouble};
use crate::settings::MarathonSettings;

/// Asks for everything once.
pub async fn check(settings: &MarathonSettings, report: &mut Report) {
    let api = match Api::new(settings) {
        Ok(api) => api,
        Err(error) => return report.bad(Trouble::Platform, error.to_string()),
    };
    let at = api.http.server();
    let found = match api.apps().await {
        Ok(apps) => api.pods().await.map(|pods| (apps, pods)),
        Err(error) => Err(error),
    };
    let (apps, pods) = match found {
        Ok(found) => found,
        Err(error) => {
            return report.bad(Trouble::of(&error), format!("marathon at {at} {error}{}", advice(&error)));
        }
    };
    report.good(format!("marathon at {at} answers: {} apps, {} pods", apps.len(), pods.len()));
    if apps.is_empty() && pods.is_empty() {
        report.bad(Trouble::NotAuthorised, "nothing is visible; may the credentials view apps?");
    }
    match api.events().await {
        Ok(_) => report.good("the event stream is attached"),
        Err(error) => report.bad(Trouble::of(&error), format!("the event stream: marathon {error}")),
    }
    let mut gathered = Gathered::default();
    let apps = apps.iter().map(|app| (&app.id, map::app(app, settings, SystemTime::now())));
    let pods = pods.iter().map(|pod| (&pod.id, map::pod(pod, settings)));
    for (id, claims) in apps.chain(pods) {
        for problem in gathered.set(id, claims).problems {
            report.bad(Trouble::Content, problem);
        }
    }
    report.items = gathered.items();
}
