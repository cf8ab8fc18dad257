//! How latency travels in load reports, whose fields have no place for it: as counts of requests by bucket, one named
//! metric of a locality for each bucket that has any. Buckets grow by a quarter of their octave. Pure.

use std::time::Duration;

/// Number of buckets.
pub const BUCKETS: usize = 2 + OCTAVES * STEPS;

/// Steps of one octave.
const STEPS: usize = 4;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// The first bucket ends at two to this power, microseconds.
const FIRST_BITS: u32 = 6;
/// Octaves between the first bucket and the last: from 64 µs to 134 s.
const OCTAVES: usize = 21;
/// What names of these metrics begin with; the end of the bucket follows, microseconds.
const METRIC_PREFIX: &str = "weft.latency_us.below.";
/// What follows in the name of the last bucket.
const NO_END: &str = "inf";

/// The bucket of a latency.
pub fn bucket(latency: Duration) -> usize {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    if us < 1 << FIRST_BITS {
        return 0;
    }
    let octave = us.ilog2();
    let step = (us >> (octave - STEP_BITS)) as usize % STEPS;
    (1 + (octave - FIRST_BITS) as usize * STEPS + step).min(BUCKETS - 1)
}

/// Where a bucket begins and ends, microseconds; the last one has no end.
pub fn bounds_us(bucket: usize) -> (u64, Option<u64>) {
    let begin = |bucket: usize| match bucket.checked_sub(1) {
        None => 0,
        Some(place) => ((STEPS + place % STEPS) as u64) << (FIRST_BITS - STEP_BITS + (place / STEPS) as u32),
    };
    (begin(bucket), (bucket + 1 < BUCKETS).then(|| begin(bucket + 1)))
}

/// Name of a bucket's metric.
pub fn metric_name(bucket: usize) -> String {
    match bounds_us(bucket).1 {
        Some(end) => format!("{METRIC_PREFIX}{end}"),
        None => format!("{METRIC_PREFIX}{NO_END}"),
    }
}

/// The bucket that a metric's name means; none when it is another metric.
pub fn bucket_of_metric(name: &str) -> Option<usize> {
    let end = name.strip_prefix(METRIC_PREFIX)?;
    if end == NO_END {
        return Some(BUCKETS - 1);
    }
    let end: u64 = end.parse().ok()?;
    let bucket = bucket(Duration::from_micros(end.checked_sub(1)?));
    (bounds_us(bucket).1 == Some(end)).then_some(bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut end = 0;
        for index in 0..BUCKETS {
            let (begin, next) = bounds_us(index);
            assert_eq!(begin, end, "bucket {index}");
            assert_eq!(bucket(Duration::from_micros(begin)), index);
            if let Some(next) = next {
                assert_eq!(bucket(Duration::from_micros(next - 1)), index);
                assert!(index == 0 || (next - begin) * 4 <= begin, "bucket {index} is wider than a quarter");
                end = next;
            }
        }
        assert_eq!(end, 1 << 27);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn every_bucket_has_a_name_and_no_other_name_has_a_bucket() {
        for index in 0..BUCKETS {
            assert_eq!(bucket_of_metric(&metric_name(index)), Some(index));
        }
        for name in
            ["", "cpu", "weft.latency_us.below.", "weft.latency_us.below.0", "weft.latency_us.below.65"]
        {
            assert_eq!(bucket_of_metric(name), None, "{name}");
        }
    }
}
