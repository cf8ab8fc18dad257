//! Consistent hashing by Maglev's table: even shares, one look-up, little moves when endpoints come and go. Pure; filled as
//! Envoy fills it, so that both proxies send a key to the same endpoint.
//!
//! Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.

use twox_hash::XxHash64;

use super::table::Entry;
use crate::spec::Maglev;

/// Slots, each with its endpoint.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<u32>,
}

/// An endpoint's order of preference among the slots.
struct Preference {
    index: u32,
    weight: f64,
    target: f64,
    /// Its next preferred slot.
    next: u64,
    skip: u64,
}

const FREE: u32 = u32::MAX;

impl Slots {
    /// Fills the table. Weights are above zero.
    pub(super) fn new(config: &Maglev, entries: &[Entry]) -> Self {
        let size = config.table_size;
        if entries.is_empty() {
            return Self { slots: Vec::new() };
        }
        let mut order: Vec<_> = (0..entries.len()).collect();
        order.sort_by(|a, b| entries[*a].key.cmp(&entries[*b].key));
        let mut preferences: Vec<_> = order
            .into_iter()
            .map(|index| {
                let key = entries[index].key.as_bytes();
                Preference {
                    index: index as u32,
                    weight: entries[index].weight,
                    target: 0.0,
                    next: XxHash64::oneshot(0, key) % size,
                    skip: XxHash64::oneshot(1, key) % (size - 1) + 1,
                }
            })
            .collect();
        let greatest = entries.iter().map(|entry| entry.weight).fold(0.0, f64::max);
        let mut slots = vec![FREE; size as usize];
        let mut free = slots.len();
        let mut turn = 1.0;
        while free > 0 {
            // The heaviest has a slot every turn, one of a third of its weight every third turn.
            for preference in preferences.iter_mut().filter(|p| turn * p.weight >= p.target) {
                if free == 0 {
                    break;
                }
                preference.target += greatest;
                // The size is prime, so that every slot comes by.
                while slots[preference.next as usize] != FREE {
                    preference.next = (preference.next + preference.skip) % size;
                }
                slots[preference.next as usize] = preference.index;
                preference.next = (preference.next + preference.skip) % size;
                free -= 1;
            }
            turn += 1.0;
        }
        Self { slots }
    }

    /// Number of slots.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The slot of a hash. There are slots.
    pub(super) fn slot(&self, hash: u64) -> usize {
        (hash % self.slots.len() as u64) as usize
    }

    /// The endpoint of a slot.
    pub(super) fn at(&self, slot: usize) -> u32 {
        self.slots[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(ports: impl IntoIterator<Item = u16>) -> Vec<Entry> {
        let key = |port| format!("127.0.0.1:{port}").into();
        ports.into_iter().map(|port| Entry { key: key(port), weight: 1.0 }).collect()
    }

    const DEFAULT: Maglev = Maglev { table_size: 65_537, by_hostname: false };

    #[test]
    fn slots_are_filled_as_envoy_fills_them() {
        let seven = Maglev { table_size: 7, by_hostname: false };
        assert_eq!(Slots::new(&seven, &entries(90..96)).slots, [2, 4, 0, 1, 5, 0, 3]);
        let names: Vec<_> =
            (90..96).map(|name: u16| Entry { key: name.to_string().into(), weight: 1.0 }).collect();
        assert_eq!(Slots::new(&seven, &names).slots, [2, 5, 0, 3, 4, 1, 0]);
    }

    #[test]
    fn the_order_in_which_endpoints_are_told_changes_nothing() {
        let forward = Slots::new(&DEFAULT, &entries(1..20));
        let backward = Slots::new(&DEFAULT, &entries((1..20).rev()));
        assert!(forward.slots.iter().zip(&backward.slots).all(|(a, b)| a + b == 18));
    }

    #[test]
    fn shares_are_even_and_follow_weights() {
        let share = |slots: &Slots, index| slots.slots.iter().filter(|slot| **slot == index).count();
        let even = Slots::new(&DEFAULT, &entries(0..100));
        for index in 0..100 {
            assert!((655..=656).contains(&share(&even, index)), "{}", share(&even, index));
        }
        let mut weighted = entries(0..3);
        for (entry, weight) in weighted.iter_mut().zip([1.0, 2.0, 7.0]) {
            entry.weight = weight;
        }
        let slots = Slots::new(&DEFAULT, &weighted);
        for (index, part) in [(0, 0.1), (1, 0.2), (2, 0.7)] {
            assert!((share(&slots, index) as f64 / 65_537.0 - part).abs() < 0.001);
        }
    }

    #[test]
    fn one_endpoint_less_moves_few_keys_of_the_others() {
        for hosts in [5u16, 20, 100] {
            let before = Slots::new(&DEFAULT, &entries(0..hosts));
            for gone in [0, hosts / 2, hosts - 1] {
                let after = Slots::new(&DEFAULT, &entries((0..hosts).filter(|port| *port != gone)));
                let name = |index: u32| if index >= u32::from(gone) { index + 1 } else { index };
                let pairs = before.slots.iter().zip(&after.slots);
                let moved = pairs.filter(|(old, new)| **old != name(**new)).count();
                let share = moved as f64 / 65_537.0;
                // Its own share has to move; as much again may (section 5.3 of the paper finds less).
                assert!(share < 2.0 / f64::from(hosts) + 0.02, "{hosts}: {share}");
            }
        }
    }
}
