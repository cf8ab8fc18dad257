//! Which names of one type a client wants. Pure.

use std::{collections::BTreeSet, sync::Arc};

use crate::resource::Kind;

/// The name that asks for everything.
pub(super) const EVERYTHING: &str = "*";

/// What is wanted of one type.
#[derive(Debug, Default)]
pub(super) struct Interest {
    everything: Everything,
    names: BTreeSet<Arc<str>>,
    /// Those of them that are sent without having been asked for; asking for one the first time is no complaint.
    implied: BTreeSet<Arc<str>>,
    /// Whether the client has spoken of this type.
    spoken: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Everything {
    #[default]
    No,
    /// Asked for by a first request without names; in state of the world it lasts until names are given.
    Implied,
    /// Asked for as `*`.
    Named,
}

impl Interest {
    /// Whether the client takes this type: it has spoken of it, or gets some of it unasked.
    pub(super) fn is_open(&self) -> bool {
        self.spoken || !self.implied.is_empty()
    }

    pub(super) fn wants_everything(&self) -> bool {
        self.everything != Everything::No
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.wants_everything() || self.names.contains(name)
    }

    /// Whether the client asked for this very name, and so wants to know that it does not exist.
    pub(super) fn named(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether a name is sent though the client did not ask for it.
    pub(super) fn is_implied(&self, name: &str) -> bool {
        self.implied.contains(name)
    }

    /// Counts a name as asked for; returns whether it was not.
    pub(super) fn imply(&mut self, name: &Arc<str>) -> bool {
        let new = self.names.insert(name.clone());
        if new {
            self.implied.insert(name.clone());
        }
        new
    }

    pub(super) fn names(&self) -> &BTreeSet<Arc<str>> {
        &self.names
    }

    /// Applies a delta request; returns whether this is the first of the type.
    pub(super) fn change(&mut self, kind: Kind, subscribe: &[String], unsubscribe: &[String]) -> bool {
        let first = !self.spoken;
        self.spoken = true;
        if first && subscribe.is_empty() && may_imply_everything(kind) {
            self.everything = Everything::Implied;
        }
        for name in unsubscribe {
            if name == EVERYTHING {
                self.everything = Everything::No;
            }
            self.names.remove(name.as_str());
            self.implied.remove(name.as_str());
        }
        for name in subscribe {
            if name == EVERYTHING {
                self.everything = Everything::Named;
            } else {
                self.implied.remove(name.as_str());
                self.names.insert(name.as_str().into());
            }
        }
        first
    }

    /// Applies a state-of-the-world request; returns whether anything new is wanted.
    pub(super) fn replace(&mut self, kind: Kind, names: &[String]) -> bool {
        let first = !self.spoken;
        self.spoken = true;
        let everything = match self.everything {
            _ if names.iter().any(|name| name == EVERYTHING) => Everything::Named,
            _ if first && names.is_empty() && may_imply_everything(kind) => Everything::Implied,
            Everything::Implied if names.is_empty() => Everything::Implied,
            _ => Everything::No,
        };
        let wanted: BTreeSet<Arc<str>> =
            names.iter().filter(|name| *name != EVERYTHING).map(|name| name.as_str().into()).collect();
        let more = first
            || (everything != Everything::No && self.everything == Everything::No)
            || !wanted.is_subset(&self.names);
        self.everything = everything;
        self.implied.clear();
        self.names = wanted;
        more
    }
}

/// A first request without names means everything, for the two types of the protocol that know a wildcard. Endpoints
/// and routes are wildcards only as `*`: Envoy's first request for them may name nothing and mean nothing.
fn may_imply_everything(kind: Kind) -> bool {
    matches!(kind, Kind::Cluster | Kind::Listener)
}
