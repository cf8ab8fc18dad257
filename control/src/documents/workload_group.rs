//! `WorkloadEntry` and `WorkloadGroup`: workloads that no platform runs, one by one, and what those of one name have alike.

use super::{
    health_check::{self, HealthCheck},
    problem::Report,
    reader::At,
    service_entry::{self, EntryEndpoint, EntryResolution},
};

use std::time::Duration;

/// What the workloads of its name and namespace have alike.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadGroup {
    /// How a proxy checks the workload that it stands before.
    pub probe: Option<HealthCheck>,
}

/// Istio's defaults, which are those of Kubernetes.
const PERIOD_SECONDS: u32 = 10;
const TIMEOUT_SECONDS: u32 = 1;
const SUCCESS_THRESHOLD: u32 = 1;
const FAILURE_THRESHOLD: u32 = 3;

/// Reads a `WorkloadEntry`: an endpoint for the service entries that select its labels.
pub(super) fn read_entry(spec: &At<'_>, report: &mut Report) -> Option<EntryEndpoint> {
    service_entry::endpoint(spec, EntryResolution::Dns, report)
}

/// Reads a `WorkloadGroup`.
pub(super) fn read_group(spec: &At<'_>, report: &mut Report) -> Option<WorkloadGroup> {
    let mut object = spec.object(report)?;
    if let Some(mut metadata) = object.field("metadata", report).and_then(|at| at.object(report)) {
        for name in ["labels", "annotations"] {
            metadata.field(name, report).map(|at| at.labels(report));
        }
        metadata.finish(report);
    }
    // What a workload would be registered with; here its platform's adapter registers it, so it is only read.
    if let Some(at) = object.required("template", report) {
        service_entry::template(&at, report);
    }
    let probe = object.field("probe", report).and_then(|at| probe(&at, report));
    object.finish(report);
    Some(WorkloadGroup { probe })
}

fn probe(at: &At<'_>, report: &mut Report) -> Option<HealthCheck> {
    let mut object = at.object(report)?;
    if let Some(at) = object.field("exec", report) {
        at.fail(report, "proxies run no commands", "use httpGet, tcpSocket or grpc");
    }
    let found = health_check::probe(&mut object, report);
    let mut number = |name, min, usual, report: &mut Report| {
        let found = object.field(name, report).and_then(|at| at.integer(report, min, i32::MAX as u32));
        found.unwrap_or(usual)
    };
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let delay = number("initialDelaySeconds", 0, 0, report);
    let timeout = number("timeoutSeconds", 0, TIMEOUT_SECONDS, report).max(1);
    let period = number("periodSeconds", 0, PERIOD_SECONDS, report).max(1);
    let healthy_threshold = number("successThreshold", 0, SUCCESS_THRESHOLD, report).max(1);
    let unhealthy_threshold = number("failureThreshold", 0, FAILURE_THRESHOLD, report).max(1);
    object.finish(report);
    let (probe, port) = found?;
    Some(HealthCheck {
        probe,
        port,
        timeout: seconds(timeout),
        interval: seconds(period),
        unhealthy_interval: None,
        // It is one workload on this machine: it is looked at whether or not it is asked for anything.
        no_traffic_interval: Some(seconds(period)),
        // The first check comes at some moment within it.
        initial_jitter: (delay > 0).then(|| seconds(delay)),
        interval_jitter: None,
        healthy_threshold,
        unhealthy_threshold,
    })
}
