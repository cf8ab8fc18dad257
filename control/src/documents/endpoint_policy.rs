//! `EndpointPolicy`, a kind of ours: how proxies choose among the endpoints of a host and judge them by statistics, where
//! Istio has no word for it. What a DestinationRule says beside it holds on.
//!
//! ```yaml
//! apiVersion: weft.dev/v1
//! kind: EndpointPolicy
//! metadata: {name: reviews}
//! spec:
//!   host: reviews
//!   loadBalancer:
//!     peakEwma: {halfLife: 10s, initialLatency: 30ms}   # for `weft proxy`; others go by the DestinationRule
//!   outlierDetection:
//!     successRate: {deviations: 1.9, minHosts: 5, minRequests: 100}
//!     failurePercentage: {threshold: 85, minHosts: 5, minRequests: 50}
//! ```

use std::time::Duration;

use super::{
    outlier::Statistics,
    problem::Report,
    reader::{At, Located, Object},
    values,
};

/// How proxies choose among the endpoints of a host and judge them.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointPolicy {
    /// Service name or host.
    pub host: Located,
    /// Balance by latency; none is as the destination rule says.
    pub peak_ewma: Option<PeakEwma>,
    /// Ejection of endpoints that fail more than others, or too much.
    pub statistics: Statistics,
}

/// `peakEwma`: the endpoint of two at random whose latency, as a moving average that rises at once, times requests in flight is
/// less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeakEwma {
    /// Time in which an observation loses half its weight.
    pub half_life: Duration,
    /// Latency that is assumed of an endpoint that was never used.
    pub initial: Duration,
}

/// What the proxy assumes where nothing is said.
const HALF_LIFE: Duration = Duration::from_secs(10);
const INITIAL: Duration = Duration::from_millis(30);
/// An hour: what is longer never changes its mind.
const TIME_MAX: Duration = Duration::from_secs(3600);

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<EndpointPolicy> {
    let mut object = spec.object(report)?;
    let host = object.required("host", report).and_then(|at| values::host(&at, report));
    let balancer = object.field("loadBalancer", report).and_then(|at| at.object(report));
    let peak_ewma = balancer.and_then(|mut object| {
        let found = object.required("peakEwma", report).and_then(|at| peak_ewma(&at, report));
        object.finish(report);
        found
    });
    let statistics = object.field("outlierDetection", report).and_then(|at| Statistics::read(&at, report));
    object.finish(report);
    let statistics = statistics.unwrap_or_default();
    if report.is_clean() && peak_ewma.is_none() && statistics == Statistics::default() {
        spec.fail(report, "says nothing", "give loadBalancer or outlierDetection");
    }
    Some(EndpointPolicy { host: host?, peak_ewma, statistics })
}

fn peak_ewma(at: &At<'_>, report: &mut Report) -> Option<PeakEwma> {
    let mut object = at.object(report)?;
    let half_life = time(&mut object, "halfLife", HALF_LIFE, report);
    let initial = time(&mut object, "initialLatency", INITIAL, report);
    object.finish(report);
    Some(PeakEwma { half_life, initial })
}

fn time(object: &mut Object<'_>, name: &'static str, usual: Duration, report: &mut Report) -> Duration {
    let Some(at) = object.field(name, report) else { return usual };
    match at.duration(report) {
        Some(time) if time < Duration::from_millis(1) || time > TIME_MAX => {
            at.fail(report, "is too short or too long", "1ms to 1h");
            usual
        }
        time => time.unwrap_or(usual),
    }
}
