//! One stream's state: what the client asked for, holds and refused, and what it must be sent next. Pure: requests and
//! worlds come in, responses come out; `ads/wire.rs` speaks the protobuf and `ads.rs` owns the stream.
//!
//! Order (make before break), for each new world:
//! ```text
//! clusters, endpoints  ->  acknowledged  ->  listeners, routes  ->  acknowledged  ->  routes, endpoints, clusters leave
//! ```
//! Virtual hosts on demand come last of the additions, and do not wait for acknowledgements: a request waits for them.
//! One response of a type is in flight at a time; worlds that arrive meanwhile coalesce into the next one.

use std::{collections::HashMap, sync::Arc};

use crate::resource::{Asked, Kind, Resource, ResourceSet};

mod holdings;
mod interest;
#[cfg(test)]
mod tests;
mod watch;

pub use holdings::Refusal;
use watch::{Removals, Watch};

/// Names that one client may subscribe to, and versions it may declare, for each type.
pub const NAMES_MAX: usize = 65_536;

/// Encoded resources in one response, in bytes, where the protocol lets us split: half of what a gRPC client takes by
/// default (4 MiB). A single larger resource travels alone.
pub const RESPONSE_BYTES_MAX: usize = 2 << 20;

/// The two forms of ADS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Changes only; removals by name.
    Delta,
    /// State of the world: a response lists clusters and listeners in full, endpoints and routes as far as they changed.
    Sotw,
}

/// A client's message about one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The type.
    pub kind: Kind,
    /// Nonce of the response that it answers; empty for a subscription.
    pub nonce: String,
    /// Why that response was refused.
    pub error: Option<String>,
    /// What it asks for.
    pub names: Names,
}

/// The names of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// State of the world: all names wanted now.
    All(Vec<String>),
    /// Delta: changes to the names wanted.
    Change {
        /// Names added; `*` is everything.
        subscribe: Vec<String>,
        /// Names dropped.
        unsubscribe: Vec<String>,
        /// Versions that the client holds from an earlier stream.
        initial: HashMap<String, String>,
    },
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The type.
    pub kind: Kind,
    /// Revision of the world that it was made from.
    pub revision: u64,
    /// Identifies it on this stream.
    pub nonce: u64,
    /// Resources, by name.
    pub resources: Vec<Arc<Resource>>,
    /// Names that do not exist, or no longer. Delta only.
    pub removed: Vec<Arc<str>>,
}

/// A client that asks for too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {NAMES_MAX} names of {}; subscribe to \"*\" instead", kind.type_url())]
pub struct TooManyNames {
    /// The type.
    pub kind: Kind,
}

/// One stream.
#[derive(Debug)]
pub struct Session {
    watches: [Watch; Kind::ALL.len()],
    asked: Asked,
    set: Arc<ResourceSet>,
    revision: u64,
    nonces: u64,
    /// Whether endpoints come with their cluster, before they are asked for.
    accompanies: bool,
}

impl Session {
    /// A new stream that will be served from `set`.
    pub fn new(protocol: Protocol, set: Arc<ResourceSet>, revision: u64) -> Self {
        let watches = Kind::ALL.map(|kind| Watch::new(kind, protocol));
        Self { watches, asked: Asked::default(), set, revision, nonces: 0, accompanies: false }
    }

    /// Whether clusters come with their endpoints, so that what is asked for on demand is there after one round trip.
    pub fn accompanied(self, accompanies: bool) -> Self {
        Self { accompanies, ..self }
    }

    /// Takes a subscription, ACK or NACK. Whether the client now asks for other names than before, so that the set to serve
    /// it from is another; [`Self::handle_world`] takes that, else [`Self::advance`] goes on.
    pub fn take(&mut self, request: Request) -> Result<bool, TooManyNames> {
        let kind = request.kind;
        self.watch_mut(kind).take(request)?;
        let names = self.watches[kind as usize].names();
        let before = match kind {
            Kind::Listener => &mut self.asked.listeners,
            Kind::VirtualHost => &mut self.asked.hosts,
            Kind::Cluster | Kind::Endpoints | Kind::Secret | Kind::Routes | Kind::Names => return Ok(false),
        };
        if before == names {
            return Ok(false);
        }
        before.clone_from(names);
        Ok(true)
    }

    /// What the client asks for by name.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Takes a newer world.
    pub fn handle_world(&mut self, set: Arc<ResourceSet>, revision: u64) -> Vec<Response> {
        for kind in Kind::ALL {
            if !self.set.shares(kind, &set) {
                self.watch_mut(kind).touch();
            }
        }
        self.set = set;
        self.revision = revision;
        self.advance()
    }

