//! One look at Nomad: does it answer, what may we read, and what would be told.

use super::api::Api;
use super::{WAIT, advice, map};
use crate::blocking::Ask;
use crate::gather::Gathered;
use crate::report::{Report, Trouble};
use crate::settings::NomadSettings;

/// Asks for everything once.
pub async fn check(settings: &NomadSettings, report: &mut Report) {
    let api = match Api::new(settings) {
        Ok(api) => api,
        Err(error) => return report.bad(Trouble::Platform, error.to_string()),
    };
    let at = api.http.server();
    let found = match api.names(Ask::Now, WAIT).await {
        Ok((names, index)) => api.region(&names, index).await.map(|region| (names, region)),
        Err(error) => Err(error),
    };
    let (names, region) = match found {
        Ok(found) => found,
        Err(error) => {
            return report.bad(Trouble::of(&error), format!("nomad at {at} {error}{}", advice(&error)));
        }
    };
    report.good(format!("nomad at {at} answers"));
    if names.is_empty() {
        let hidden =
            "no service is visible; are there any with provider = \"nomad\", and may the token read them?";
        report.bad(Trouble::NotAuthorised, hidden);
    }
    if region.allocs_index().is_none() {
        let hidden = "allocations may not be read, so every registration counts as healthy; give a token with read-job";
        report.bad(Trouble::NotAuthorised, hidden);
    }
    match api.events(&["Service", "Allocation", "Node"]).await {
        Ok(_) => report.good("the event stream tells services, allocations and nodes"),
        Err(error) => {
            report.good(format!("changes come by blocking queries, since the event stream {error}"))
        }
    }
    let mut gathered = Gathered::default();
    for name in region.names() {
        for problem in gathered.set(&super::part(name), map::claims(&region, name, settings)).problems {
            report.bad(Trouble::Content, problem);
        }
    }
    report.items = gathered.items();
}
