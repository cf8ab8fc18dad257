//! What a lens sees otherwise than a stranger does: services with other destination rules, ports with other routes. All
//! else is shared with everybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::{
    World,
    lens::{Lens, LensKey},
    rules::Rules,
    services::{self, Compiled, Services},
    tables::{OtherHost, Ports},
};
use crate::{
    documents::{DocumentSet, attach::Attachments},
    model::ServiceKey,
    resource::Resource,
};

/// The differences of one lens.
#[derive(Debug)]
pub(crate) struct Perspective {
    pub(crate) lens: Lens,
    /// Services whose clusters differ.
    pub(crate) compiled: BTreeMap<ServiceKey, Arc<Compiled>>,
    /// Ports whose tables differ.
    pub(crate) ports: Ports,
    /// Every host of virtual services that is no service.
    pub(crate) others: Arc<[OtherHost]>,
    /// The table that routes by host, once asked for.
    pub(crate) by_host: OnceLock<Arc<Resource>>,
}

impl Perspective {
    /// Of a world. `before` is the same lens' perspective of an earlier world, whose allocations are kept where they say
    /// the same.
    pub(crate) fn new(world: &World, lens: Lens, before: Option<&Self>) -> Self {
        let mut compiled = BTreeMap::new();
        let mesh_wide = services::MeshWide {
            locality: &world.locality,
            domains: &world.domains,
            takes: &world.takes,
            logs: &world.mesh_logs,
        };
        for (key, service) in &world.services {
            let Some(common) = world.compiled.get(key) else { continue };
            let documents = services::documents(service, &lens, &world.rules, &world.checks);
            if !common.has_rules(&documents) {
                let known = before.and_then(|before| before.compiled.get(key)).unwrap_or(common);
                compiled.insert(key.clone(), services::compile(service, documents, mesh_wide, Some(known)));
            }
        }
        let known = before.map(|before| &before.ports);
        let (ports, others) = world.tables.seen_through(world.table_source(&lens), known);
        Self { lens, compiled, ports, others, by_host: OnceLock::new() }
    }

    /// The same after a change of endpoints alone; adds the services that changed.
    pub(crate) fn following(
        &self,
        services: &Services,
        changed: &[Arc<Compiled>],
        changes: &mut Vec<Arc<Compiled>>,
    ) -> Self {
        let mut compiled = self.compiled.clone();
        for key in changed.iter().map(|now| now.key()) {
            if let (Some(of), Some(service)) = (compiled.get_mut(key), services.get(key)) {
                *of = of.with(service);
                changes.push(of.clone());
            }
        }
        Self {
            lens: self.lens.clone(),
            compiled,
            ports: self.ports.clone(),
            others: self.others.clone(),
            by_host: self.by_host.clone(),
        }
    }
}

/// The perspectives in use.
#[derive(Debug, Default)]
pub(crate) struct Perspectives {
    /// Namespaces whose clients may see what strangers do not.
    special: BTreeSet<Arc<str>>,
    /// Of this world,
    current: Mutex<BTreeMap<LensKey, Arc<Perspective>>>,
    /// and of the one before.
    before: BTreeMap<LensKey, Arc<Perspective>>,
}

impl Perspectives {
    /// Those of a world with other documents or names: each is made when it is asked for.
    pub(crate) fn anew(previous: &Self, used: &BTreeSet<LensKey>, special: BTreeSet<Arc<str>>) -> Self {
        let mut before = previous.before.clone();
        before.extend(previous.lock().iter().map(|(key, of)| (key.clone(), of.clone())));
        before.retain(|key, _| used.contains(key));
        Self { special, current: Mutex::default(), before }
    }

    /// Those of a world in which only endpoints changed, with the services that changed in each.
    pub(crate) fn following(
        previous: &Self,
        used: &BTreeSet<LensKey>,
        services: &Services,
        changed: &[Arc<Compiled>],
    ) -> (Self, BTreeMap<LensKey, Vec<Arc<Compiled>>>) {
        let (mut current, mut exchanged) = (BTreeMap::new(), BTreeMap::new());
        for (key, perspective) in previous.lock().iter().filter(|(key, _)| used.contains(key)) {
            let mut changes = Vec::new();
            current.insert(key.clone(), Arc::new(perspective.following(services, changed, &mut changes)));
            exchanged.insert(key.clone(), changes);
        }
        let special = previous.special.clone();
        (Self { special, current: Mutex::new(current), before: previous.before.clone() }, exchanged)
    }

    /// The perspective of a lens; none where it sees what strangers see.
    pub(crate) fn of(&self, world: &World, lens: Lens) -> Option<Arc<Perspective>> {
        if !lens.is_narrow() && !lens.is_labelled() && !self.special.contains(&lens.namespace) {
            return None;
        }
        let key = lens.key();
        if let Some(found) = self.lock().get(&key) {
            return Some(found.clone());
        }
        let before = self.before.get(&key).map(|before| &**before);
        let made = Arc::new(Perspective::new(world, lens, before));
        Some(self.lock().entry(key).or_insert(made).clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LensKey, Arc<Perspective>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Namespaces whose clients may see what strangers do not: documents are exported to them and not to all, rules are meant
/// for them, or they have destination rules or routes of the Gateway API, which count for their own clients first.
pub(crate) fn special(
    documents: &DocumentSet,
    rules: &Rules,
    attachments: &Attachments,
) -> BTreeSet<Arc<str>> {
    let exported = documents.iter().flat_map(|document| {
        let home = &*document.namespace;
        document.export_to().into_iter().flat_map(move |export| export.namespaces(home))
    });
    let own = rules.namespaces().cloned().chain(attachments.consumer_namespaces());
    let sources = documents.virtual_services().flat_map(|(_, rule)| rule.sources());
    let meant = sources.filter_map(|source| source.namespace.clone());
    exported.map(Arc::from).chain(own).chain(meant).collect()
}
