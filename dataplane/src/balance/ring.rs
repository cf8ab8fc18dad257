//! Consistent hashing on a ring: every endpoint has many points, a request goes to the next point after its hash. Pure;
//! built as Envoy builds it (Ketama), so that both proxies send a key to the same endpoint.

use twox_hash::XxHash64;

use super::{murmur::murmur2, table::Entry};
use crate::spec::{RingFunction, RingHash};

/// Points in order; each with its endpoint.
#[derive(Debug)]
pub(super) struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// Places the endpoints. Weights are above zero.
    pub(super) fn new(config: &RingHash, entries: &[Entry]) -> Self {
        let total: f64 = entries.iter().map(|entry| entry.weight).sum();
        let least = entries.iter().map(|entry| entry.weight / total).fold(f64::INFINITY, f64::min);
        if entries.is_empty() {
            return Self { points: Vec::new() };
        }
        // The least weight gets a whole number of points, unless that makes the ring too large.
        let scale = ((least * config.size_min as f64).ceil() / least).min(config.size_max as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        // Running sums keep shares exact where a weight is worth no whole number of points.
        let (mut placed, mut wanted) = (0.0, 0.0);
        let mut name = String::new();
        for (index, entry) in entries.iter().enumerate() {
            wanted += scale * (entry.weight / total);
            let mut point = 0u64;
            while placed < wanted {
                name.clear();
                name.push_str(&entry.key);
                name.push('_');
                name.push_str(&point.to_string());
                let hash = match config.function {
                    RingFunction::Xx => XxHash64::oneshot(0, name.as_bytes()),
                    RingFunction::Murmur2 => murmur2(name.as_bytes()),
                };
                points.push((hash, index as u32));
                point += 1;
                placed += 1.0;
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// Number of points.
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    /// The point that a hash falls on.
    pub(super) fn slot(&self, hash: u64) -> usize {
        let slot = self.points.partition_point(|(point, _)| *point < hash);
        if slot == self.points.len() { 0 } else { slot }
    }

    /// The endpoint of a point.
    pub(super) fn at(&self, slot: usize) -> u32 {
        self.points[slot].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(ports: std::ops::Range<u16>) -> Vec<Entry> {
        ports.map(|port| Entry { key: format!("127.0.0.1:{port}").into(), weight: 1.0 }).collect()
    }

    fn config(size_min: u64, function: RingFunction) -> RingHash {
        RingHash { size_min, size_max: 8 << 20, function, by_hostname: false }
    }

    #[test]
    fn points_are_where_envoy_puts_them() {
        let ring = Ring::new(&config(12, RingFunction::Xx), &entries(90..96));
        assert_eq!(
            ring.points,
            [
                (833437586790550860, 4),
                (928266305478181108, 2),
                (1033482794131418490, 0),
                (3551244743356806947, 5),
                (3851675632748031481, 3),
                (5583722120771150861, 1),
                (6311230543546372928, 1),
                (7700377290971790572, 3),
                (13144177310400110813, 5),
                (13444792449719432967, 2),
                (15516499411664133160, 4),
                (16117243373044804889, 0),
            ]
        );
        let ring = Ring::new(&config(12, RingFunction::Murmur2), &entries(80..86));
        assert_eq!(
            ring.points[..3],
            [(1358027074129602068, 5), (4361834613929391114, 3), (7224494972555149682, 4)]
        );
    }

    #[test]
    fn a_hash_falls_on_the_next_point_and_wraps_around() {
        let ring = Ring::new(&config(12, RingFunction::Xx), &entries(90..96));
        for (hash, endpoint) in [
            (0, 4),
            (u64::MAX, 4),
            (3551244743356806947, 5),
            (3551244743356806948, 3),
            (16117243373044804880, 0),
        ] {
            assert_eq!(ring.at(ring.slot(hash)), endpoint, "{hash}");
        }
    }

    #[test]
    fn points_follow_weights_and_the_ring_keeps_to_its_size() {
        let weighted = [("a", 1.0), ("b", 2.0), ("c", 5.0)];
        let weighted = weighted.map(|(key, weight)| Entry { key: key.into(), weight });
        let ring = Ring::new(&config(1024, RingFunction::Xx), &weighted);
        let count = |endpoint| ring.points.iter().filter(|(_, index)| *index == endpoint).count();
        assert_eq!((count(0), count(1), count(2)), (128, 256, 640));
        let small = RingHash { size_max: 4, ..config(4, RingFunction::Xx) };
        assert!(Ring::new(&small, &entries(1..100)).len() <= 5);
    }
}
