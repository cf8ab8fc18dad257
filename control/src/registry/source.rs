//! One source's facts and the rules that keep them: listings replace each other whole, only a source may remove its
//! own, and a doubtful listing that shrinks a lot is held back. Pure: `now` comes in.
//!
//! ```text
//!            Begin              End, trusted
//!   current ------> listing ------------------> current = listing
//!                      | End, doubtful and much smaller
//!                      v
//!                    held: current = listing + what it lacks, marked stale
//!                      | confirm, hold-down over, or a trusted listing
//!                      v
//!                   current = listing
//! ```

use std::time::{Duration, Instant};

use self::facts::{Names, name_of};
use super::fact::{Gone, Object, Replaces, Speaker};

mod facts;

pub use facts::{Changed, Facts};

/// Objects of one source.
pub const OBJECTS_MAX: usize = 500_000;
/// A doubtful listing that drops fewer endpoints than this, empties no service and drops no document is let through.
pub const DOUBTFUL_DROP_MIN: usize = 5;

/// The moment of a step.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For hold-downs.
    pub instant: Instant,
    /// For people, seconds since 1970.
    pub unix_seconds: i64,
}

/// One checked step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Starts a listing.
    Begin(u64),
    /// Adds or replaces an object. Boxed: an endpoint is large.
    Upsert(Box<Object>),
    /// Removes an object.
    Remove(Gone),
    /// Ends a listing; the text is the doubt.
    End(u64, String),
    /// What the adapter thinks of its view: stale or not, and why.
    Condition(bool, String),
}

/// Why a step does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The stream is broken: the adapter must list again.
    #[error("step {found} came where {expected} was due; start a new listing")]
    Gap {
        /// The sequence that was due.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// End without its Begin.
    #[error("end of listing {0}, which was not begun")]
    NoListing(u64),
    /// One object too many; it was passed over.
    #[error("the source has {OBJECTS_MAX} objects already, which is the limit; split the source")]
    TooMany,
}

/// How well a source is known to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Its facts are current.
    Live,
    /// They are the last known ones: from disk, or the platform does not answer.
    Stale,
    /// Its adapter is gone.
    Lost,
    /// A removal is held back.
    Held,
}

impl State {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Lost => "lost",
            Self::Held => "held",
        }
    }
}

/// Objects that only a doubt keeps.
#[derive(Clone, Debug)]
struct Held {
    names: Names,
    doubt: String,
    since: Instant,
}

#[derive(Clone, Debug)]
struct Listing {
    epoch: u64,
    facts: Facts,
    /// What objects that were refused would have replaced.
    refused: Vec<Replaces>,
}

/// A source.
#[derive(Clone, Debug)]
pub struct Source {
    speaker: Speaker,
    incarnation: String,
    applied: u64,
    connected: bool,
    /// Whether a listing was completed in this incarnation.
    listed: bool,
    /// Why the adapter says that its view is stale.
    condition: Option<String>,
    facts: Facts,
    listing: Option<Listing>,
    held: Option<Held>,
    rejected: u32,
    last_sync_seconds: i64,
}

impl Source {
    /// A source that is known by name only, or from disk.
    pub fn new(speaker: Speaker) -> Self {
        Self {
            speaker,
            incarnation: String::new(),
            applied: 0,
            connected: false,
            listed: false,
            condition: None,
            facts: Facts::default(),
            listing: None,
            held: None,
            rejected: 0,
            last_sync_seconds: 0,
        }
    }

    /// A stream opens; answers the sequence to resume after.
    pub fn connect(&mut self, speaker: Speaker, incarnation: &str) -> u64 {
        self.speaker = speaker;
        self.connected = true;
        self.condition = None;
        self.rejected = 0;
        if self.incarnation != incarnation {
            incarnation.clone_into(&mut self.incarnation);
            self.applied = 0;
            self.listing = None;
            self.listed = false;
        }
        self.applied
    }

    /// The stream is gone; the facts stay.
    pub fn disconnect(&mut self) {
        self.connected = false;
    }

    /// Takes one step. A step that was applied before is passed over.
    pub fn step(&mut self, sequence: u64, step: Step, now: Now) -> Result<Changed, StepError> {
        if sequence <= self.applied {
            return Ok(Changed::default());
        }
        let expected = self.applied + 1;
        // A new listing needs no earlier step, so an adapter whose log was cut may go on from there.
        if sequence != expected && !matches!(step, Step::Begin(_)) {
            return Err(StepError::Gap { expected, found: sequence });
        }
        self.applied = sequence;
        match step {
            Step::Begin(epoch) => {
                self.listing = Some(Listing { epoch, facts: Facts::default(), refused: Vec::new() });
                Ok(Changed::default())
            }
            Step::End(epoch, doubt) => self.end(epoch, doubt, now),
            Step::Upsert(object) => self.upsert(*object, now),
            Step::Remove(gone) => Ok(self.remove(&gone, now)),
            Step::Condition(stale, reason) => {
                self.condition = stale.then_some(reason);
                Ok(Changed::default())
            }
        }
    }

