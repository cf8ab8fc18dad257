//! `grpc-timeout`: the deadline that a call's client has, which the route may cap, and which the endpoint is told anew with
//! each try. Pure; Envoy's reading (`max_grpc_timeout`), and gRPC's words (gRPC over HTTP/2, Timeout).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::spec::Forward;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Most digits of a value.
const DIGITS_MAX: usize = 8;
/// Units that are written, in milliseconds: the first in which the number has few enough digits.
const UNITS: [(u128, char); 4] = [(1, 'm'), (1_000, 'S'), (60_000, 'M'), (3_600_000, 'H')];

/// Time for a request as a whole; none is no limit. Of a call whose route says so it is what its client says, up to what the
/// route says; where neither says anything there is no limit.
pub(super) fn limit(forward: &Forward, grpc: bool, headers: &HeaderMap) -> Option<Duration> {
    match forward.grpc_timeout_max {
        Some(max) if grpc => {
            let asked = headers.get(GRPC_TIMEOUT).and_then(read).filter(|asked| !asked.is_zero());
            let max = Some(max).filter(|max| !max.is_zero());
            asked.into_iter().chain(max).min()
        }
        _ => forward.timeout,
    }
}

/// Tells the endpoint how long it has.
pub(super) fn tell(headers: &mut HeaderMap, left: Duration) {
    headers.insert(GRPC_TIMEOUT, written(left));
}

/// A value; fractions of a millisecond count as a whole one. Nothing for what is no timeout, which is passed over.
fn read(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(Duration::from_millis(match unit {
        b'H' => number * 3_600_000,
        b'M' => number * 60_000,
        b'S' => number * 1_000,
        b'm' => number,
        b'u' => number.div_ceil(1_000),
        b'n' => number.div_ceil(1_000_000),
        _ => return None,
    }))
}

fn written(time: Duration) -> HeaderValue {
    let millis = time.as_millis().max(1);
    let most = 10u128.pow(DIGITS_MAX as u32) - 1;
    let fits = UNITS.into_iter().find(|(unit, _)| millis / unit <= most);
    let (number, unit) = fits.map_or((most, 'H'), |(unit, name)| (millis / unit, name));
    HeaderValue::try_from(format!("{number}{unit}")).expect("digits and a letter are a header's value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("3S", Some(3_000)),
            ("4m", Some(4)),
            ("1u", Some(1)),
            ("1001u", Some(2)),
            ("99999999n", Some(100)),
            ("99999999H", Some(359_999_996_400_000)),
            ("0S", Some(0)),
            ("123456789m", None),
            ("m", None),
            ("", None),
            ("1", None),
            ("-1S", None),
            ("1 S", None),
            ("1s", None),
        ] {
            let read = read(&HeaderValue::from_static(text));
            assert_eq!(read.map(|time| time.as_millis()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_in_the_finest_unit_that_fits() {
        for (millis, expected) in [
            (0, "1m"),
            (250, "250m"),
            (99_999_999, "99999999m"),
            (100_000_000, "100000S"),
            (u64::MAX, "99999999H"),
        ] {
            assert_eq!(written(Duration::from_millis(millis)), expected);
        }
    }
}
