//! Limits of requests that this proxy keeps for itself (Envoy's local rate limit filter).

pub mod bucket;
pub mod buckets;
pub mod descriptor;

use http::HeaderName;

use super::{Exchange, Verdict, rbac::engine::client};
use crate::{
    fault::Cause,
    spec::{Limited, LocalBuckets, LocalRateLimit},
};
use bucket::Taken;
use descriptor::{Facts, Value};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// A bucket that a request takes from.
struct Chosen<'a> {
    of: &'a LocalBuckets,
    /// Stands for the values that have a bucket of their own.
    mark: u64,
    /// Whether the answer tells of it.
    told: bool,
}

/// Takes a token from every bucket that is for the request.
pub(super) fn check(limits: &LocalRateLimit, exchange: &mut Exchange<'_>) -> Verdict {
    let Some(mut chosen) = choose(limits, exchange) else { return Verdict::Fail(Cause::BadRequest.into()) };
    // The strictest first, as in Envoy: what it refuses takes nothing from the others.
    chosen.sort_by_key(|one| std::cmp::Reverse(one.of.rate.interval_ns()));
    if let Some(rest) = limits.rest.as_ref().filter(|_| chosen.is_empty() || limits.rest_always) {
        chosen.push(Chosen { of: rest, mark: 0, told: limits.headers });
    }
    let now = bucket::now();
    let mut shown: Option<(&Chosen<'_>, Taken)> = None;
    let mut refused = false;
    for one in &chosen {
        let taken = one.of.buckets.take(one.mark, one.of.rate, now);
        shown = shown.or(Some((one, taken)));
        if taken.passes {
            continue;
        }
        if one.of.shadow || limits.shadow {
            one.of.tallies.count(Limited::WouldRefuse);
            continue;
        }
        one.of.tallies.count(Limited::Refused);
        (shown, refused) = (Some((one, taken)), true);
        break;
    }
    if let Some((one, taken)) = shown.filter(|(one, _)| one.told) {
        let figures = [
            (LIMIT, u64::from(one.of.rate.burst)),
            (REMAINING, taken.remaining),
            (RESET, taken.next_after_seconds),
        ];
        exchange.effects.answer_headers.extend(figures.map(|(name, figure)| (name, figure.into())));
    }
    match refused {
        true => Verdict::Fail(Cause::RateLimited(limits.grpc_status).into()),
        false => Verdict::Pass,
    }
}

/// The buckets of the descriptors that the request makes; none where it cannot be read.
fn choose<'a>(limits: &'a LocalRateLimit, exchange: &Exchange<'_>) -> Option<Vec<Chosen<'a>>> {
    let facts = facts(exchange)?;
    let mut chosen = Vec::with_capacity(limits.limits.len() + 1);
    for limit in &limits.limits {
        let Some(entries) = descriptor::entries(&limit.actions, &facts) else { continue };
        let Some(of) = limit.buckets.iter().find(|of| fits(of, &entries)) else { continue };
        let own = of.entries.iter().zip(&entries).filter(|((_, fixed), _)| fixed.is_none());
        let mark = of.buckets.mark(own.map(|(_, (_, value))| value));
        chosen.push(Chosen { of, mark, told: limit.headers });
    }
    Some(chosen)
}

fn facts<'a>(exchange: &'a Exchange<'_>) -> Option<Facts<'a>> {
    let serving = exchange.serving;
    let view = exchange.view()?;
    let peer = serving.ends.remote.map(|end| end.ip());
    Some(Facts {
        view,
        client: client(serving.is_edge(), view.headers, peer),
        principal: serving.secured.as_deref().and_then(|of| of.peer.as_ref()).and_then(|of| of.principal()),
        route: exchange.route.map(|route| &*route.name),
    })
}

/// Whether a descriptor is the one that buckets are for.
fn fits(of: &LocalBuckets, entries: &[(&str, Value<'_>)]) -> bool {
    of.entries.len() == entries.len()
        && of.entries.iter().zip(entries).all(|((key, fixed), (found, value))| {
            **key == **found && fixed.as_ref().is_none_or(|fixed| value.is(fixed))
        })
}
