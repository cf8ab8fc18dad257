//! The scopes that proxies asked for, kept from world to world: taken over where only endpoints changed, and otherwise
//! the measure of what a scope compiled anew has in common with itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use weft_proto::node::NodeMetadata;

use super::{
    lens::LensKey,
    services::{self, Compiled, Viewer},
};
use crate::resource::{Asked, ResourceSet};

/// Scopes that are kept; more are compiled again each time that a proxy asks.
const SCOPES_MAX: usize = 4096;

/// Worlds through which a scope is kept that no proxy asks for: a stream that is busy may miss some.
const IDLE_WORLDS_MAX: u32 = 16;

#[derive(Debug, Default)]
pub(crate) struct Scopes {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By metadata, then by what is asked for.
    kept: BTreeMap<Arc<NodeMetadata>, BTreeMap<Asked, Kept>>,
    recompiled: usize,
}

/// Services of which only resources changed, not their names.
#[derive(Debug)]
pub(crate) struct Exchanged {
    /// As strangers see them,
    pub(crate) common: Vec<Arc<Compiled>>,
    /// and, through each lens in use, those that it sees otherwise.
    pub(crate) by_lens: BTreeMap<LensKey, Vec<Arc<Compiled>>>,
}

#[derive(Clone, Debug)]
struct Kept {
    set: Arc<ResourceSet>,
    /// The lens that it is seen through; none is a stranger's.
    lens: Option<LensKey>,
    /// Whether the set is of this world, not of an earlier one.
    current: bool,
    idle_worlds: u32,
}

impl Exchanged {
    /// What changed as it is seen through a lens; none where that is not known.
    fn seen_through(&self, lens: Option<&LensKey>) -> Option<impl Iterator<Item = &Arc<Compiled>>> {
        let own = match lens {
            Some(lens) => self.by_lens.get(lens)?.as_slice(),
            None => &[],
        };
        let common = self.common.iter().filter(|now| !own.iter().any(|own| own.key() == now.key()));
        Some(common.chain(own))
    }
}

impl Scopes {
    /// The scopes of the next world. Where all that changed is some services' resources, not their names, their
    /// scopes are current at once; otherwise each is compiled when it is asked for.
    pub(crate) fn following(previous: &Self, exchanged: Option<&Exchanged>) -> Self {
        let mut kept = previous.lock().kept.clone();
        kept.retain(|_, of_node| {
            of_node.retain(|_, kept| kept.idle_worlds < IDLE_WORLDS_MAX);
            !of_node.is_empty()
        });
        let all = kept.iter_mut().flat_map(|(node, of_node)| of_node.iter_mut().map(move |of| (node, of)));
        for (node, (asked, kept)) in all {
            let viewer = Viewer::of(node, asked);
            kept.idle_worlds += 1;
            let exchanged = exchanged.and_then(|exchanged| exchanged.seen_through(kept.lens.as_ref()));
            match exchanged {
                Some(exchanged) if kept.current => {
                    exchanged.for_each(|now| services::exchange(&mut kept.set, viewer, now));
                }
                _ => kept.current = false,
            }
        }
        Self { inner: Mutex::new(Inner { kept, recompiled: 0 }) }
    }

    /// The scope of a node that asks for some names.
    pub(crate) fn find_or_compile(
        &self,
        node: &NodeMetadata,
        asked: &Asked,
        compile: impl FnOnce() -> (Option<LensKey>, ResourceSet),
    ) -> Arc<ResourceSet> {
        let before = {
            let mut inner = self.lock();
            match inner.kept.get_mut(node).and_then(|of_node| of_node.get_mut(asked)) {
                Some(kept) if kept.current => {
                    kept.idle_worlds = 0;
                    return kept.set.clone();
                }
                kept => kept.map(|kept| kept.set.clone()),
            }
        };
        let (lens, set) = compile();
        let set = match before {
            Some(before) => set.sharing(&before),
            None => Arc::new(set),
        };
        let mut inner = self.lock();
        inner.recompiled += 1;
        let kept = Kept { set: set.clone(), lens, current: true, idle_worlds: 0 };
        let room = inner.kept.values().map(BTreeMap::len).sum::<usize>() < SCOPES_MAX;
        match inner.kept.get_mut(node) {
            Some(of_node) if room || of_node.contains_key(asked) => {
                of_node.insert(asked.clone(), kept);
            }
            None if room => {
                inner.kept.insert(Arc::new(node.clone()), BTreeMap::from([(asked.clone(), kept)]));
            }
            Some(_) | None => {}
        }
        set
    }

    /// The lenses that scopes are seen through.
    pub(crate) fn lenses(&self) -> BTreeSet<LensKey> {
        let inner = self.lock();
        inner.kept.values().flat_map(BTreeMap::values).filter_map(|kept| kept.lens.clone()).collect()
    }

    /// Scopes compiled in this world.
    pub(crate) fn recompiled(&self) -> usize {
        self.lock().recompiled
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
