//! HTTP filters of a listener, and what routes say of them.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};

use super::{HeaderMatch, LocalRateLimit, Rbac, Tokens, ValueMatch};

/// An HTTP filter before the router.
#[derive(Clone, Debug)]
pub struct HttpFilter {
    /// The name by which tables, hosts and routes speak of it (`typed_per_filter_config`).
    pub name: Arc<str>,
    /// It does nothing unless a route says otherwise.
    pub disabled: bool,
    /// What it does where no route says otherwise.
    pub config: FilterConfig,
}

/// What a filter does. A closed set; what is not here is NACKed by name.
#[derive(Clone, Debug)]
pub enum FilterConfig {
    /// `envoy.extensions.filters.http.cors.v3`; none is no policy, which lets everything pass.
    Cors(Option<Arc<Cors>>),
    /// `envoy.extensions.filters.http.fault.v3`.
    Injection(Arc<Injection>),
    /// `envoy.extensions.filters.http.buffer.v3`: most bytes of a request's body.
    Buffer(u32),
    /// `envoy.extensions.filters.http.rbac.v3`.
    Rbac(Arc<Rbac>),
    /// `envoy.extensions.filters.http.jwt_authn.v3`.
    Tokens(Arc<Tokens>),
    /// `envoy.extensions.filters.http.local_ratelimit.v3`; none limits nothing.
    LocalRateLimit(Option<Arc<LocalRateLimit>>),
}

impl HttpFilter {
    /// Whether it does nothing where no route speaks of it.
    pub fn is_idle(&self) -> bool {
        self.disabled
            || match &self.config {
                FilterConfig::Cors(policy) => policy.is_none(),
                FilterConfig::Injection(faults) => faults.delay.is_none() && faults.abort.is_none(),
                FilterConfig::Rbac(rbac) => rbac.is_empty(),
                FilterConfig::LocalRateLimit(limits) => limits.is_none(),
                FilterConfig::Buffer(_) | FilterConfig::Tokens(_) => false,
            }
    }
}

/// What a table, host or route says of the filter of a name. The most specific word counts.
#[derive(Clone, Debug)]
pub struct FilterOverride {
    /// Name of the filter.
    pub name: Arc<str>,
    /// What is different here.
    pub change: FilterChange,
}

/// How a filter differs on a route.
#[derive(Clone, Debug)]
pub enum FilterChange {
    /// It does nothing.
    Disabled,
    /// It does what its listener says.
    Enabled,
    /// It does this.
    Config(FilterConfig),
}

/// Cross-origin resource sharing (`CorsPolicy`). Header values are absent where the policy leaves them out.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Conditions on the origin; any that holds allows it.
    pub origins: Vec<ValueMatch>,
    /// `access-control-allow-methods`.
    pub methods: Option<HeaderValue>,
    /// `access-control-allow-headers`.
    pub headers: Option<HeaderValue>,
    /// `access-control-expose-headers`.
    pub expose: Option<HeaderValue>,
    /// `access-control-max-age`, seconds.
    pub max_age: Option<HeaderValue>,
    /// `access-control-allow-credentials`.
    pub credentials: bool,
    /// Whether pages of public networks may ask for what is in a private one.
    pub private_network: bool,
    /// Whether preflights of origins that are not allowed go upstream; else they are answered without any permission.
    pub forward_unmatched: bool,
}

/// Faults that are made on purpose (`HTTPFault`).
#[derive(Clone, Debug)]
pub struct Injection {
    /// Only requests for which all hold.
    pub headers: Vec<HeaderMatch>,
    /// Holds requests up.
    pub delay: Option<Delay>,
    /// Answers requests in place of their endpoint.
    pub abort: Option<Abort>,
    /// Most requests that are held up or answered at the same time; the others pass as if there were no fault.
    pub active_max: Option<u32>,
}

/// A delay for a share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub time: Duration,
    /// Share of requests, in millionths.
    pub ppm: u32,
}

/// An answer for a share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// HTTP status.
    pub status: StatusCode,
    /// gRPC status, for calls.
    pub grpc: u16,
    /// Share of requests, in millionths.
    pub ppm: u32,
}
