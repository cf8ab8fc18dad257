//! `HealthCheckPolicy`, a kind of ours: how proxies check the endpoints that they send to. Istio has none for that; fields are
//! those of its probes, and times are written as everywhere else.
//!
//! ```yaml
//! apiVersion: weft.dev/v1
//! kind: HealthCheckPolicy
//! metadata: {name: reviews}
//! spec:
//!   host: reviews
//!   minHealthPercent: 0            # below this share of healthy endpoints all are used
//!   checks:                        # at most one for a port; without a port for every port that has none of its own
//!   - port: {number: 80}
//!     httpGet: {path: /healthz, port: 8081, expectedStatuses: ["200-299"]}   # or tcpSocket: {}, or grpc: {service: a}
//!     interval: 5s
//! ```

use std::{sync::Arc, time::Duration};

use super::{
    problem::Report,
    reader::{At, Located, Object},
    values,
};

/// How proxies check the endpoints of a host.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheckPolicy {
    /// Service name or host.
    pub host: Located,
    /// Below this share of healthy endpoints all are used, percent; zero is never.
    pub health_percent_min: u32,
    /// Checks by the port that they are for; none is every port without one of its own.
    pub checks: Vec<(Option<u16>, HealthCheck)>,
}

impl HealthCheckPolicy {
    /// The check of a port.
    pub fn of_port(&self, port: u16) -> Option<&HealthCheck> {
        let find = |wanted: Option<u16>| self.checks.iter().find(|(of, _)| *of == wanted);
        find(Some(port)).or_else(|| find(None)).map(|(_, check)| check)
    }
}

/// A check that proxies make.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Port of the endpoint where it is asked; none is where requests go.
    pub port: Option<u16>,
    /// Time for the answer.
    pub timeout: Duration,
    /// Time between two checks.
    pub interval: Duration,
    /// The same for an endpoint that fails; none is alike.
    pub unhealthy_interval: Option<Duration>,
    /// The same while nothing was ever sent to the service; none is the proxy's default, a minute.
    pub no_traffic_interval: Option<Duration>,
    /// Greatest delay of the first check.
    pub initial_jitter: Option<Duration>,
    /// Greatest random addition to every interval.
    pub interval_jitter: Option<Duration>,
    /// Checks in a row that must pass, at least 1.
    pub healthy_threshold: u32,
    /// Checks in a row that must fail, at least 1.
    pub unhealthy_threshold: u32,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// An HTTP GET.
    Http {
        /// Path and query.
        path: Arc<str>,
        /// `Host`; none is the service's.
        host: Option<Arc<str>>,
        /// Further headers.
        headers: Vec<(Arc<str>, Arc<str>)>,
        /// Statuses that pass: from, and up to but without.
        expected: Vec<(u16, u16)>,
    },
    /// A connection.
    Tcp,
    /// `grpc.health.v1`.
    Grpc {
        /// Service asked for; empty is the server as a whole.
        service: Arc<str>,
    },
}

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(1);
const HEALTHY_THRESHOLD: u32 = 2;
const UNHEALTHY_THRESHOLD: u32 = 3;
/// What Kubernetes takes as a success.
const EXPECTED: (u16, u16) = (200, 400);

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<HealthCheckPolicy> {
    let mut object = spec.object(report)?;
    let host = object.required("host", report).and_then(|at| values::host(&at, report));
    let percent = object.field("minHealthPercent", report).and_then(|at| at.integer(report, 0, 100));
    let items = object.required("checks", report).map(|at| at.list(report)).unwrap_or_default();
    let mut checks: Vec<(Option<u16>, HealthCheck)> = Vec::new();
    for at in &items {
        let Some((port, check)) = check(at, report) else { continue };
        if checks.iter().any(|(other, _)| *other == port) {
            at.fail(
                report,
                "another check is for the same port",
                "keep one: proxies make one check for a port",
            );
        }
        checks.push((port, check));
    }
    object.finish(report);
    Some(HealthCheckPolicy { host: host?, health_percent_min: percent.unwrap_or(0), checks })
}

