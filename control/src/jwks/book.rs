//! What is known of issuers' keys, when it is asked for again, and how long it counts. Pure: `now` and `rng` come in.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{KeySets, Wanted};

/// How often keys are asked for: Istio's number.
pub const REFRESH: Duration = Duration::from_secs(20 * 60);
/// Shortest and longest pause after a failure, which doubles from one to the next.
pub const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How long keys count that could not be fetched again. Tokens are refused afterwards: an issuer that is away for a day
/// cannot have told either that it revoked them.
pub const KEPT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most URLs that are asked.
pub const URLS_MAX: usize = 1000;

/// The keys of every URL that is wanted.
#[derive(Debug, Default)]
pub struct Book {
    entries: BTreeMap<Arc<str>, Entry>,
}

#[derive(Debug)]
struct Entry {
    keys: Option<(Arc<str>, SystemTime)>,
    due: SystemTime,
    failures: u32,
    timeout: Duration,
}

/// Keys as they are on disk.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Kept {
    /// Where they are from.
    pub url: Arc<str>,
    /// When they were fetched, seconds since 1970.
    pub fetched_at_s: u64,
    /// The key set.
    pub keys: Arc<str>,
}

impl Book {
    /// What was kept; all of it is due at once.
    pub fn of(kept: Vec<Kept>) -> Self {
        let entry = |kept: Kept| {
            let fetched = UNIX_EPOCH + Duration::from_secs(kept.fetched_at_s.min(u64::from(u32::MAX)));
            let keys = Some((kept.keys, fetched));
            (kept.url, Entry { keys, due: UNIX_EPOCH, failures: 0, timeout: RETRY.0 })
        };
        Self { entries: kept.into_iter().take(URLS_MAX).map(entry).collect() }
    }

    /// Forgets what is not wanted any more, and takes in what is new.
    pub fn want(&mut self, wanted: &Wanted, now: SystemTime) {
        self.entries.retain(|url, _| wanted.contains_key(url));
        for (url, timeout) in wanted {
            if let Some(entry) = self.entries.get_mut(url) {
                entry.timeout = *timeout;
            } else if self.entries.len() < URLS_MAX {
                self.entries
                    .insert(url.clone(), Entry { keys: None, due: now, failures: 0, timeout: *timeout });
            } else {
                metrics::counter!("weft_jwks_fetches_total", "outcome" => "too_many").increment(1);
            }
        }
    }

    /// The addresses that are due, each with the time that a fetch may take.
    pub fn due(&self, now: SystemTime) -> Vec<(Arc<str>, Duration)> {
        let due = self.entries.iter().filter(|(_, entry)| entry.due <= now);
        due.map(|(url, entry)| (url.clone(), entry.timeout)).collect()
    }

    /// How long nothing is due; none where nothing is wanted.
    pub fn pause(&self, now: SystemTime) -> Option<Duration> {
        let next = self.entries.values().map(|entry| entry.due).min()?;
        Some(next.duration_since(now).unwrap_or_default())
    }

    /// Keys came.
    pub fn succeed(&mut self, url: &str, keys: Arc<str>, now: SystemTime) {
        if let Some(entry) = self.entries.get_mut(url) {
            *entry =
                Entry { keys: Some((keys, now)), due: now + REFRESH, failures: 0, timeout: entry.timeout };
        }
    }

    /// None came; whether older ones count still.
    pub fn fail(&mut self, url: &str, now: SystemTime, rng: &mut impl Rng) -> bool {
        let Some(entry) = self.entries.get_mut(url) else { return false };
        let pause = RETRY.0.saturating_mul(1 << entry.failures.min(16)).min(RETRY.1);
        entry.failures = entry.failures.saturating_add(1);
        // Issuers that failed together are not asked together again.
        entry.due = now + pause.mul_f64(rng.random_range(0.5..1.0));
        entry.in_force(now)
    }

    /// The keys that count.
    pub fn in_force(&self, now: SystemTime) -> KeySets {
        let counting = self.entries.iter().filter(|(_, entry)| entry.in_force(now));
        counting.filter_map(|(url, entry)| Some((url.clone(), entry.keys.as_ref()?.0.clone()))).collect()
    }

    /// What goes to disk.
    pub fn kept(&self) -> Vec<Kept> {
        let kept = self.entries.iter().filter_map(|(url, entry)| {
            let (keys, fetched) = entry.keys.as_ref()?;
            let fetched_at_s = fetched.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            Some(Kept { url: url.clone(), fetched_at_s, keys: keys.clone() })
        });
        kept.collect()
    }
}

impl Entry {
    fn in_force(&self, now: SystemTime) -> bool {
        let age = |fetched: &SystemTime| now.duration_since(*fetched).unwrap_or_default();
        self.keys.as_ref().is_some_and(|(_, fetched)| age(fetched) <= KEPT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn wanted(urls: &[&str]) -> Wanted {
        urls.iter().map(|url| (Arc::from(*url), Duration::from_secs(5))).collect()
    }

    #[test]
    fn the_last_good_keys_count_for_a_day_and_no_longer() {
        let mut book = Book::default();
        book.want(&wanted(&["u"]), at(0));
        book.succeed("u", "k".into(), at(0));
        let mut rng = StdRng::seed_from_u64(1);
        assert!(book.fail("u", at(86_400), &mut rng));
        assert_eq!(book.in_force(at(86_400)).len(), 1);
        assert!(!book.fail("u", at(86_401), &mut rng));
        assert_eq!(book.in_force(at(86_401)).len(), 0);
        // A clock that went back takes nothing away.
        assert_eq!(Book::of(book.kept()).in_force(UNIX_EPOCH).len(), 1);
    }

    #[test]
    fn an_issuer_that_does_not_answer_is_asked_less_and_less() {
        let mut book = Book::default();
        book.want(&wanted(&["u"]), at(0));
        assert_eq!(book.due(at(0)).len(), 1);
        let mut rng = StdRng::seed_from_u64(1);
        for failure in 0..20 {
            book.fail("u", at(0), &mut rng);
            let pause = book.pause(at(0)).unwrap();
            let longest = RETRY.0.saturating_mul(1 << failure.min(16)).min(RETRY.1);
            assert!(pause <= longest && pause >= longest / 2, "{failure}: {pause:?}");
            assert_eq!(book.due(at(0)).len(), 0);
        }
        book.succeed("u", "k".into(), at(9));
        assert_eq!(book.pause(at(9)), Some(REFRESH));
    }

    #[test]
    fn what_is_not_wanted_any_more_is_forgotten() {
        let mut book = Book::default();
        book.want(&wanted(&["a", "b"]), at(0));
        book.succeed("a", "k".into(), at(0));
        book.want(&wanted(&["b"]), at(1));
        assert!(book.in_force(at(1)).is_empty() && book.due(at(1)).len() == 1);
    }

    #[test]
    fn only_so_many_are_asked() {
        let mut book = Book::default();
        let many: Vec<String> = (0..URLS_MAX + 5).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        book.want(&wanted(&many), at(0));
        assert_eq!(book.due(at(0)).len(), URLS_MAX);
    }
}
