//! Rules of access (`envoy.config.rbac.v3.RBAC`): who may do what, or may not.

use std::{
    ops::RangeInclusive,
    sync::{Arc, OnceLock},
};

use ipnet::IpNet;
use metrics::{Counter, counter};
use regex::bytes::Regex;

use super::{HeaderMatch, ValueMatch};

/// Rules that are enforced, and rules that are only watched. None of either lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Rbac {
    /// Those that are enforced.
    pub rules: Option<Rules>,
    /// Those of which is only counted what they would do (`shadow_rules`).
    pub shadow: Option<Rules>,
}

/// Policies and what it means that one of them matches.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What that means.
    pub action: RbacAction,
    /// Sorted by name: the first that matches is named.
    pub policies: Vec<Policy>,
    /// What no policy decided.
    pub unmatched: Tallies,
}

/// What it means that a policy matches (`RBAC.Action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RbacAction {
    /// Only what a policy matches may pass.
    Allow,
    /// What a policy matches may not pass.
    Deny,
    /// Everything may pass; what a policy matches is counted.
    Log,
}

/// One policy: any of its permissions and any of its principals must match.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// What a refusal by it is called: `rbac_access_denied_matched_policy[NAME]`.
    pub details: Arc<str>,
    /// What is done.
    pub permissions: Vec<Condition>,
    /// Who does it.
    pub principals: Vec<Condition>,
    /// Its decisions.
    pub tallies: Tallies,
}

/// A condition on a request or connection. A permission and a principal are told apart by where they stand alone.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Always holds.
    Any,
    /// All of them hold.
    All(Vec<Condition>),
    /// At least one of them holds.
    Some(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// A header, pseudo headers included; a connection has none.
    Header(HeaderMatch),
    /// The path without its query.
    Path(ValueMatch),
    /// The path without its query, segment by segment (`uri_template`).
    Template(Regex),
    /// Where the client connected to.
    DestinationIp(IpNet),
    /// The port that it connected to.
    DestinationPort(RangeInclusive<u16>),
    /// The name that a TLS client asked for (`requested_server_name`).
    ServerName(ValueMatch),
    /// A name of the certificate that the peer proved: URIs, DNS names, subject; none is any peer over TLS.
    Authenticated(Option<ValueMatch>),
    /// The peer of the connection (`direct_remote_ip`).
    SourceIp(IpNet),
    /// The client, as proxies before us tell (`remote_ip`).
    RemoteIp(IpNet),
    /// What a filter found out about the request.
    Metadata(MetadataMatch),
}

/// A condition on what a filter found out (`MetadataMatcher`).
#[derive(Clone, Debug)]
pub struct MetadataMatch {
    /// Name of the filter.
    pub filter: Arc<str>,
    /// Keys, from the outermost; at least one.
    pub path: Vec<Arc<str>>,
    /// What the value there must be.
    pub value: DataMatch,
    /// The condition holds where the value does not match.
    pub invert: bool,
}

/// How a structured value matches (`ValueMatcher`).
#[derive(Clone, Debug)]
pub enum DataMatch {
    /// Null.
    Null,
    /// A number.
    Number(f64),
    /// A text.
    Text(ValueMatch),
    /// True or false.
    Bool(bool),
    /// There is one (`true`) or there is none.
    Present(bool),
    /// A list of which one item matches.
    OneOf(Box<DataMatch>),
    /// Any of these.
    Or(Vec<DataMatch>),
}

/// Counters of decisions, by policy: `weft_access_decisions_total`. Each is registered when it is first needed.
#[derive(Clone, Debug, Default)]
pub struct Tallies(Arc<[OnceLock<Counter>; 4]>);

/// A decision that is counted. What is simply allowed is not: requests are counted anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It was refused.
    Denied,
    /// It would be refused, were the rules enforced.
    WouldDeny,
    /// It would be allowed, were the rules enforced.
    WouldAllow,
    /// It passed and was noted.
    Audited,
}

impl Counted {
    fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::WouldDeny => "would_deny",
            Self::WouldAllow => "would_allow",
            Self::Audited => "audited",
        }
    }
}

impl Tallies {
    /// Counts a decision under the name of a policy.
    pub fn count(&self, decision: Counted, policy: &Arc<str>) {
        let counter = self.0[decision as usize].get_or_init(|| {
            counter!("weft_access_decisions_total", "decision" => decision.word(), "policy" => policy.to_string())
        });
        counter.increment(1);
    }
}

impl Rbac {
    /// Whether there is nothing to check.
    pub fn is_empty(&self) -> bool {
        self.rules.is_none() && self.shadow.is_none()
    }
}
