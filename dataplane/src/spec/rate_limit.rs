//! Limits of requests (`envoy.filters.http.local_ratelimit`): how descriptors are made of a request, and the buckets that
//! they take from.

use std::sync::{Arc, OnceLock};

use metrics::{Counter, counter};

use super::HeaderMatch;
use crate::filter::rate_limit::{bucket::Rate, buckets::Buckets};

/// Limits that this proxy keeps for itself (`LocalRateLimit`).
#[derive(Clone, Debug)]
pub struct LocalRateLimit {
    /// Each makes a descriptor of a request, or none.
    pub limits: Vec<RateLimit>,
    /// What a request takes from that makes none of the descriptors; none is that it just passes.
    pub rest: Option<LocalBuckets>,
    /// Whether every request takes from `rest`.
    pub rest_always: bool,
    /// What is refused is counted, and passes.
    pub shadow: bool,
    /// gRPC status of what is refused.
    pub grpc_status: u16,
    /// Whether `rest` is told of in answers.
    pub headers: bool,
}

/// One descriptor (`config.route.v3.RateLimit`).
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// Each adds an entry. One that cannot makes that there is no descriptor, unless it may leave its entry out.
    pub actions: Vec<Action>,
    /// Whether answers tell of it (`X-RateLimit-*`).
    pub headers: bool,
    /// Buckets for the descriptors that it can make, the first that fits.
    pub buckets: Vec<LocalBuckets>,
}

/// What adds an entry to a descriptor (`RateLimit.Action`).
#[derive(Clone, Debug)]
pub struct Action {
    /// Key of the entry.
    pub key: Arc<str>,
    /// Where its value comes from.
    pub value: ActionValue,
    /// Whether the entry is left out where there is no value.
    pub optional: bool,
}

/// Where the value of an entry comes from.
#[derive(Clone, Debug)]
pub enum ActionValue {
    /// It is this (`generic_key`).
    Literal(Arc<str>),
    /// It is this where all conditions hold, or where they do not (`header_value_match`).
    Match {
        /// The value.
        text: Arc<str>,
        /// The conditions.
        headers: Vec<HeaderMatch>,
        /// Whether they must hold.
        expect: bool,
    },
    /// A header (`request_headers`).
    Header(String),
    /// The client's address, as proxies before us tell (`remote_address`).
    RemoteAddress,
    /// `connection.uri_san_peer_certificate`: who calls.
    Principal,
    /// `request.url_path`: the path without its query.
    Path,
    /// `xds.route_name`.
    RouteName,
}

/// Buckets of one descriptor.
#[derive(Clone, Debug)]
pub struct LocalBuckets {
    /// The entries that it has: a key, and a value; none is any value, each with a bucket of its own.
    pub entries: Vec<(Arc<str>, Option<Arc<str>>)>,
    /// How its buckets are filled.
    pub rate: Rate,
    /// What it refuses is counted, and passes.
    pub shadow: bool,
    /// The buckets, which outlive changes of all else.
    pub buckets: Arc<Buckets>,
    /// What it decided.
    pub tallies: LimitTallies,
}

/// Counters of decisions, by limit: `weft_rate_limit_decisions_total`. Each is registered when it is first needed.
#[derive(Clone, Debug)]
pub struct LimitTallies {
    limit: Arc<str>,
    counters: Arc<[OnceLock<Counter>; 2]>,
}

/// A decision that is counted. What just passes is not: requests are counted anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// It was refused.
    Refused,
    /// It would have been, were the limit enforced.
    WouldRefuse,
}

impl Limited {
    fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::WouldRefuse => "would_refuse",
        }
    }
}

impl LimitTallies {
    /// Of a limit by its name, which the control plane gave it.
    pub fn of(limit: Arc<str>) -> Self {
        Self { limit, counters: Arc::default() }
    }

    /// Counts a decision.
    pub fn count(&self, decision: Limited) {
        let counter = self.counters[decision as usize].get_or_init(|| {
            counter!("weft_rate_limit_decisions_total", "decision" => decision.word(), "limit" => self.limit.to_string())
        });
        counter.increment(1);
    }
}