fn check(at: &At<'_>, report: &mut Report) -> Option<(Option<u16>, HealthCheck)> {
    let mut object = at.object(report)?;
    let of_port = object.field("port", report).and_then(|at| {
        let mut object = at.object(report)?;
        let number = object.required("number", report).and_then(|at| at.port(report));
        object.finish(report);
        number
    });
    let probe = probe(&mut object, report);
    let mut time = |name, report: &mut Report| {
        let at = object.field(name, report)?;
        let time = at.duration(report);
        if time == Some(Duration::ZERO) {
            at.fail(report, "must be more than zero", "");
        }
        time
    };
    let (timeout, interval) = (time("timeout", report), time("interval", report));
    let (unhealthy_interval, no_traffic_interval) =
        (time("unhealthyInterval", report), time("noTrafficInterval", report));
    let (initial_jitter, interval_jitter) = (time("initialJitter", report), time("intervalJitter", report));
    let mut count = |name, report: &mut Report| {
        object.field(name, report).and_then(|at| at.integer(report, 1, i32::MAX as u32))
    };
    let (healthy, unhealthy) = (count("healthyThreshold", report), count("unhealthyThreshold", report));
    object.finish(report);
    let (probe, port) = probe?;
    let check = HealthCheck {
        probe,
        port,
        timeout: timeout.unwrap_or(TIMEOUT),
        interval: interval.unwrap_or(INTERVAL),
        unhealthy_interval,
        no_traffic_interval,
        initial_jitter,
        interval_jitter,
        healthy_threshold: healthy.unwrap_or(HEALTHY_THRESHOLD),
        unhealthy_threshold: unhealthy.unwrap_or(UNHEALTHY_THRESHOLD),
    };
    Some((of_port, check))
}

/// The one probe of an object, and the port where it asks.
pub(super) fn probe(object: &mut Object<'_>, report: &mut Report) -> Option<(Probe, Option<u16>)> {
    let place = (object.place, object.path.clone());
    let http = object.field("httpGet", report).and_then(|at| http_get(&at, report));
    let tcp = object.field("tcpSocket", report).and_then(|at| tcp_socket(&at, report));
    let grpc = object.field("grpc", report).and_then(|at| grpc(&at, report));
    let mut found: Vec<_> = [http, tcp, grpc].into_iter().flatten().collect();
    if found.len() != 1 && report.is_clean() {
        let hint = "give one of httpGet, tcpSocket and grpc";
        let message = if found.is_empty() { "says not what is asked" } else { "asks more than one thing" };
        report.error(place.0, &place.1, message, hint);
    }
    found.pop()
}

fn http_get(at: &At<'_>, report: &mut Report) -> Option<(Probe, Option<u16>)> {
    let mut object = at.object(report)?;
    let path_at = object.field("path", report);
    let path = path_at.as_ref().and_then(|at| at.text(report)).unwrap_or_else(|| "/".into());
    if let (Some(at), true) = (&path_at, !path.starts_with('/') || path.parse::<http::Uri>().is_err()) {
        at.fail(report, format!("{path:?} is no path"), "it begins with /");
    }
    let port = object.field("port", report).and_then(|at| at.port(report));
    let scheme = object.field("scheme", report);
    if let Some(at) = scheme
        && at.text(report).is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http"))
    {
        at.fail(report, "only HTTP is supported", "remove it");
    }
    let mut host =
        object.field("host", report).and_then(|at| values::exact_host(&at, report)).map(|host| host.text);
    let mut headers = Vec::new();
    for at in object.list("httpHeaders", report) {
        let Some(mut pair) = at.object(report) else { continue };
        let name = pair.required("name", report).and_then(|at| at.located(report));
        let value = pair.required("value", report).and_then(|at| at.text(report));
        pair.finish(report);
        match name.and_then(|name| values::header_name(&name, report)).zip(value) {
            Some((name, value)) if &*name == "host" => host = Some(value),
            other => headers.extend(other),
        }
    }
    let ranges = object.list("expectedStatuses", report);
    let mut expected: Vec<_> = ranges.iter().filter_map(|at| statuses(at, report)).collect();
    if ranges.is_empty() {
        expected.push(EXPECTED);
    }
    object.finish(report);
    Some((Probe::Http { path, host, headers, expected }, port))
}

/// `200` or `200-299`, as text.
fn statuses(at: &At<'_>, report: &mut Report) -> Option<(u16, u16)> {
    let text = at.text(report)?;
    let (from, to) = text.split_once('-').unwrap_or((&text, &text));
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    let found = number(from).zip(number(to)).filter(|(from, to)| from <= to);
    if found.is_none() {
        at.fail(report, format!("{text:?} is no range of statuses"), "write it like \"200\" or \"200-299\"");
    }
    found.map(|(from, to)| (from, to + 1))
}

fn tcp_socket(at: &At<'_>, report: &mut Report) -> Option<(Probe, Option<u16>)> {
    let mut object = at.object(report)?;
    let port = object.field("port", report).and_then(|at| at.port(report));
    object.unsupported(&["host"], report);
    object.finish(report);
    Some((Probe::Tcp, port))
}

fn grpc(at: &At<'_>, report: &mut Report) -> Option<(Probe, Option<u16>)> {
    let mut object = at.object(report)?;
    let port = object.field("port", report).and_then(|at| at.port(report));
    let service = object.field("service", report).and_then(|at| at.text(report)).unwrap_or_default();
    object.finish(report);
    Some((Probe::Grpc { service }, port))
}
