//! One priority: who of it may be picked at the moment, and by what. Pure.

use std::{ops::Range, sync::Arc};

use rand::Rng;

use super::{
    Gauges, Policy,
    group::Group,
    priority::{Census, Share},
    rotation::Rotation,
    table::Table,
};

/// Whether an endpoint may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Healthy,
    /// When the healthy ones are too few.
    Degraded,
    /// In panic only.
    Unhealthy,
    /// In panic only, and it does not count yet: its first health check is under way.
    Awaited,
    /// Never: what is under way finishes.
    Draining,
}

/// One priority's endpoints.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) localities: Vec<Locality>,
    /// The table, with the balancer's index of each of its endpoints, where hashes decide.
    pub(super) table: Option<(Arc<Table>, Vec<usize>)>,
    pub(super) share: Share,
    healthy: Chooser,
    degraded: Chooser,
}

/// One locality of a priority.
#[derive(Debug)]
pub(super) struct Locality {
    pub(super) weight: u32,
    /// Endpoints, by their index in the balancer.
    pub(super) members: Range<usize>,
}

#[derive(Debug, Default)]
enum Chooser {
    #[default]
    Nobody,
    /// A group, or one for each locality that has a share.
    Groups { turns: Rotation, groups: Vec<Group> },
    /// The table, and which of its endpoints may be used.
    Hashed(Vec<bool>),
}

/// What a level's choosers are made from.
pub(super) struct Making<'a, S, W, T> {
    pub(super) policy: &'a Policy,
    pub(super) overprovisioning_percent: u32,
    /// How endpoints stand.
    pub(super) standing: S,
    /// Their weights.
    pub(super) weight: W,
    /// The part of its weight that an endpoint gets by now.
    pub(super) warmth: T,
}

/// How often a pick is repeated to avoid an endpoint that was tried already, before all are looked through.
const AVOID_PICKS: usize = 4;

impl Level {
    pub(super) fn new(localities: Vec<Locality>, table: Option<(Arc<Table>, Vec<usize>)>) -> Self {
        Self {
            localities,
            table,
            share: Share::default(),
            healthy: Chooser::default(),
            degraded: Chooser::default(),
        }
    }

    /// Counts the endpoints as they stand. One without weight does not exist.
    pub(super) fn census(
        &self,
        by_weight: bool,
        standing: impl Fn(usize) -> Standing,
        weight: impl Fn(usize) -> u32,
    ) -> Census {
        let mut census = Census::default();
        for member in self.members().filter(|member| weight(*member) > 0) {
            let weight = if by_weight { u64::from(weight(member)) } else { 1 };
            census.hosts += 1;
            let standing = standing(member);
            if standing == Standing::Awaited {
                census.excluded += 1;
                continue;
            }
            census.weight += weight;
            match standing {
                Standing::Healthy => {
                    census.healthy += 1;
                    census.weight_healthy += weight;
                }
                Standing::Degraded => {
                    census.degraded += 1;
                    census.weight_degraded += weight;
                }
                Standing::Unhealthy | Standing::Awaited | Standing::Draining => {}
            }
        }
        census
    }

