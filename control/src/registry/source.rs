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

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::fact::{DocumentFact, EndpointFact, Gone, Object, ServiceFact, Speaker};
use crate::{
    model::{Endpoint, ServiceKey},
    store::DocumentKey,
};

/// Objects of one source.
pub const OBJECTS_MAX: usize = 500_000;
/// A doubtful listing that drops fewer endpoints than this, and empties no service, is let through.
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

/// A set of objects.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    services: BTreeMap<ServiceKey, ServiceFact>,
    /// By prefixed id.
    endpoints: BTreeMap<Arc<str>, EndpointFact>,
    /// Endpoint ids of a service.
    members: BTreeMap<ServiceKey, BTreeSet<Arc<str>>>,
    documents: BTreeMap<DocumentKey, DocumentFact>,
}

/// What a step changed, so that only that is merged again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Services whose facts or endpoints changed.
    pub services: BTreeSet<ServiceKey>,
    /// Whether a document changed.
    pub documents: bool,
}

impl Changed {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.documents
    }

    /// Adds what another step changed.
    pub fn absorb(&mut self, other: Self) {
        self.services.extend(other.services);
        self.documents |= other.documents;
    }
}

/// Objects that only a doubt keeps.
#[derive(Clone, Debug)]
struct Held {
    services: BTreeSet<ServiceKey>,
    endpoints: BTreeSet<Arc<str>>,
    documents: BTreeSet<DocumentKey>,
    doubt: String,
    since: Instant,
}

#[derive(Clone, Debug)]
struct Listing {
    epoch: u64,
    facts: Facts,
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
                self.listing = Some(Listing { epoch, facts: Facts::default() });
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

    /// A step came whose object was refused: it counts as applied.
    pub fn refuse(&mut self, sequence: u64) -> Result<(), StepError> {
        let expected = self.applied + 1;
        if sequence > expected {
            return Err(StepError::Gap { expected, found: sequence });
        }
        self.applied = self.applied.max(sequence);
        self.rejected = self.rejected.saturating_add(1);
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
        let mut changed = Changed::default();
        let Some(held) = self.held.take() else { return (0, changed) };
        for id in &held.endpoints {
            changed.services.extend(self.facts.remove_endpoint(id));
        }
        for key in held.services {
            self.facts.services.remove(&key);
            changed.services.insert(key);
        }
        for key in &held.documents {
            changed.documents |= self.facts.documents.remove(key).is_some();
        }
        (held.endpoints.len(), changed)
    }

    fn upsert(&mut self, object: Object, now: Now) -> Result<Changed, StepError> {
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
        let Some(held) = &mut self.held else { return };
        match name {
            Gone::Service(key) => held.services.remove(key),
            Gone::Endpoint(id) => held.endpoints.remove(id),
            Gone::Document(key) => held.documents.remove(key),
        };
        if held.endpoints.is_empty() && held.services.is_empty() && held.documents.is_empty() {
            self.held = None;
        }
    }

