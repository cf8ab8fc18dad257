//! How far a listing is to be believed. Pure: `now` comes in.
//!
//! A platform that comes back may have lost its memory, and a token that lost its rights gets an empty answer that looks
//! like no services at all. So: a listing after a failure or under an index that went back is told in doubt, for the
//! control plane to hold what it would take away; and one that is empty where there was something is not told before it
//! has stayed empty for [`EMPTY_BELIEVED_AFTER`].

use std::time::{Duration, Instant};

/// How long nothing but empty listings must come until one is believed.
pub const EMPTY_BELIEVED_AFTER: Duration = Duration::from_secs(15 * 60);

/// What to do with a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Tell it, with this doubt, if any.
    Tell(String),
    /// Keep what is known, for this reason, and ask again.
    Keep(String),
}

/// What is remembered of earlier answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    index: Option<u64>,
    /// Why the last conversation broke.
    broken: Option<String>,
    empty_since: Option<Instant>,
}

impl Trust {
    /// A conversation broke.
    pub(crate) fn broke(&mut self, reason: &str) {
        self.broken = Some(reason.to_owned());
    }

    /// The platform has said, by whatever way, how far it is.
    pub(crate) fn saw(&mut self, index: u64) {
        self.index = self.index.max(Some(index));
    }

    /// Judges a listing of `found` endpoints where `known` were known, at an index, if the platform has such.
    pub(crate) fn judge(&mut self, known: usize, found: usize, index: Option<u64>, now: Instant) -> Verdict {
        if found > 0 {
            self.empty_since = None;
        } else if known > 0 {
            let since = *self.empty_since.get_or_insert(now);
            if now.saturating_duration_since(since) < EMPTY_BELIEVED_AFTER {
                return Verdict::Keep(format!(
                    "lists nothing where it had {known} endpoints; they stay unless it lists nothing for {} minutes",
                    EMPTY_BELIEVED_AFTER.as_secs() / 60
                ));
            }
        }
        let last = self.index;
        self.index = index.or(last);
        let broken = self.broken.take();
        Verdict::Tell(match (last, index) {
            (Some(last), Some(index)) if index < last => {
                format!("the index went back from {last} to {index}")
            }
            _ if found == 0 => "nothing is listed".to_owned(),
            _ => broken.map(|reason| format!("first answer after: {reason}")).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(doubt: &str) -> Verdict {
        Verdict::Tell(doubt.to_owned())
    }

    #[test]
    fn an_empty_listing_is_kept_back_until_it_has_lasted() {
        let (mut trust, start) = (Trust::default(), Instant::now());
        assert_eq!(trust.judge(0, 6, Some(40), start), tell(""));
        for minute in 1..15 {
            let now = start + Duration::from_secs(60 * minute);
            assert!(matches!(trust.judge(6, 0, Some(41), now), Verdict::Keep(_)), "{minute}");
        }
        let late = start + Duration::from_secs(60 * 16);
        assert_eq!(trust.judge(6, 0, Some(41), late), tell("nothing is listed"));
    }

    #[test]
    fn one_answer_with_something_ends_the_emptiness() {
        let (mut trust, start) = (Trust::default(), Instant::now());
        trust.judge(6, 0, None, start);
        assert_eq!(trust.judge(6, 5, None, start + EMPTY_BELIEVED_AFTER / 2), tell(""));
        assert!(matches!(trust.judge(5, 0, None, start + EMPTY_BELIEVED_AFTER), Verdict::Keep(_)));
    }

    #[test]
    fn an_index_that_went_back_and_a_break_are_doubts_once() {
        let (mut trust, now) = (Trust::default(), Instant::now());
        assert_eq!(trust.judge(0, 1, Some(40), now), tell(""));
        trust.saw(44);
        assert_eq!(trust.judge(1, 1, Some(9), now), tell("the index went back from 44 to 9"));
        assert_eq!(trust.judge(1, 1, Some(10), now), tell(""));
        trust.broke("timed out");
        assert_eq!(trust.judge(1, 1, Some(11), now), tell("first answer after: timed out"));
        assert_eq!(trust.judge(1, 1, Some(12), now), tell(""));
    }

    #[test]
    fn a_first_listing_of_nothing_is_doubted() {
        assert_eq!(Trust::default().judge(0, 0, Some(1), Instant::now()), tell("nothing is listed"));
    }
}
