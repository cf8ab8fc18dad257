//! `loadBalancer`: how an endpoint is picked, and how a new one comes into its share.

use std::{sync::Arc, time::Duration};

use super::{
    locality::{self, LocalityLb},
    problem::Report,
    reader::{At, nearest},
    values,
};

/// What a `loadBalancer` says.
#[derive(Debug)]
pub(super) struct Balancing {
    pub(super) balancer: Option<LoadBalancer>,
    pub(super) warmup: Option<Warmup>,
    pub(super) locality: Option<LocalityLb>,
}

/// How an endpoint is picked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LoadBalancer {
    /// One after another.
    RoundRobin,
    /// The less busy of two picked at random.
    LeastRequest,
    /// At random.
    Random,
    /// The same endpoint for the same key, as far as endpoints stay.
    ConsistentHash(ConsistentHash),
}

/// `consistentHash`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsistentHash {
    /// What of the request is hashed.
    pub key: HashKey,
    /// How a hash finds its endpoint.
    pub table: HashTable,
}

/// What of a request is hashed. A request without it goes to any endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// The value of a header, lower case name.
    Header(Arc<str>),
    /// The value of a cookie.
    Cookie {
        /// Name.
        name: Arc<str>,
        /// Path that the proxy gives a cookie that it makes.
        path: Arc<str>,
        /// Life of a cookie that the proxy makes where there is none; zero is a session's; none makes none.
        ttl: Option<Duration>,
    },
    /// The address of the client.
    SourceIp,
    /// The value of a query parameter.
    QueryParameter(Arc<str>),
}

/// How a hash finds its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashTable {
    /// A ring with at least this many points.
    Ring {
        /// `minimumRingSize`.
        size_min: u32,
    },
    /// A Maglev table of this size, a prime.
    Maglev {
        /// `tableSize`.
        size: u32,
    },
}

/// `warmup`: a new endpoint's share grows over this time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Warmup {
    /// Until it has its full share.
    pub duration: Duration,
    /// Share to begin with, percent.
    pub percent_min: u32,
    /// Exponent of the growth, in thousandths; 1000 is linear.
    pub aggression_milli: u32,
}

/// Istio's and Envoy's defaults and bounds.
const RING_SIZE_MIN: u32 = 1024;
const RING_SIZE_MAX: u32 = 8 << 20;
const MAGLEV_SIZE: u32 = 65_537;
const MAGLEV_SIZE_MAX: u32 = 5_000_011;
const WARMUP_PERCENT_MIN: u32 = 10;
const AGGRESSION_MILLI: u32 = 1000;

pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<Balancing> {
    let mut object = at.object(report)?;
    let simple_at = object.field("simple", report);
    let hash_at = object.field("consistentHash", report);
    if let (Some(_), Some(at)) = (&simple_at, &hash_at) {
        at.fail(report, "simple is given too", "keep one of simple and consistentHash");
    }
    let simple = simple_at.and_then(|at| simple(&at, report));
    let hash = hash_at.and_then(|at| consistent_hash(&at, report)).map(LoadBalancer::ConsistentHash);
    let warmup = object.field("warmup", report).and_then(|at| warmup(&at, report));
    let seconds = object.field("warmupDurationSecs", report).and_then(|at| at.duration(report));
    let warmup = warmup.or_else(|| {
        Some(Warmup {
            duration: seconds.filter(|duration| !duration.is_zero())?,
            percent_min: WARMUP_PERCENT_MIN,
            aggression_milli: AGGRESSION_MILLI,
        })
    });
    let locality = object.field("localityLbSetting", report).and_then(|at| locality::read(&at, report));
    object.finish(report);
    Some(Balancing { balancer: hash.or(simple), warmup, locality })
}

fn simple(at: &At<'_>, report: &mut Report) -> Option<LoadBalancer> {
    match &*at.text(report)? {
        "ROUND_ROBIN" => Some(LoadBalancer::RoundRobin),
        "LEAST_REQUEST" | "LEAST_CONN" => Some(LoadBalancer::LeastRequest),
        "RANDOM" => Some(LoadBalancer::Random),
        "UNSPECIFIED" => None,
        "PASSTHROUGH" => {
            at.fail(report, "PASSTHROUGH is not supported", "use ROUND_ROBIN, LEAST_REQUEST or RANDOM");
            None
        }
        other => {
            let known = ["ROUND_ROBIN", "LEAST_REQUEST", "LEAST_CONN", "RANDOM"];
            at.fail(report, format!("{other:?} is no load balancer"), nearest(other, &known));
            None
        }
    }
}

