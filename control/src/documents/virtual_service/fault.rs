//! Faults that a rule injects: delays and aborts for a share of its requests.

use std::time::Duration;

use crate::documents::{
    problem::Report,
    reader::{At, Object, nearest},
    tree::Place,
};

/// Faults of a rule; a share that is not given is nothing, as in Istio.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Holds requests up.
    pub delay: Option<Delay>,
    /// Answers requests in place of their endpoints.
    pub abort: Option<Abort>,
}

/// A delay for a share of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delay {
    /// How long; more than zero.
    pub time: Duration,
    /// Share of requests, in millionths.
    pub ppm: u32,
}

/// An answer for a share of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Abort {
    /// The answer.
    pub status: AbortStatus,
    /// Share of requests, in millionths.
    pub ppm: u32,
}

/// What an aborted request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AbortStatus {
    /// An HTTP status.
    Http(u16),
    /// A gRPC status.
    Grpc(u32),
}

/// Names of the gRPC statuses, by their numbers.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<Fault> {
    let mut object = at.object(report)?;
    let delay = object.field("delay", report).and_then(|at| delay(&at, report));
    let abort = object.field("abort", report).and_then(|at| abort(&at, report));
    object.finish(report);
    if delay.is_none() && abort.is_none() && report.is_clean() {
        at.fail(report, "injects nothing", "add delay or abort");
    }
    Some(Fault { delay, abort })
}

fn delay(at: &At<'_>, report: &mut Report) -> Option<Delay> {
    let mut object = at.object(report)?;
    let time = object.required("fixedDelay", report).and_then(|at| at.duration_above_zero(report));
    let ppm = share(&mut object, report);
    object.unsupported(&["exponentialDelay"], report);
    object.finish(report);
    Some(Delay { time: time?, ppm })
}

fn abort(at: &At<'_>, report: &mut Report) -> Option<Abort> {
    let mut object = at.object(report)?;
    let http = object.field("httpStatus", report);
    let grpc = object.field("grpcStatus", report);
    let ppm = share(&mut object, report);
    object.unsupported(&["http2Error"], report);
    let place: Place = object.place;
    let path = object.path.clone();
    object.finish(report);
    let status = match (http, grpc) {
        (Some(at), None) => AbortStatus::Http(u16::try_from(at.integer(report, 200, 599)?).ok()?),
        (None, Some(at)) => AbortStatus::Grpc(grpc_status(&at, report)?),
        (Some(_), Some(at)) => {
            at.fail(report, "httpStatus is given too", "keep one of httpStatus and grpcStatus");
            return None;
        }
        (None, None) => {
            report.error(place, &path, "says not what is answered", "add httpStatus or grpcStatus");
            return None;
        }
    };
    Some(Abort { status, ppm })
}

/// A status by its name, as Istio takes it, in Istio's spelling of CANCELLED too.
fn grpc_status(at: &At<'_>, report: &mut Report) -> Option<u32> {
    let text = at.text(report)?;
    let name = if &*text == "CANCELED" { "CANCELLED" } else { &*text };
    let found = GRPC_STATUSES.iter().position(|known| *known == name);
    if found.is_none() {
        at.fail(report, format!("{text:?} is no gRPC status"), nearest(&text, &GRPC_STATUSES));
    }
    found.and_then(|code| u32::try_from(code).ok())
}

/// `percentage`, or the whole percent of old documents.
fn share(object: &mut Object<'_>, report: &mut Report) -> u32 {
    let whole = object.field("percent", report).and_then(|at| at.integer(report, 0, 100));
    let share = object.field("percentage", report).and_then(|at| at.percentage_ppm(report));
    share.or(whole.map(|percent| percent * 10_000)).unwrap_or(0)
}

impl Fault {
    /// The same without the parts that are meant for no request; none where nothing is left.
    pub fn effective(&self) -> Option<Self> {
        let delay = self.delay.clone().filter(|delay| delay.ppm > 0);
        let abort = self.abort.clone().filter(|abort| abort.ppm > 0);
        (delay.is_some() || abort.is_some()).then_some(Self { delay, abort })
    }
}
