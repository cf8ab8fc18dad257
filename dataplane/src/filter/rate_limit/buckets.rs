//! The buckets of a limit: one, or one for each set of values, in a table of a fixed size that all workers share without a
//! lock.
//!
//! A set of values belongs to a few places of the table by its hash, whose seed nobody knows. It takes the first place that
//! is its own, else an empty one, else that of the fullest bucket: a bucket that is full again holds nothing to remember.
//! Where none is full a value is forgotten, which is counted, and the new one begins with what that one had left, so that
//! a flood of values buys nobody more than the places have.
//!
//! The error: two workers that meet a new value in the same moment may give it a place each for a few instructions, so that it
//! gets at most as many tokens more as the first took in them; and two values with the same 64-bit hash share a bucket.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
};

use metrics::{Counter, counter};

use super::bucket::{self, Rate, Taken};

/// Most values of one limit.
pub const VALUES_MAX: u32 = 65_536;
/// Places that a value may have.
const WAYS: usize = 16;
/// Places for each value, so that hardly one of the number that is asked for is forgotten.
const SPARE: usize = 2;
/// How often a place is looked for before any will do.
const TRIES_MAX: usize = 8;

/// The buckets of a limit.
#[derive(Debug)]
pub struct Buckets {
    /// [`WAYS`] for each set, or a single one.
    places: Box<[Place]>,
    seed: RandomState,
}

#[derive(Debug, Default)]
struct Place {
    /// Hash of its values; zero where it is empty.
    mark: AtomicU64,
    full_at: AtomicU64,
}

static FORGOTTEN: LazyLock<Counter> = LazyLock::new(|| counter!("weft_rate_limit_values_forgotten_total"));

/// Buckets in use, by what they are for: a change of something else leaves them as they are.
static KNOWN: LazyLock<Mutex<HashMap<Identity, Weak<Buckets>>>> = LazyLock::new(Mutex::default);

/// What buckets are for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Of which filter: its `stat_prefix`.
    pub filter: String,
    /// Entries of the descriptor.
    pub entries: Vec<(Arc<str>, Option<Arc<str>>)>,
    /// How they are filled.
    pub rate: Rate,
}

impl Buckets {
    /// The buckets of an identity, for so many values at a time; one for all where no entry may have any value. They are
    /// full, unless they are in use. Taken at configuration time only.
    pub fn of(identity: Identity, values_max: u32) -> Arc<Self> {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buckets) = known.get(&identity).and_then(Weak::upgrade) {
            return buckets;
        }
        known.retain(|_, buckets| buckets.strong_count() > 0);
        let several = identity.entries.iter().any(|(_, value)| value.is_none());
        let buckets = Arc::new(Self::new(several.then_some(values_max)));
        known.insert(identity, Arc::downgrade(&buckets));
        buckets
    }

    fn new(values_max: Option<u32>) -> Self {
        let places = values_max.map_or(1, |max| {
            let sets = (SPARE * max.clamp(1, VALUES_MAX) as usize).div_ceil(WAYS).next_power_of_two();
            sets * WAYS
        });
        Self { places: (0..places).map(|_| Place::default()).collect(), seed: RandomState::new() }
    }

    /// What stands for some values.
    pub fn mark<T: Hash>(&self, values: impl Iterator<Item = T>) -> u64 {
        let mut hasher = self.seed.build_hasher();
        values.for_each(|value| value.hash(&mut hasher));
        hasher.finish().max(1)
    }

    /// Takes a token from the bucket of the values that a mark stands for.
    pub fn take(&self, mark: u64, rate: Rate, now: u64) -> Taken {
        bucket::take(&self.place(mark, now).full_at, rate, now)
    }

    fn place(&self, mark: u64, now: u64) -> &Place {
        if let [only] = &*self.places {
            return only;
        }
        let sets = self.places.len() / WAYS;
        // The mark tells values of one set apart by all of its bits.
        let set = usize::try_from(mark >> 32).unwrap_or(0) % sets;
        let places = &self.places[set * WAYS..(set + 1) * WAYS];
        for _ in 0..TRIES_MAX {
            if let Some(own) = places.iter().find(|place| place.mark.load(Acquire) == mark) {
                return own;
            }
            let fullness = |place: &&Place| match place.mark.load(Acquire) {
                0 => 0,
                _ => place.full_at.load(Relaxed).max(now),
            };
            let Some(place) = places.iter().min_by_key(fullness) else { break };
            let before = place.mark.load(Acquire);
            let owed = place.full_at.load(Relaxed) > now;
            if place.mark.compare_exchange(before, mark, AcqRel, Acquire).is_ok() && before != 0 && owed {
                FORGOTTEN.increment(1);
            }
            // Another worker may have given it a place as well: the first in order is its own.
        }
        &places[0]
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    fn identity(burst: u32) -> Identity {
        let rate = Rate::new(burst, 1, Duration::from_secs(1));
        Identity { filter: format!("t{burst}"), entries: vec![("k".into(), None)], rate }
    }

    #[test]
    fn each_value_has_a_bucket_of_its_own() {
        let (buckets, rate) = (Buckets::new(Some(4096)), Rate::new(2, 1, Duration::from_secs(1)));
        for value in 0..500 {
            let mark = buckets.mark([value].into_iter());
            let taken: Vec<bool> = (0..3).map(|_| buckets.take(mark, rate, 1).passes).collect();
            assert_eq!(taken, [true, true, false], "{value}");
        }
    }

    #[test]
    fn a_flood_of_values_buys_no_more_than_the_places_have() {
        let (buckets, rate) = (Buckets::new(Some(64)), Rate::new(2, 1, Duration::from_secs(1)));
        let flood = (0..100_000).map(|value| buckets.mark([value].into_iter()));
        let passed = flood.filter(|mark| buckets.take(*mark, rate, 1).passes).count();
        assert!(passed <= buckets.places.len() * 2, "{passed}");
    }

    #[test]
    fn workers_that_meet_a_value_at_once_share_its_bucket() {
        let rate = Rate::new(10, 1, Duration::from_secs(1));
        for _ in 0..50 {
            let buckets = Arc::new(Buckets::new(Some(64)));
            let take = |buckets: Arc<Buckets>| {
                move || {
                    let mark = buckets.mark(["value"].into_iter());
                    (0..10).filter(|_| buckets.take(mark, rate, 1).passes).count()
                }
            };
            let workers: Vec<_> = (0..4).map(|_| thread::spawn(take(buckets.clone()))).collect();
            let passed: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
            assert_eq!(passed, 10);
        }
    }

    #[test]
    fn buckets_outlive_changes_of_all_else() {
        let first = Buckets::of(identity(7), 10);
        assert!(Arc::ptr_eq(&first, &Buckets::of(identity(7), 10)));
        assert!(!Arc::ptr_eq(&first, &Buckets::of(identity(8), 10)));
        drop(first);
        let again = Buckets::of(identity(7), 10);
        assert!(again.take(again.mark([1].into_iter()), identity(7).rate, 1).passes);
    }
}