    /// Newest revision that the client runs whole: for each subscribed type it acknowledged that revision, or the
    /// revision did not concern it. 0 before the first acknowledgement.
    pub fn acked_revision(&self) -> u64 {
        self.watches.iter().filter(|watch| watch.is_open()).map(Watch::acked).min().unwrap_or(0)
    }

    /// Whether the client owes an answer to some response.
    pub fn owes_answer(&self) -> bool {
        self.watches.iter().any(Watch::is_in_flight)
    }

    /// Whether the client has everything that it may have now, refused or not.
    pub fn is_settled(&self) -> bool {
        self.watches.iter().all(Watch::is_settled)
    }

    /// What the client refused and still does not run.
    pub fn refusals(&self) -> impl Iterator<Item = (Kind, Refusal)> {
        self.watches.iter().flat_map(|watch| watch.refusals().into_iter().map(|r| (watch.kind(), r)))
    }

    fn watch(&self, kind: Kind) -> &Watch {
        &self.watches[kind as usize]
    }

    fn watch_mut(&mut self, kind: Kind) -> &mut Watch {
        &mut self.watches[kind as usize]
    }

    /// Sends whatever may be sent now: additions in order, then removals in reverse.
    pub fn advance(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        for kind in Kind::ALL {
            if self.may_add(kind) {
                // Whatever replaces a listener may bind its address, so listeners come and go in one response.
                let removals = if kind == Kind::Listener { Removals::Now } else { Removals::Later };
                responses.extend(self.offer(kind, removals));
            } else {
                let set = self.set.clone();
                self.watch_mut(kind).glance(&set);
            }
        }
        for kind in Kind::ALL.into_iter().rev() {
            if self.may_remove(kind) {
                responses.extend(self.offer(kind, Removals::Now));
            }
        }
        for watch in &mut self.watches {
            watch.note_revision(self.revision);
        }
        responses
    }

    fn offer(&mut self, kind: Kind, removals: Removals) -> Option<Response> {
        let set = self.set.clone();
        let (revision, nonce, accompanies) = (self.revision, self.nonces + 1, self.accompanies);
        let offered = self.watch_mut(kind).offer(&set, revision, nonce, removals)?;
        self.nonces = nonce;
        if kind == Kind::Cluster {
            // Envoy warms an updated cluster until its endpoints come again, though they are unchanged and it does
            // not ask. A load assignment bears the name of its cluster.
            for name in &offered.updated {
                self.watch_mut(Kind::Endpoints).resend(name);
            }
            for resource in offered.response.resources.iter().filter(|_| accompanies) {
                if set.find(Kind::Endpoints, &resource.name).is_some() {
                    self.watch_mut(Kind::Endpoints).imply(&resource.name);
                }
            }
        }
        Some(offered.response)
    }

    /// Listeners and routes wait until the clusters and endpoints that they may name are there. Endpoints do not wait
    /// for the clusters' ACK: Envoy asks for them before it sends that.
    fn may_add(&self, kind: Kind) -> bool {
        match kind {
            Kind::Cluster | Kind::Endpoints | Kind::Secret => true,
            Kind::Listener | Kind::Routes => {
                [Kind::Cluster, Kind::Endpoints].into_iter().all(|kind| self.watch(kind).is_added())
            }
            // Clients ask for them first, so that no cluster that they lead to is taken for one that nobody needs.
            Kind::VirtualHost => {
                self.watch(Kind::Cluster).is_open()
                    && [Kind::Cluster, Kind::Endpoints].into_iter().all(|kind| self.watch(kind).is_sent())
            }
            Kind::Names => Kind::ALL[..Kind::Names as usize].iter().all(|kind| self.watch(*kind).is_added()),
        }
    }

    /// Nothing leaves while something that may name it is still to change.
    fn may_remove(&self, kind: Kind) -> bool {
        match kind {
            Kind::Listener => false,
            Kind::Names => self.may_add(kind),
            Kind::Routes => self.may_add(kind) && self.watch(Kind::Listener).is_added(),
            Kind::VirtualHost => self.may_add(kind) && self.watch(Kind::Routes).is_added(),
            Kind::Cluster | Kind::Endpoints | Kind::Secret => {
                [Kind::Listener, Kind::Routes, Kind::VirtualHost]
                    .into_iter()
                    .all(|kind| self.watch(kind).is_added())
            }
        }
    }
}