    /// Makes the choosers for the share that the level has.
    pub(super) fn choosers<S, W, T>(&mut self, making: &Making<'_, S, W, T>, rng: &mut impl Rng)
    where
        S: Fn(usize) -> Standing,
        W: Fn(usize) -> u32,
        T: Fn(usize) -> f64,
    {
        let standing = &making.standing;
        if self.share.panic {
            self.healthy = self.chooser(making, false, |member| standing(member) != Standing::Draining, rng);
            self.degraded = Chooser::Nobody;
        } else {
            let of = |wanted| move |member| standing(member) == wanted;
            self.healthy = self.chooser(making, true, of(Standing::Healthy), rng);
            self.degraded = self.chooser(making, true, of(Standing::Degraded), rng);
        }
    }

    fn chooser<S, W, T>(
        &self,
        making: &Making<'_, S, W, T>,
        by_locality: bool,
        may: impl Fn(usize) -> bool,
        rng: &mut impl Rng,
    ) -> Chooser
    where
        S: Fn(usize) -> Standing,
        W: Fn(usize) -> u32,
        T: Fn(usize) -> f64,
    {
        let may = |member: &usize| (making.weight)(*member) > 0 && may(*member);
        if let Some((_, members)) = &self.table {
            return Chooser::Hashed(members.iter().map(may).collect());
        }
        let mut group =
            |members: Vec<usize>| Group::new(making.policy, members, &making.weight, &making.warmth, rng);
        if by_locality && making.policy.locality_weighted {
            let mut weights = Vec::new();
            let mut groups = Vec::new();
            for locality in &self.localities {
                let members: Vec<_> = locality.members.clone().filter(may).collect();
                let weight = effective_weight(locality, members.len(), making);
                if weight > 0.0 {
                    weights.push(weight);
                    groups.push(group(members));
                }
            }
            // Where no locality has a weight they are one flat set, as in Envoy.
            if !groups.is_empty() {
                return Chooser::Groups { turns: Rotation::new(weights, rng), groups };
            }
        }
        let members: Vec<_> = self.members().filter(may).collect();
        if members.is_empty() {
            return Chooser::Nobody;
        }
        Chooser::Groups { groups: vec![group(members)], turns: Rotation::new(vec![1.0], rng) }
    }

    /// The one endpoint that can be picked, when there is only one.
    pub(super) fn sole(&self, degraded: bool) -> Option<usize> {
        match self.side(degraded) {
            Chooser::Groups { groups, .. } => match groups.as_slice() {
                [Group { members, .. }] if members.len() == 1 => members.first().copied(),
                _ => None,
            },
            Chooser::Nobody | Chooser::Hashed(_) => None,
        }
    }

    fn side(&self, degraded: bool) -> &Chooser {
        if degraded && !self.share.panic { &self.degraded } else { &self.healthy }
    }

    /// Picks one, another than those that were tried where there is one.
    pub(super) fn pick(
        &mut self,
        degraded: bool,
        hash: u64,
        warming: bool,
        warmth: impl Fn(usize) -> f64,
        gauges: &impl Gauges,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let chooser = if degraded && !self.share.panic { &mut self.degraded } else { &mut self.healthy };
        match chooser {
            Chooser::Nobody => None,
            Chooser::Hashed(usable) => {
                let (table, members) = self.table.as_ref()?;
                let picked = table.pick(hash, |i| usable[i], |i| gauges.tried(members[i]))?;
                Some(members[picked])
            }
            Chooser::Groups { turns, groups } => {
                let mut pick = || groups[turns.next(|_| 1.0)].pick(warming, &warmth, gauges, rng);
                let mut picked = pick();
                for _ in 0..AVOID_PICKS {
                    if !gauges.tried(picked) {
                        return Some(picked);
                    }
                    picked = pick();
                }
                let mut all = groups.iter().flat_map(|group| &group.members);
                Some(all.find(|member| !gauges.tried(**member)).copied().unwrap_or(picked))
            }
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = usize> + '_ {
        self.localities.iter().flat_map(|locality| locality.members.clone())
    }
}

/// A locality's weight, less what its endpoints that fail leave it, overprovisioning allowed for.
fn effective_weight<S, W, T>(locality: &Locality, eligible: usize, making: &Making<'_, S, W, T>) -> f64
where
    S: Fn(usize) -> Standing,
    W: Fn(usize) -> u32,
{
    let counts =
        |member: &usize| (making.weight)(*member) > 0 && (making.standing)(*member) != Standing::Awaited;
    let all = locality.members.clone().filter(counts).count();
    if all == 0 || eligible == 0 {
        return 0.0;
    }
    let ratio = f64::from(making.overprovisioning_percent) / 100.0 * eligible as f64 / all as f64;
    f64::from(locality.weight) * ratio.min(1.0)
}
