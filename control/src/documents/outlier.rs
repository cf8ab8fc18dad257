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
}

const CONSECUTIVE: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const EJECTION_BASE: Duration = Duration::from_secs(30);
const EJECTION_PERCENT_MAX: u32 = 10;

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