    /// A step came whose object was refused: it counts as applied, and what it would have replaced stays.
    pub fn refuse(&mut self, sequence: u64, replaces: Option<Replaces>) -> Result<(), StepError> {
        let expected = self.applied + 1;
        if sequence > expected {
            return Err(StepError::Gap { expected, found: sequence });
        }
        self.applied = self.applied.max(sequence);
        self.rejected = self.rejected.saturating_add(1);
        if let Some(listing) = self.listing.as_mut().filter(|listing| listing.refused.len() < OBJECTS_MAX) {
            listing.refused.extend(replaces);
        }
        Ok(())
    }

    /// Lets a hold-down that is over run out.
    pub fn tick(&mut self, now: Instant, hold_down: Duration) -> Changed {
        match &self.held {
            Some(held) if now.saturating_duration_since(held.since) >= hold_down => self.confirm().1,
            _ => Changed::default(),
        }
    }

    /// Lets what is held go; answers how many endpoints went.
    pub fn confirm(&mut self) -> (usize, Changed) {
        let Some(held) = self.held.take() else { return (0, Changed::default()) };
        (held.names.endpoints.len(), self.facts.remove_all(&held.names))
    }

    fn upsert(&mut self, object: Object, now: Now) -> Result<Changed, StepError> {
        let object = match object {
            Object::Document(fact) => Object::Document(self.facts.succeed(fact, now.unix_seconds)),
            Object::Service(_) | Object::Endpoint(_) => object,
        };
        if let Some(listing) = &mut self.listing {
            return listing.facts.insert(object).map(|_| Changed::default());
        }
        self.last_sync_seconds = now.unix_seconds;
        self.unhold(&name_of(&object));
        self.facts.insert(object)
    }

    fn remove(&mut self, gone: &Gone, now: Now) -> Changed {
        if let Some(listing) = &mut self.listing {
            listing.facts.remove(gone);
            return Changed::default();
        }
        self.last_sync_seconds = now.unix_seconds;
        self.unhold(gone);
        self.facts.remove(gone)
    }

    /// What the source speaks about again is no longer in doubt.
    fn unhold(&mut self, name: &Gone) {
        if let Some(held) = &mut self.held {
            held.names.remove(name);
            self.held.take_if(|held| held.names.is_empty());
        }
    }

    fn end(&mut self, epoch: u64, doubt: String, now: Now) -> Result<Changed, StepError> {
        let Some(Listing { facts: mut next, refused, .. }) =
            self.listing.take_if(|listing| listing.epoch == epoch)
        else {
            return Err(StepError::NoListing(epoch));
        };
        for replaced in &refused {
            self.facts.keep_replaced(&mut next, replaced);
        }
        let before = self.held.take();
        self.held = if !doubt.is_empty() && self.facts.shrinks_much(&next) {
            let since = before.map_or(now.instant, |held| held.since);
            Some(Held { names: self.facts.keep_missing(&mut next), doubt, since })
        } else {
            None
        };
        self.listed = true;
        self.last_sync_seconds = now.unix_seconds;
        let changed = self.facts.difference(&next);
        self.facts = next;
        Ok(changed)
    }
}

impl Source {
    /// Who speaks.
    pub fn speaker(&self) -> &Speaker {
        &self.speaker
    }

    /// How well its facts are known to be right, and why they are not.
    pub fn state(&self) -> (State, String) {
        if let Some(held) = &self.held {
            let (endpoints, documents) = (held.names.endpoints.len(), held.names.documents.len());
            let and_documents = match documents {
                0 => String::new(),
                count => format!(" and {count} documents"),
            };
            let reason = format!("removal of {endpoints} endpoints{and_documents} held back: {}", held.doubt);
            return (State::Held, reason);
        }
        if !self.connected && self.incarnation.is_empty() {
            return (
                State::Stale,
                "last known facts from disk; its adapter has not connected yet".to_owned(),
            );
        }
        if !self.connected {
            return (State::Lost, "its adapter is not connected; the last known facts serve".to_owned());
        }
        match &self.condition {
            Some(reason) => (State::Stale, reason.clone()),
            None if !self.listed => (State::Stale, "its first listing is under way".to_owned()),
            None => (State::Live, String::new()),
        }
    }

    /// Its facts.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Endpoints whose removal is held back.
    pub fn held(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.names.endpoints.len())
    }

    /// Objects refused since it connected.
    pub fn rejected(&self) -> u32 {
        self.rejected
    }

    /// End of its last complete listing or change.
    pub fn last_sync_seconds(&self) -> i64 {
        self.last_sync_seconds
    }

    /// Whether a removal is held back.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The highest sequence applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether a listing is under way, so that acks wait for its end.
    pub fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// Takes facts from disk.
    pub fn restore(&mut self, objects: impl Iterator<Item = Object>, last_sync_seconds: i64) {
        for object in objects {
            // What was within the limit when it was written still is.
            if self.facts.insert(object).is_err() {
                break;
            }
        }
        self.last_sync_seconds = last_sync_seconds;
    }
}

#[cfg(test)]
mod tests;
