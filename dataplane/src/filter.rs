//! The HTTP filters of a listener: each looks at a request between its route and its endpoint, in the listener's order, and
//! lets it pass, changes it, holds it up or answers it.
//!
//! Filters are a closed enum, and deciding is synchronous: a filter that has to wait says so by its verdict, so that a
//! request which meets none of these pays for a loop over a short list and no more.

mod buffer;
mod cors;
mod injection;
pub mod jwt;
pub mod rate_limit;
pub mod rbac;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, request::Parts, uri::Scheme};

use crate::{
    fault::{Details, Fault},
    listener::Serving,
    request::record::Record,
    router::View,
    spec::{FilterChange, FilterConfig, HttpFilter, Route},
};

/// The request that filters look at, and what they may change.
pub struct Exchange<'a> {
    /// The connection that it came by.
    pub serving: &'a Serving,
    /// The scheme by which it came.
    pub scheme: Scheme,
    /// Its head, normalised.
    pub parts: &'a mut Parts,
    /// The host that it is for.
    pub host: &'a HeaderValue,
    /// Its route, where there is one.
    pub route: Option<&'a Route>,
    /// What will be known of it.
    pub record: &'a mut Record,
    /// What filters ask of the rest of its way.
    pub effects: &'a mut Effects,
}

/// What filters ask of the rest of a request's way.
#[derive(Debug, Default)]
pub struct Effects {
    /// Headers that every answer to this request gets, ours included.
    pub answer_headers: Vec<(HeaderName, HeaderValue)>,
    /// Most bytes of the request's body; it does not go upstream before that is known to hold.
    pub body_bytes_max: Option<u32>,
    /// What filters found out for those after them.
    pub metadata: Vec<rbac::engine::Found>,
}

/// What a filter makes of a request.
#[derive(Debug)]
enum Verdict {
    /// It goes on.
    Pass,
    /// This is the answer to it, and what it is called in logs.
    Answer(Response<Bytes>, Details),
    /// It fails.
    Fail(Fault),
    /// It fails, and this is what it is called in logs.
    Refuse(Fault, Details),
    /// It is held up, and then perhaps fails.
    Hold(injection::Hold),
}

/// Runs the filters over a request until one of them settles it; none is that it goes on to its route's action.
pub async fn run(
    filters: &[HttpFilter],
    exchange: &mut Exchange<'_>,
) -> Result<Option<(Response<Bytes>, Details)>, Fault> {
    for filter in filters {
        let Some(config) = in_force(filter, exchange.route) else { continue };
        let verdict = match config {
            FilterConfig::Cors(policy) => cors::check(policy.as_deref(), exchange),
            FilterConfig::Injection(injection) => injection::check(injection, exchange),
            FilterConfig::Buffer(bytes_max) => buffer::check(*bytes_max, exchange),
            FilterConfig::Rbac(rbac) => rbac::check(rbac, exchange),
            FilterConfig::Tokens(tokens) => jwt::check(tokens, exchange),
            FilterConfig::LocalRateLimit(None) => Verdict::Pass,
            FilterConfig::LocalRateLimit(Some(limits)) => rate_limit::check(limits, exchange),
        };
        match verdict {
            Verdict::Pass => {}
            Verdict::Answer(response, details) => return Ok(Some((response, details))),
            Verdict::Fail(fault) => return Err(fault),
            Verdict::Refuse(fault, details) => {
                exchange.record.details = Some(details);
                return Err(fault);
            }
            // Boxed: requests that are not held up need not have room for it.
            Verdict::Hold(hold) => Box::pin(hold.done()).await?,
        }
    }
    Ok(None)
}

/// What a filter does on a route; none is nothing.
fn in_force<'a>(filter: &'a HttpFilter, route: Option<&'a Route>) -> Option<&'a FilterConfig> {
    let overrides = route.map_or(&[][..], |route| &route.filters);
    match overrides.iter().find(|of| of.name == filter.name).map(|of| &of.change) {
        None => (!filter.disabled).then_some(&filter.config),
        Some(FilterChange::Disabled) => None,
        Some(FilterChange::Enabled) => Some(&filter.config),
        Some(FilterChange::Config(config)) => Some(config),
    }
}

impl Exchange<'_> {
    /// The view that conditions are checked on; none where the host is no text.
    fn view(&self) -> Option<View<'_>> {
        Some(View {
            method: &self.parts.method,
            scheme: self.scheme.as_str(),
            host: self.host.to_str().ok()?,
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
            headers: &self.parts.headers,
        })
    }
}

impl Effects {
    /// Does to the head of an answer what filters asked for.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.answer_headers {
            headers.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests;