fn consistent_hash(at: &At<'_>, report: &mut Report) -> Option<ConsistentHash> {
    let mut object = at.object(report)?;
    let mut keys = Vec::new();
    if let Some(at) = object.field("httpHeaderName", report) {
        keys.extend(
            at.located(report).and_then(|name| values::header_name(&name, report)).map(HashKey::Header),
        );
    }
    if let Some(at) = object.field("httpCookie", report) {
        keys.extend(cookie(&at, report));
    }
    if object.field("useSourceIp", report).and_then(|at| at.boolean(report)) == Some(true) {
        keys.push(HashKey::SourceIp);
    }
    if let Some(at) = object.field("httpQueryParameterName", report) {
        keys.extend(at.text(report).map(HashKey::QueryParameter));
    }
    let legacy = object.field("minimumRingSize", report);
    let legacy = legacy.and_then(|at| at.integer(report, 1, RING_SIZE_MAX));
    let mut table = HashTable::Ring { size_min: legacy.unwrap_or(RING_SIZE_MIN) };
    let ring = object.field("ringHash", report);
    if let Some(mut ring) = ring.as_ref().and_then(|at| at.object(report)) {
        let size = ring.field("minimumRingSize", report).and_then(|at| at.integer(report, 1, RING_SIZE_MAX));
        table = HashTable::Ring { size_min: size.unwrap_or(RING_SIZE_MIN) };
        ring.finish(report);
    }
    if let Some(at) = object.field("maglev", report) {
        if ring.is_some() {
            at.fail(report, "ringHash is given too", "keep one of ringHash and maglev");
        }
        table = maglev(&at, report)?;
    }
    object.finish(report);
    match <[HashKey; 1]>::try_from(keys) {
        Ok([key]) => Some(ConsistentHash { key, table }),
        Err(keys) => {
            let problem =
                if keys.is_empty() { "says not what is hashed" } else { "hashes more than one thing" };
            let hint = "give one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName";
            at.fail(report, problem, hint);
            None
        }
    }
}

fn maglev(at: &At<'_>, report: &mut Report) -> Option<HashTable> {
    let mut object = at.object(report)?;
    let size_at = object.field("tableSize", report);
    let size = size_at.as_ref().and_then(|at| at.integer(report, 2, MAGLEV_SIZE_MAX)).unwrap_or(MAGLEV_SIZE);
    if let (Some(at), false) = (&size_at, is_prime(size)) {
        at.fail(report, format!("{size} is no prime"), "a prime such as 65537 is wanted");
    }
    object.finish(report);
    Some(HashTable::Maglev { size })
}

fn is_prime(number: u32) -> bool {
    number >= 2 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

fn cookie(at: &At<'_>, report: &mut Report) -> Option<HashKey> {
    let mut object = at.object(report)?;
    let name_at = object.required("name", report);
    let name = name_at.as_ref().and_then(|at| at.text(report));
    let token = |name: &str| http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    if let (Some(at), Some(name)) = (&name_at, name.as_deref().filter(|name| !token(name))) {
        at.fail(report, format!("{name:?} is no cookie name"), "letters, digits, - and _ are allowed");
    }
    let path = object.field("path", report).and_then(|at| at.text(report)).unwrap_or_default();
    let ttl = object.field("ttl", report).and_then(|at| at.duration(report));
    object.unsupported(&["attributes"], report);
    object.finish(report);
    Some(HashKey::Cookie { name: name?, path, ttl })
}

fn warmup(at: &At<'_>, report: &mut Report) -> Option<Warmup> {
    let mut object = at.object(report)?;
    let duration = object.required("duration", report).and_then(|at| at.duration_above_zero(report));
    let percent = object.field("minimumPercent", report).and_then(|at| at.integer(report, 1, 100));
    let aggression = object.field("aggression", report).and_then(|at| at.milli(report, 1000, 100_000));
    object.finish(report);
    Some(Warmup {
        duration: duration?,
        percent_min: percent.unwrap_or(WARMUP_PERCENT_MIN),
        aggression_milli: aggression.unwrap_or(AGGRESSION_MILLI),
    })
}
