//! The source's current view and the numbered steps that led to it. Pure: no clock, no lock, no socket.
//!
//! A control plane that is a little behind gets the steps it lacks; one that is far behind, or new, gets the view as a
//! listing. A listing under doubt is never told as removals, since only the control plane may decide to believe it.

use std::collections::{BTreeMap, VecDeque};

use crate::catalog::{Item, Key};
use crate::description::Condition;

/// Steps kept for control planes that come back; about 100 bytes each beside the shared objects.
pub const STEPS_MAX: usize = 16_384;

/// One change, at a position of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// An object is new or other than before.
    Upsert(Item),
    /// An object is gone.
    Remove(Key),
    /// The source sees its platform better or worse than before.
    Condition(Condition),
    /// The view was replaced: everyone behind this position needs a listing.
    Relist,
}

/// The whole view at one position.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// Number of the listing, rising with every one that is taken.
    pub epoch: u64,
    /// Every object.
    pub items: Vec<Item>,
    /// Why the view is not fully trusted; empty when it is.
    pub doubt: String,
    /// How well the source sees its platform.
    pub condition: Condition,
    /// Position that the listing brings its reader to.
    pub position: u64,
}

/// What a reader at some position should be told next.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Nothing new.
    Wait,
    /// The steps that it lacks.
    Steps {
        /// The steps, oldest first.
        steps: Vec<Step>,
        /// Position that they bring their reader to.
        position: u64,
    },
    /// The whole view.
    Listing(Listing),
}

/// How many objects of each kind the view holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Services.
    pub services: usize,
    /// Endpoints.
    pub endpoints: usize,
    /// Documents.
    pub documents: usize,
}

/// The view and its steps.
#[derive(Debug)]
pub struct Log {
    view: BTreeMap<Key, Item>,
    counts: Counts,
    /// `steps[0]` is at position `head - steps.len() + 1`.
    steps: VecDeque<Step>,
    head: u64,
    epoch: u64,
    /// `None` until the source's first listing: before it nobody may be told that anything is gone.
    doubt: Option<String>,
    condition: Condition,
    steps_max: usize,
}

impl Log {
    /// An empty log that keeps `steps_max` steps.
    pub fn new(steps_max: usize) -> Self {
        Log {
            view: BTreeMap::new(),
            counts: Counts::default(),
            steps: VecDeque::new(),
            head: 0,
            epoch: 0,
            doubt: None,
            condition: Condition::Live,
            steps_max,
        }
    }

    /// Position of the newest step.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// How many objects there are.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How well the source sees its platform.
    pub fn last_condition(&self) -> &Condition {
        &self.condition
    }

    /// Replaces the view. A trusted listing becomes the steps that make the difference.
    pub fn listing(&mut self, items: Vec<Item>, doubt: &str) {
        let first = self.doubt.is_none();
        self.doubt = Some(doubt.to_owned());
        let listed: BTreeMap<Key, Item> = items.into_iter().map(|item| (item.key().clone(), item)).collect();
        let gone: Vec<Key> = self.view.keys().filter(|key| !listed.contains_key(*key)).cloned().collect();
        if first || (!doubt.is_empty() && !gone.is_empty()) {
            self.view = listed;
            self.recount();
            return self.push(Step::Relist);
        }
        listed.into_values().for_each(|item| self.upsert(item));
        gone.iter().for_each(|key| self.remove(key));
    }

    /// Adds or replaces an object, if it is other than before.
    pub fn upsert(&mut self, item: Item) {
        match self.view.insert(item.key().clone(), item.clone()) {
            Some(before) if before == item => return,
            Some(_) => {}
            None => *self.counts.of(item.key()) += 1,
        }
        self.push(Step::Upsert(item));
    }

    /// Removes an object, if it is there.
    pub fn remove(&mut self, key: &Key) {
        if self.view.remove(key).is_some() {
            *self.counts.of(key) -= 1;
            self.push(Step::Remove(key.clone()));
        }
    }

    /// Notes how well the source sees its platform.
    pub fn condition(&mut self, condition: Condition) {
        if self.condition != condition {
            self.condition = condition.clone();
            self.push(Step::Condition(condition));
        }
    }

    /// What a reader needs that has everything up to `position`; `None` has nothing.
    pub fn plan(&mut self, position: Option<u64>) -> Plan {
        let kept_from = self.head - self.steps.len() as u64;
        let missing: Option<Vec<Step>> = match position {
            Some(position) if position >= kept_from && position <= self.head => {
                Some(self.steps.iter().skip((position - kept_from) as usize).cloned().collect())
            }
            // Before the first listing there is nothing to list, but a bad condition can be told.
            None if self.doubt.is_none() => Some(match &self.condition {
                Condition::Live => Vec::new(),
                stale => vec![Step::Condition(stale.clone())],
            }),
            _ => None,
        };
        match missing {
            Some(steps) if steps.is_empty() => Plan::Wait,
            Some(steps) if !steps.contains(&Step::Relist) => Plan::Steps { steps, position: self.head },
            _ => Plan::Listing(self.take_listing()),
        }
    }

    fn take_listing(&mut self) -> Listing {
        self.epoch += 1;
        Listing {
            epoch: self.epoch,
            items: self.view.values().cloned().collect(),
            doubt: self.doubt.clone().unwrap_or_default(),
            condition: self.condition.clone(),
            position: self.head,
        }
    }

    fn push(&mut self, step: Step) {
        if self.steps.len() == self.steps_max {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
        self.head += 1;
    }

    fn recount(&mut self) {
        self.counts = Counts::default();
        for key in self.view.keys() {
            *self.counts.of(key) += 1;
        }
    }
}

impl Counts {
    fn of(&mut self, key: &Key) -> &mut usize {
        match key {
            Key::Service { .. } => &mut self.services,
            Key::Endpoint(_) => &mut self.endpoints,
            Key::Document { .. } => &mut self.documents,
        }
    }
}

#[cfg(test)]
mod tests;
