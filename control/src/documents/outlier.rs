//! `outlierDetection`: which failures eject an endpoint, and for how long.

use std::time::Duration;

use super::{
    problem::Report,
    reader::{At, Object},
};

/// Ejection of endpoints that fail. Defaults are Istio's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutlierDetection {
    /// 5xx answers in a row; zero is off.
    pub consecutive_5xx: u32,
    /// 502, 503 and 504 answers in a row; zero is off.
    pub consecutive_gateway: u32,
    /// Failures to connect or of the connection in a row, where they are counted apart; zero is off.
    pub consecutive_local: u32,
    /// Whether failures of the connection are counted apart from answers.
    pub split_local: bool,
    /// How often endpoints are looked at.
    pub interval: Duration,
    /// First ejection; the n-th is n times as long.
    pub ejection_base: Duration,
    /// Most ejected endpoints, percent.
    pub ejection_percent_max: u32,
    /// Below this share of healthy endpoints all are used, percent; zero is never.
    pub health_percent_min: u32,
    /// What is judged over many requests.
    pub statistics: Statistics,
}

/// Ejection by what many requests tell, which Istio has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Statistics {
    /// By the share of good answers, compared with the other endpoints'.
    pub success_rate: Option<SuccessRate>,
    /// By the share of failures alone.
    pub failure_percentage: Option<FailurePercentage>,
}

/// An endpoint is ejected whose success rate is so far below the average of all. Defaults are Envoy's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SuccessRate {
    /// Standard deviations below the average, in thousandths.
    pub deviations_milli: u32,
    /// Endpoints that must have had enough requests, or nothing is concluded.
    pub hosts_min: u32,
    /// Requests of an interval that are enough.
    pub requests_min: u32,
}

/// An endpoint is ejected of whose requests so many fail. Defaults are Envoy's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FailurePercentage {
    /// Share of failures, percent.
    pub threshold: u32,
    /// Endpoints that must have had enough requests, or nothing is concluded.
    pub hosts_min: u32,
    /// Requests of an interval that are enough.
    pub requests_min: u32,
}

impl OutlierDetection {
    /// With nothing that ejects.
    pub fn quiet() -> Self {
        Self {
            consecutive_5xx: 0,
            consecutive_gateway: 0,
            consecutive_local: 0,
            split_local: false,
            interval: INTERVAL,
            ejection_base: EJECTION_BASE,
            ejection_percent_max: EJECTION_PERCENT_MAX,
            health_percent_min: 0,
            statistics: Statistics::default(),
        }
    }
}

impl Statistics {
    /// Reads `outlierDetection` of an `EndpointPolicy`.
    pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<Self> {
        let mut object = at.object(report)?;
        let success_rate = object.field("successRate", report).and_then(|at| {
            let mut object = at.object(report)?;
            let deviations = object.field("deviations", report).and_then(|at| at.percent_milli(report));
            let (hosts_min, requests_min) = least(&mut object, RATE_REQUESTS_MIN, report);
            object.finish(report);
            Some(SuccessRate {
                deviations_milli: deviations.unwrap_or(DEVIATIONS_MILLI),
                hosts_min,
                requests_min,
            })
        });
        let failure_percentage = object.field("failurePercentage", report).and_then(|at| {
            let mut object = at.object(report)?;
            let threshold = object.field("threshold", report).and_then(|at| at.integer(report, 1, 100));
            let (hosts_min, requests_min) = least(&mut object, PERCENTAGE_REQUESTS_MIN, report);
            object.finish(report);
            Some(FailurePercentage { threshold: threshold.unwrap_or(THRESHOLD), hosts_min, requests_min })
        });
        object.finish(report);
        Some(Self { success_rate, failure_percentage })
    }
}

/// How many endpoints and requests it takes.
fn least(object: &mut Object<'_>, requests: u32, report: &mut Report) -> (u32, u32) {
    let mut count = |name, usual, report: &mut Report| {
        let found = object.field(name, report).and_then(|at| at.integer(report, 1, i32::MAX as u32));
        found.unwrap_or(usual)
    };
    (count("minHosts", HOSTS_MIN, report), count("minRequests", requests, report))
}

const CONSECUTIVE: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const EJECTION_BASE: Duration = Duration::from_secs(30);
const EJECTION_PERCENT_MAX: u32 = 10;
const DEVIATIONS_MILLI: u32 = 1900;
const THRESHOLD: u32 = 85;
const HOSTS_MIN: u32 = 5;
const RATE_REQUESTS_MIN: u32 = 100;
const PERCENTAGE_REQUESTS_MIN: u32 = 50;

pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<OutlierDetection> {
    let mut object = at.object(report)?;
    let count = |object: &mut Object<'_>, name, report: &mut Report| {
        object.field(name, report).and_then(|at| at.integer(report, 0, i32::MAX as u32))
    };
    let percent = |object: &mut Object<'_>, name, report: &mut Report| {
        object.field(name, report).and_then(|at| at.integer(report, 0, 100))
    };
    // Istio's older name of the first.
    let older = count(&mut object, "consecutiveErrors", report);
    let consecutive_5xx = count(&mut object, "consecutive5xxErrors", report).or(older);
    let consecutive_gateway = count(&mut object, "consecutiveGatewayErrors", report);
    let split_local = object.field("splitExternalLocalOriginErrors", report);
    let split_local = split_local.and_then(|at| at.boolean(report)).unwrap_or_default();
    let consecutive_local = count(&mut object, "consecutiveLocalOriginFailures", report);
    let found = OutlierDetection {
        // Who asks for gateway errors alone does not want any 5xx counted.
        consecutive_5xx: consecutive_5xx.unwrap_or(if consecutive_gateway.is_some() {
            0
        } else {
            CONSECUTIVE
        }),
        consecutive_gateway: consecutive_gateway.unwrap_or(0),
        consecutive_local: consecutive_local.unwrap_or(CONSECUTIVE),
        split_local,
        interval: period(&mut object, "interval", INTERVAL, report),
        ejection_base: period(&mut object, "baseEjectionTime", EJECTION_BASE, report),
        ejection_percent_max: percent(&mut object, "maxEjectionPercent", report)
            .unwrap_or(EJECTION_PERCENT_MAX),
        health_percent_min: percent(&mut object, "minHealthPercent", report).unwrap_or(0),
        statistics: Statistics::default(),
    };
    object.finish(report);
    Some(found)
}

fn period(object: &mut Object<'_>, name: &'static str, usual: Duration, report: &mut Report) -> Duration {
    let Some(at) = object.field(name, report) else { return usual };
    match at.duration(report) {
        Some(time) if time < Duration::from_millis(1) => {
            at.fail(report, "is too short", "at least 1ms");
            usual
        }
        time => time.unwrap_or(usual),
    }
}
