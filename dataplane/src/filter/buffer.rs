//! A limit on the size of requests' bodies (Envoy's buffer filter).

use http::header::CONTENT_LENGTH;

use super::{Exchange, Verdict};
use crate::fault::Cause;

/// Refuses what says of itself that it is too long. A body of unknown length is gathered before it goes upstream, so that
/// none that is too long arrives in part.
pub(super) fn check(bytes_max: u32, exchange: &mut Exchange<'_>) -> Verdict {
    exchange.effects.body_bytes_max = Some(bytes_max);
    let length = exchange.parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    match length.and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length > u64::from(bytes_max) => Verdict::Fail(Cause::BodyTooLarge.into()),
        _ => Verdict::Pass,
    }
}
