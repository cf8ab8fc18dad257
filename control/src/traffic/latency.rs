//! How long attempts took, as counts by the buckets of load reports. Pure.

use std::time::Duration;

use weft_proto::latency::{BUCKETS, bounds_us};

/// Counts by bucket; only buckets that have any take memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Sorted by bucket.
    counts: Vec<(u8, u64)>,
}

const _: () = assert!(BUCKETS <= u8::MAX as usize, "a bucket fits its number");

impl Latencies {
    /// Counts `count` attempts in a bucket; one that does not exist is not counted.
    pub fn count(&mut self, bucket: usize, count: u64) {
        let Some(number) = u8::try_from(bucket).ok().filter(|_| bucket < BUCKETS && count > 0) else {
            return;
        };
        match self.counts.binary_search_by_key(&number, |(bucket, _)| *bucket) {
            Ok(place) => self.counts[place].1 = self.counts[place].1.saturating_add(count),
            Err(place) => self.counts.insert(place, (number, count)),
        }
    }

    /// Takes in others.
    pub fn add(&mut self, more: &Self) {
        more.counts.iter().for_each(|(bucket, count)| self.count(usize::from(*bucket), *count));
    }

    /// The latency that a share of attempts (0 to 1) kept within, told evenly within its bucket; none where nothing is
    /// known.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all: u64 =
            self.counts.iter().map(|(_, count)| count).fold(0, |sum, count| sum.saturating_add(*count));
        let rank = share.clamp(0.0, 1.0) * all as f64;
        let mut before = 0.0;
        for (bucket, count) in &self.counts {
            let count = *count as f64;
            if before + count >= rank {
                let (begin, end) = bounds_us(usize::from(*bucket));
                let width = end.unwrap_or(begin) - begin;
                let part = ((rank - before) / count).clamp(0.0, 1.0);
                return Some(Duration::from_micros(begin + (width as f64 * part) as u64));
            }
            before += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::latency::bucket;

    use super::*;

    #[test]
    fn quantiles_are_within_an_eighth_of_what_was_measured() {
        let mut latencies = Latencies::default();
        for ms in 1..=1000 {
            latencies.count(bucket(Duration::from_millis(ms)), 1);
        }
        for (share, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = latencies.quantile(share).unwrap().as_secs_f64() * 1000.0;
            assert!((found - ms).abs() <= ms / 8.0, "{share}: {found}");
        }
        let mut twice = latencies.clone();
        twice.add(&latencies);
        assert_eq!(twice.quantile(0.9), latencies.quantile(0.9));
    }

    #[test]
    fn the_extremes_have_answers() {
        assert_eq!(Latencies::default().quantile(0.5), None);
        let mut longest = Latencies::default();
        longest.count(BUCKETS - 1, 1);
        longest.count(BUCKETS, 7);
        longest.count(1000, 7);
        assert_eq!(longest.quantile(0.5), Some(Duration::from_micros(1 << 27)));
    }
}