    fn end(&mut self, epoch: u64, doubt: String, now: Now) -> Result<Changed, StepError> {
        let Some(Listing { facts: mut next, .. }) = self.listing.take_if(|listing| listing.epoch == epoch)
        else {
            return Err(StepError::NoListing(epoch));
        };
        let before = self.held.take();
        self.held = if !doubt.is_empty() && self.facts.shrinks_much(&next) {
            let since = before.map_or(now.instant, |held| held.since);
            Some(self.facts.keep_missing(&mut next, doubt, since))
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
            return (
                State::Held,
                format!("removal of {} endpoints held back: {}", held.endpoints.len(), held.doubt),
            );
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
        self.held.as_ref().map_or(0, |held| held.endpoints.len())
    }

    /// Objects refused since it connected.
    pub fn rejected(&self) -> u32 {
        self.rejected
    }

    /// End of its last complete listing or change.
    pub fn last_sync_seconds(&self) -> i64 {
        self.last_sync_seconds
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

impl Facts {
    /// A service's facts.
    pub fn service(&self, key: &ServiceKey) -> Option<&ServiceFact> {
        self.services.get(key)
    }

    /// Every service.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &ServiceFact> {
        self.services.values()
    }

    /// Every endpoint.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = &EndpointFact> {
        self.endpoints.values()
    }

    /// Every document.
    pub fn documents(&self) -> impl ExactSizeIterator<Item = &DocumentFact> {
        self.documents.values()
    }

    /// Endpoints of a service.
    pub fn endpoints_of(&self, key: &ServiceKey) -> impl Iterator<Item = &Arc<Endpoint>> {
        let ids = self.members.get(key).into_iter().flatten();
        ids.filter_map(|id| self.endpoints.get(id)).map(|fact| &fact.endpoint)
    }

    fn insert(&mut self, object: Object) -> Result<Changed, StepError> {
        let mut changed = Changed::default();
        let count = self.services.len() + self.endpoints.len() + self.documents.len();
        if count >= OBJECTS_MAX && !self.contains(&name_of(&object)) {
            return Err(StepError::TooMany);
        }
        match object {
            Object::Service(fact) => {
                if self.services.get(&fact.key) != Some(&fact) {
                    changed.services.insert(fact.key.clone());
                    self.services.insert(fact.key.clone(), fact);
                }
            }
            Object::Endpoint(fact) => {
                if self.endpoints.get(&fact.endpoint.id) != Some(&fact) {
                    changed.services.extend(self.remove_endpoint(&fact.endpoint.id));
                    changed.services.insert(fact.service.clone());
                    self.members.entry(fact.service.clone()).or_default().insert(fact.endpoint.id.clone());
                    self.endpoints.insert(fact.endpoint.id.clone(), fact);
                }
            }
            Object::Document(fact) => {
                if self.documents.get(&fact.key) != Some(&fact) {
                    changed.documents = true;
                    self.documents.insert(fact.key.clone(), fact);
                }
            }
        }
        Ok(changed)
    }

    fn contains(&self, name: &Gone) -> bool {
        match name {
            Gone::Service(key) => self.services.contains_key(key),
            Gone::Endpoint(id) => self.endpoints.contains_key(id),
            Gone::Document(key) => self.documents.contains_key(key),
        }
    }

    fn remove(&mut self, gone: &Gone) -> Changed {
        let mut changed = Changed::default();
        match gone {
            Gone::Service(key) => {
                if self.services.remove(key).is_some() {
                    changed.services.insert(key.clone());
                }
            }
            Gone::Endpoint(id) => changed.services.extend(self.remove_endpoint(id)),
            Gone::Document(key) => changed.documents = self.documents.remove(key).is_some(),
        }
        changed
    }

    /// Removes an endpoint and answers whose it was.
    fn remove_endpoint(&mut self, id: &Arc<str>) -> Option<ServiceKey> {
        let fact = self.endpoints.remove(id)?;
        if let Some(ids) = self.members.get_mut(&fact.service) {
            ids.remove(id);
            if ids.is_empty() {
                self.members.remove(&fact.service);
            }
        }
        Some(fact.service)
    }

    /// Whether `next` lacks more than half and at least five of these endpoints, or leaves a service that had some
    /// without any.
    fn shrinks_much(&self, next: &Self) -> bool {
        let dropped = self.endpoints.keys().filter(|id| !next.endpoints.contains_key(*id)).count();
        let many = dropped >= DOUBTFUL_DROP_MIN && dropped * 2 > self.endpoints.len();
        many || self.members.keys().any(|key| !next.members.contains_key(key))
    }

    /// Adds to `next` what it lacks of these facts, endpoints marked stale.
    fn keep_missing(&self, next: &mut Self, doubt: String, since: Instant) -> Held {
        let mut held = Held {
            services: BTreeSet::new(),
            endpoints: BTreeSet::new(),
            documents: BTreeSet::new(),
            doubt,
            since,
        };
        for (key, fact) in &self.services {
            if !next.services.contains_key(key) {
                next.services.insert(key.clone(), fact.clone());
                held.services.insert(key.clone());
            }
        }
        for (id, fact) in &self.endpoints {
            if !next.endpoints.contains_key(id) {
                let endpoint = Arc::new(Endpoint { stale: true, ..Endpoint::clone(&fact.endpoint) });
                next.members.entry(fact.service.clone()).or_default().insert(id.clone());
                next.endpoints.insert(id.clone(), EndpointFact { endpoint, ..fact.clone() });
                held.endpoints.insert(id.clone());
            }
        }
        for (key, fact) in &self.documents {
            if !next.documents.contains_key(key) {
                next.documents.insert(key.clone(), fact.clone());
                held.documents.insert(key.clone());
            }
        }
        held
    }

    /// What differs between these facts and the next ones.
    fn difference(&self, next: &Self) -> Changed {
        let mut changed = Changed { documents: self.documents != next.documents, ..Changed::default() };
        for (one, other) in [(self, next), (next, self)] {
            for (key, fact) in &one.services {
                if other.services.get(key) != Some(fact) {
                    changed.services.insert(key.clone());
                }
            }
            for (id, fact) in &one.endpoints {
                if other.endpoints.get(id) != Some(fact) {
                    changed.services.insert(fact.service.clone());
                }
            }
        }
        changed
    }
}

fn name_of(object: &Object) -> Gone {
    match object {
        Object::Service(fact) => Gone::Service(fact.key.clone()),
        Object::Endpoint(fact) => Gone::Endpoint(fact.endpoint.id.clone()),
        Object::Document(fact) => Gone::Document(fact.key.clone()),
    }
}

#[cfg(test)]
mod tests;
