//! When to renew. Pure.

use std::time::{Duration, SystemTime};

/// Pauses between failed attempts grow from the least to the greatest.
pub const RETRY_MIN: Duration = Duration::from_millis(500);
/// See `RETRY_MIN`.
pub const RETRY_MAX: Duration = Duration::from_secs(30);
/// Renewals are spread over this share of a life, percent, so that what began together does not renew together.
const JITTER_PERCENT: f64 = 10.0;

/// When a certificate is to be renewed: at half of the life that it had left when it came, give or take. `chance` is in
/// 0..1.
pub fn renewal(came: SystemTime, expires: SystemTime, chance: f64) -> SystemTime {
    let life = expires.duration_since(came).unwrap_or_default();
    let share = 0.5 + (chance.clamp(0.0, 1.0) - 0.5) * 2.0 * JITTER_PERCENT / 100.0;
    came + life.mul_f64(share)
}

/// The pause after a failed attempt, and the greatest one after the next. Never longer than a tenth of what is left.
pub fn retry(pause: Duration, left: Duration, chance: f64) -> (Duration, Duration) {
    let bound = (left / 10).max(RETRY_MIN);
    (pause.min(bound).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0), (pause * 2).min(RETRY_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_at_half_life_give_or_take_a_tenth() {
        let came = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let expires = came + Duration::from_secs(100);
        for (chance, after) in [(0.0, 40), (0.5, 50), (1.0, 60), (7.0, 60)] {
            assert_eq!(renewal(came, expires, chance), came + Duration::from_secs(after), "{chance}");
        }
        assert_eq!(renewal(expires, came, 0.5), expires);
    }

    #[test]
    fn retries_slow_down_but_not_past_what_is_left() {
        let hour = Duration::from_secs(3600);
        assert_eq!(retry(RETRY_MIN, hour, 1.0), (RETRY_MIN, RETRY_MIN * 2));
        assert_eq!(retry(RETRY_MAX, hour, 1.0), (RETRY_MAX, RETRY_MAX));
        assert_eq!(retry(RETRY_MAX, Duration::from_secs(20), 1.0).0, Duration::from_secs(2));
        assert_eq!(retry(RETRY_MAX, Duration::ZERO, 0.0).0, RETRY_MIN / 2);
    }
}
