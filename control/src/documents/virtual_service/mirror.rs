//! Copies of a rule's requests for other destinations.

use std::sync::Arc;

use super::{Backend, action};
use crate::documents::{
    Located,
    problem::Report,
    reader::{At, Object},
};

/// A destination that gets copies, whose answers nobody waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Service name or host.
    pub host: Located,
    /// Subset of a DestinationRule.
    pub subset: Option<Located>,
    /// Service port; none is the only port, or the port that the client used.
    pub port: Option<u16>,
    /// Share of requests, in millionths.
    pub ppm: u32,
    /// The namespace in which its names are read, where that is not its rule's.
    pub namespace: Option<Arc<str>>,
    /// What the Gateway API names as backend ([`Destination::backend`](super::Destination)).
    pub backend: Option<Backend>,
}

/// All requests, in millionths.
pub(in crate::documents) const ALL_PPM: u32 = 1_000_000;

/// The mirrors of a rule: `mirrors`, or `mirror` with its percentage beside it.
pub(super) fn read(object: &mut Object<'_>, report: &mut Report) -> Vec<Mirror> {
    let whole = ["mirrorPercent", "mirror_percent"]
        .map(|name| object.field(name, report).and_then(|at| at.integer(report, 0, 100)));
    let whole = whole.into_iter().flatten().next().map(|percent| percent * 10_000);
    let share = object.field("mirrorPercentage", report).and_then(|at| at.percentage_ppm(report)).or(whole);
    let one = object.field("mirror", report);
    let several = object.field("mirrors", report);
    if let (Some(_), Some(at)) = (&one, &several) {
        at.fail(report, "mirror is given too", "keep one of mirror and mirrors");
    }
    let mut found = Vec::new();
    if let Some(at) = one {
        found.extend(mirror(&at, share.unwrap_or(ALL_PPM), report));
    }
    for at in several.map(|at| at.list(report)).unwrap_or_default() {
        let Some(mut object) = at.object(report) else { continue };
        let share = object.field("percentage", report).and_then(|at| at.percentage_ppm(report));
        let to = object.required("destination", report);
        found.extend(to.and_then(|at| mirror(&at, share.unwrap_or(ALL_PPM), report)));
        object.finish(report);
    }
    found
}

fn mirror(at: &At<'_>, ppm: u32, report: &mut Report) -> Option<Mirror> {
    let to = action::destination(at, 0, Default::default(), report)?;
    Some(Mirror { host: to.host, subset: to.subset, port: to.port, ppm, namespace: None, backend: None })
}
