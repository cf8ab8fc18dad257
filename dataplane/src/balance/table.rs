//! A hash table of one priority's endpoints, immutable and shared by all workers. Pure.

use std::sync::Arc;

use super::{maglev::Slots, ring::Ring};
use crate::spec::{Maglev, RingHash};

/// What a table is made of; equal plans make equal tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which kind of table.
    pub kind: Kind,
    /// The endpoints; their order gives them their numbers.
    pub entries: Vec<Entry>,
}

/// Which kind of table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A ring.
    Ring(RingHash),
    /// Maglev's.
    Maglev(Maglev),
}

/// One endpoint of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What tells it apart.
    pub key: Arc<str>,
    /// Its share; above zero.
    pub weight: f64,
}

/// A table. Built over all endpoints whatever their health: those that cannot be used are stepped over, so that an endpoint
/// which fails moves nobody else's keys and has its own back when it recovers.
#[derive(Debug)]
pub struct Table(Inner);

#[derive(Debug)]
enum Inner {
    Ring(Ring),
    Maglev(Slots),
}

/// How many slots are walked to avoid an endpoint that was tried already.
const AVOID_STEPS_MAX: usize = 4096;

impl Plan {
    /// Makes the table.
    pub fn build(&self) -> Table {
        Table(match &self.kind {
            Kind::Ring(config) => Inner::Ring(Ring::new(config, &self.entries)),
            Kind::Maglev(config) => Inner::Maglev(Slots::new(config, &self.entries)),
        })
    }
}

impl Table {
    /// The endpoint of a hash: the first from its slot on that is usable and not tried; else the first usable one.
    pub(super) fn pick(
        &self,
        hash: u64,
        usable: impl Fn(usize) -> bool,
        tried: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let (size, start) = match &self.0 {
            Inner::Ring(ring) => (ring.len(), ring.slot(hash)),
            Inner::Maglev(slots) if slots.len() == 0 => (0, 0),
            Inner::Maglev(slots) => (slots.len(), slots.slot(hash)),
        };
        let mut first = None;
        for step in 0..size {
            let slot = if start + step < size { start + step } else { start + step - size };
            let index = match &self.0 {
                Inner::Ring(ring) => ring.at(slot),
                Inner::Maglev(slots) => slots.at(slot),
            } as usize;
            if first.is_some() && step > AVOID_STEPS_MAX {
                break;
            }
            if !usable(index) {
                continue;
            }
            if !tried(index) {
                return Some(index);
            }
            first.get_or_insert(index);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RingFunction;

    fn plans(hosts: usize) -> [Plan; 2] {
        let ring =
            RingHash { size_min: 1024, size_max: 8 << 20, function: RingFunction::Xx, by_hostname: false };
        let maglev = Maglev { table_size: 65_537, by_hostname: false };
        [Kind::Ring(ring), Kind::Maglev(maglev)].map(|kind| Plan {
            kind,
            entries: (0..hosts)
                .map(|host| Entry { key: format!("10.0.0.{host}:80").into(), weight: 1.0 })
                .collect(),
        })
    }

    fn hashes() -> impl Iterator<Item = u64> {
        (0..20_000u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[test]
    fn an_endpoint_that_fails_moves_only_its_own_keys_and_they_spread() {
        for plan in plans(10) {
            let table = plan.build();
            let mut heirs = [0; 10];
            for hash in hashes() {
                let before = table.pick(hash, |_| true, |_| false).unwrap();
                let after = table.pick(hash, |index| index != 3, |_| false).unwrap();
                if before == 3 {
                    heirs[after] += 1;
                } else {
                    assert_eq!(before, after);
                }
            }
            assert_eq!(heirs[3], 0);
            assert!(heirs.iter().filter(|heir| **heir > 0).count() == 9, "{heirs:?}");
        }
    }

    #[test]
    fn keys_are_balanced_within_the_ring_s_and_the_table_s_bounds() {
        for (plan, bound) in plans(10).into_iter().zip([1.35, 1.06]) {
            let table = plan.build();
            let mut counts = [0; 10];
            for hash in hashes() {
                counts[table.pick(hash, |_| true, |_| false).unwrap()] += 1;
            }
            let most = f64::from(*counts.iter().max().unwrap());
            assert!(most < 2000.0 * bound, "{counts:?}");
        }
    }

    #[test]
    fn a_retry_goes_elsewhere_where_there_is_anywhere_else() {
        for plan in plans(3) {
            let table = plan.build();
            for hash in hashes().take(100) {
                let first = table.pick(hash, |_| true, |_| false).unwrap();
                let second = table.pick(hash, |_| true, |index| index == first).unwrap();
                assert_ne!(first, second);
                assert_eq!(table.pick(hash, |index| index == first, |_| true), Some(first));
                assert_eq!(table.pick(hash, |_| false, |_| false), None);
            }
        }
        assert_eq!(plans(0)[1].build().pick(7, |_| true, |_| false), None);
    }
}
