//! What a client has of one type, and what it refused. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::resource::Resource;

/// Resources refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The client's words.
    pub message: Arc<str>,
    /// Documents that shaped the refused resources, sorted.
    pub documents: Vec<Arc<str>>,
}

/// What a client has of one type, by name.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    held: BTreeMap<Arc<str>, Holding>,
    /// What it refused and does not run; each name is held too.
    refused: BTreeMap<Arc<str>, Refused>,
}

#[derive(Debug)]
struct Holding {
    state: State,
    /// Newest version that the client took; what a full state-of-the-world response repeats while a newer one is
    /// refused or not due yet.
    good: Option<Arc<Resource>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It runs this version.
    Version(u64),
    /// It knows that the name does not exist.
    Missing,
    /// It refused a response, and may have taken part of it.
    Unknown,
}

#[derive(Debug)]
struct Refused {
    version: u64,
    message: Arc<str>,
    documents: Arc<[Arc<str>]>,
}

impl Holdings {
    /// Whether anything is known of a name at the client.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.held.contains_key(name)
    }

    pub(super) fn has_refused(&self, name: &str) -> bool {
        self.refused.contains_key(name)
    }

    pub(super) fn is_without_refusals(&self) -> bool {
        self.refused.is_empty()
    }

    /// Whether the client has another version, or none, and did not refuse this one.
    pub(super) fn lacks(&self, resource: &Resource) -> bool {
        let Some(holding) = self.held.get(&resource.name) else { return true };
        let refused = self.refused.get(&resource.name).is_some_and(|it| it.version == resource.version);
        holding.state != State::Version(resource.version) && !refused
    }

    /// Names of what the client has, or may have.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.held.iter().filter(|(_, holding)| holding.state != State::Missing).map(|(name, _)| name)
    }

    /// What the client says it has from an earlier stream; a version that is none of ours is no version.
    pub(super) fn declare(&mut self, name: Arc<str>, version: &str) {
        let version = u64::from_str_radix(version, 16);
        self.held.insert(name, Holding { state: version.map_or(State::Unknown, State::Version), good: None });
    }

    /// The client took a resource.
    pub(super) fn accept(&mut self, resource: Arc<Resource>) {
        self.refused.remove(&resource.name);
        let (name, state) = (resource.name.clone(), State::Version(resource.version));
        self.held.insert(name, Holding { state, good: Some(resource) });
    }

    /// The client refused the response that a resource came in, and may have taken it or not.
    pub(super) fn doubt(&mut self, resource: &Resource) {
        let unknown = Holding { state: State::Unknown, good: None };
        self.held.entry(resource.name.clone()).or_insert(unknown).state = State::Unknown;
    }

    /// The client refused a resource: it is not sent again until it changes.
    pub(super) fn refuse(&mut self, resource: &Resource, message: &Arc<str>) {
        self.doubt(resource);
        let refused = Refused {
            version: resource.version,
            message: message.clone(),
            documents: resource.documents.clone(),
        };
        self.refused.insert(resource.name.clone(), refused);
    }

    /// The client was told that a name does not exist.
    pub(super) fn set_missing(&mut self, name: Arc<str>) {
        self.refused.remove(&name);
        self.held.insert(name, Holding { state: State::Missing, good: None });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.refused.remove(name);
        self.held.remove(name);
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.refused.retain(|name, _| wanted(name));
        self.held.retain(|name, _| wanted(name));
    }

    /// What is refused, by reason.
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let mut by_message: BTreeMap<&Arc<str>, BTreeSet<&Arc<str>>> = BTreeMap::new();
        for refused in self.refused.values() {
            by_message.entry(&refused.message).or_default().extend(refused.documents.iter());
        }
        let refusal = |(message, documents): (&Arc<str>, BTreeSet<&Arc<str>>)| Refusal {
            message: message.clone(),
            documents: documents.into_iter().cloned().collect(),
        };
        by_message.into_iter().map(refusal).collect()
    }

    /// Everything that the client is to have after a response: the changes, and for the rest what it has.
    pub(super) fn in_full(
        &self,
        find: impl Fn(&str) -> Option<Arc<Resource>>,
        changed: &[Arc<Resource>],
        gone: &[Arc<str>],
    ) -> Vec<Arc<Resource>> {
        let gone: BTreeSet<&Arc<str>> = gone.iter().collect();
        let kept = self.held.iter().filter(|(name, _)| !gone.contains(name)).filter_map(|(name, holding)| {
            let same = find(name).filter(|found| holding.state == State::Version(found.version));
            Some((name, same.or_else(|| holding.good.clone())?))
        });
        let mut all: BTreeMap<&Arc<str>, Arc<Resource>> = kept.collect();
        all.extend(changed.iter().map(|resource| (&resource.name, resource.clone())));
        all.into_values().collect()
    }
}

/// The names of a response that a refusal names; none where it names no one.
pub(super) fn culprits<'a>(message: &str, sent: &'a [Arc<Resource>]) -> BTreeSet<&'a Arc<str>> {
    sent.iter().map(|resource| &resource.name).filter(|name| mentions(message, name)).collect()
}

/// Whether a message names a resource: as a whole word, so that `api` is not found in `api-v2`.
fn mentions(message: &str, name: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '|');
    !name.is_empty()
        && message.match_indices(name).any(|(at, _)| {
            let before = message[..at].chars().next_back();
            let mut after = message[at + name.len()..].chars();
            let ends = match after.next() {
                Some('.') => !after.next().is_some_and(part_of_name),
                Some(next) => !part_of_name(next),
                None => true,
            };
            ends && !before.is_some_and(|c| part_of_name(c) || c == '.')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_mentioned_as_a_whole_word() {
        for (message, expected) in [
            ("api: bad", true),
            ("cluster 'api' is bad.", true),
            ("the culprit is api.", true),
            ("api-v2: bad", false),
            ("api.default: bad", false),
            ("outbound|80||api: bad", false),
            ("", false),
        ] {
            assert_eq!(mentions(message, "api"), expected, "{message}");
        }
    }
}
