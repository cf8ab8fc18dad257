//! A set of objects, and what differs between two of them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{DOUBTFUL_DROP_MIN, OBJECTS_MAX, StepError};
use crate::{
    model::{Endpoint, ServiceKey},
    registry::fact::{DocumentFact, EndpointFact, Gone, Object, Replaces, ServiceFact},
    store::DocumentKey,
};

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

/// Names of objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) services: BTreeSet<ServiceKey>,
    pub(super) endpoints: BTreeSet<Arc<str>>,
    pub(super) documents: BTreeSet<DocumentKey>,
}

impl Names {
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.endpoints.is_empty() && self.documents.is_empty()
    }

    pub(super) fn remove(&mut self, name: &Gone) {
        match name {
            Gone::Service(key) => self.services.remove(key),
            Gone::Endpoint(id) => self.endpoints.remove(id),
            Gone::Document(key) => self.documents.remove(key),
        };
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

    pub(super) fn insert(&mut self, object: Object) -> Result<Changed, StepError> {
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
                    self.add_endpoint(fact);
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

    pub(super) fn remove(&mut self, gone: &Gone) -> Changed {
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

    fn add_endpoint(&mut self, fact: EndpointFact) {
        let id = fact.endpoint.id.clone();
        self.members.entry(fact.service.clone()).or_default().insert(id.clone());
        self.endpoints.insert(id, fact);
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

    /// Removes what is named; the services among it count as changed even where only their endpoints go.
    pub(super) fn remove_all(&mut self, names: &Names) -> Changed {
        let mut changed = Changed::default();
        for id in &names.endpoints {
            changed.services.extend(self.remove_endpoint(id));
        }
        for key in &names.services {
            changed.absorb(self.remove(&Gone::Service(key.clone())));
        }
        for key in &names.documents {
            changed.absorb(self.remove(&Gone::Document(key.clone())));
        }
        changed
    }

    /// Whether `next` lacks more than half and at least five of these endpoints, leaves a service that had some without
    /// any, or lacks a document.
    pub(super) fn shrinks_much(&self, next: &Self) -> bool {
        let dropped = self.endpoints.keys().filter(|id| !next.endpoints.contains_key(*id)).count();
        let many = dropped >= DOUBTFUL_DROP_MIN && dropped * 2 > self.endpoints.len();
        many || self.members.keys().any(|key| !next.members.contains_key(key))
            || self.documents.keys().any(|key| !next.documents.contains_key(key))
    }

    /// Adds to `next` what it lacks of these facts, endpoints marked stale; answers what that is.
    pub(super) fn keep_missing(&self, next: &mut Self) -> Names {
        let mut kept = Names::default();
        for (key, fact) in &self.services {
            if !next.services.contains_key(key) {
                next.services.insert(key.clone(), fact.clone());
                kept.services.insert(key.clone());
            }
        }
        for (id, fact) in &self.endpoints {
            if !next.endpoints.contains_key(id) {
                let endpoint = Arc::new(Endpoint { stale: true, ..Endpoint::clone(&fact.endpoint) });
                next.add_endpoint(EndpointFact { endpoint, ..fact.clone() });
                kept.endpoints.insert(id.clone());
            }
        }
        for (key, fact) in &self.documents {
            if !next.documents.contains_key(key) {
                next.documents.insert(key.clone(), fact.clone());
                kept.documents.insert(key.clone());
            }
        }
        kept
    }

    /// Adds to `next` what a refused object would have replaced.
    pub(super) fn keep_replaced(&self, next: &mut Self, replaced: &Replaces) {
        match replaced {
            Replaces::One(Gone::Service(key)) => {
                if let Some(fact) = self.services.get(key) {
                    next.services.entry(key.clone()).or_insert_with(|| fact.clone());
                }
            }
            Replaces::One(Gone::Endpoint(id)) => {
                if let Some(fact) = self.endpoints.get(id).filter(|_| !next.endpoints.contains_key(id)) {
                    next.add_endpoint(fact.clone());
                }
            }
            Replaces::One(Gone::Document(key)) => {
                if let Some(fact) = self.documents.get(key) {
                    next.documents.entry(key.clone()).or_insert_with(|| fact.clone());
                }
            }
            Replaces::DocumentsOf(origin) => {
                for (key, fact) in self.documents.iter().filter(|(_, fact)| fact.text.origin == *origin) {
                    next.documents.entry(key.clone()).or_insert_with(|| fact.clone());
                }
            }
        }
    }

    /// The document as it follows the one that it replaces: it keeps its age and, where it cannot be read itself, the
    /// last text that could.
    pub(super) fn succeed(&self, fact: DocumentFact, now_seconds: i64) -> DocumentFact {
        let known = self.documents.get(&fact.key);
        let since_seconds = known.map_or(now_seconds, |known| known.since_seconds);
        let good = fact.complaint.as_ref().and_then(|_| known?.readable().cloned());
        DocumentFact { since_seconds, good, ..fact }
    }

    /// What differs between these facts and the next ones.
    pub(super) fn difference(&self, next: &Self) -> Changed {
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

pub(super) fn name_of(object: &Object) -> Gone {
    match object {
        Object::Service(fact) => Gone::Service(fact.key.clone()),
        Object::Endpoint(fact) => Gone::Endpoint(fact.endpoint.id.clone()),
        Object::Document(fact) => Gone::Document(fact.key.clone()),
    }
}
