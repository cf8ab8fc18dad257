//! The client side of one delta ADS conversation: what is held, what is subscribed to, what to answer. Pure: the driver
//! in `xds` carries the messages.
//!
//! A listener or cluster that names something not yet received is warming: its predecessor, if there is one, stays live
//! until everything is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::take,
    sync::Arc,
};

use weft_proto::xds::{
    envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Wire},
    google::{protobuf::Any, rpc::Status},
};

use tokio::time::Instant;

use super::{
    decode::{Kind, Refusal, Resource, decode},
    demand::Demand,
    tables::Tables,
};
use crate::{
    spec::{Cluster, Discovery, HttpListener, Listener, ListenerProtocol, MeshHosts, RouteSource, Spec},
    tls::store,
};

/// gRPC's `INVALID_ARGUMENT`, the code of a NACK.
const INVALID_ARGUMENT: i32 = 3;
/// The name that asks for all resources of a type.
const EVERYTHING: &str = "*";
/// Longest NACK message, bytes: it travels in every retry.
const NACK_BYTES_MAX: usize = 4096;

/// A resource as received and as understood.
#[derive(Debug)]
struct Held {
    any: Any,
    version: String,
    value: Resource,
}

/// What is held and subscribed to.
#[derive(Debug, Default)]
pub struct Session {
    held: BTreeMap<Kind, BTreeMap<String, Held>>,
    subscribed: BTreeMap<Kind, BTreeSet<String>>,
    live_listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    live_clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// Secrets that the control plane does not have, or that were refused: nothing waits for them. What needs one is served
    /// without, which refuses connections.
    without: BTreeSet<String>,
    /// Whether the listeners were told.
    told: bool,
    /// Whether all that were told had what they name, at some moment of this or an earlier run.
    complete: bool,
    tables: Tables,
    /// Virtual hosts that requests need.
    demand: Demand,
    /// Those of them that do not exist.
    absent: Arc<BTreeSet<String>>,
    /// Names of the mesh, where they are asked for.
    hosts: MeshHosts,
    wants_names: bool,
}

/// What a response led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To be sent, in order: changed subscriptions, then the ACK or NACK. A control plane that waits for the ACK before it
    /// goes on to the next type so knows already what else this one led to.
    pub requests: Vec<DeltaDiscoveryRequest>,
    /// What was refused: name and reason. The good predecessor stays.
    pub refused: Vec<(String, Refusal)>,
    /// Whether `Session::spec` is another one now.
    pub changed: bool,
}

impl Session {
    /// Nothing held yet. `wants_names` asks for the names of the mesh too.
    pub fn new(wants_names: bool) -> Self {
        Self { wants_names, ..Self::default() }
    }

    /// Takes in what an earlier run saved; what no longer decodes is left out.
    pub fn restore(&mut self, resources: Vec<Wire>, now: Instant) {
        self.complete = true;
        for wire in resources {
            let kind = wire.resource.as_ref().and_then(|any| Kind::from_type_url(&any.type_url));
            if kind == Some(Kind::VirtualHost) && !self.demand.want(wire.name.clone(), now) {
                continue;
            }
            if let Some(kind) = kind {
                let _ = self.take_in(kind, wire);
            }
        }
        self.settle();
        self.settle_names();
        self.subscribed.clear();
    }

    /// Everything held, to be saved.
    pub fn saved(&self) -> Vec<Wire> {
        let held = self.held.values().flatten();
        held.map(|(name, held)| Wire {
            name: name.clone(),
            version: held.version.clone(),
            resource: Some(held.any.clone()),
            ..Default::default()
        })
        .collect()
    }

    /// The first requests of a new stream, one a kind; what is held is told, so that only changes come. Virtual hosts on
    /// demand are first: what the control plane lists as clusters hangs on them.
    pub fn open(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.subscribed = self.wanted();
        let mut requests = Vec::with_capacity(Kind::ALL.len());
        let mut kinds = Kind::ALL;
        kinds[..=Kind::VirtualHost as usize].rotate_right(1);
        for kind in kinds {
            let names = self.subscribed.get(&kind).cloned().unwrap_or_default();
            let wildcard = matches!(kind, Kind::Cluster | Kind::Listener);
            let everything = (kind == Kind::Names && self.wants_names).then(|| EVERYTHING.to_owned());
            let names: Vec<String> = names.into_iter().chain(everything).collect();
            if !wildcard && names.is_empty() {
                continue;
            }
            let held = self.held.get(&kind).into_iter().flatten();
            requests.push(DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                resource_names_subscribe: names,
                initial_resource_versions: held
                    .map(|(name, held)| (name.clone(), held.version.clone()))
                    .collect(),
                ..Default::default()
            });
        }
        requests
    }

    /// Asks for virtual hosts (`TABLE/HOST`) that requests need; says what to send, and how many there was no room for.
    pub fn demand(&mut self, names: Vec<String>, now: Instant) -> (Vec<DeltaDiscoveryRequest>, usize) {
        let refused = names.into_iter().filter(|name| !self.demand.want(name.clone(), now)).count();
        (self.resubscribe(), refused)
    }

    /// Lets go of virtual hosts that no request used for long, and of those that do not exist.
    pub fn expire(&mut self, now: Instant) -> Outcome {
        let held = self.held.get(&Kind::VirtualHost);
        let used = |name: &str| match held.and_then(|held| held.get(name)).map(|held| &held.value) {
            Some(Resource::VirtualHost(host)) => Some(host.used.as_ref().is_some_and(|used| used.take())),
            _ => None,
        };
        let mut outcome = Outcome::default();
        if self.demand.expire(now, used) {
            outcome.requests = self.resubscribe();
            Arc::make_mut(&mut self.absent).retain(|name| self.demand.contains(name));
            self.settle();
            outcome.changed = true;
        }
        outcome
    }

    /// Applies a response and says what to answer.
    pub fn receive(&mut self, response: DeltaDiscoveryResponse) -> Outcome {
        let mut outcome = Outcome::default();
        let mut answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce,
            ..Default::default()
        };
        let Some(kind) = Kind::from_type_url(&response.type_url) else {
            answer.error_detail = Some(nack(format!("{:?} was not asked for", response.type_url)));
            outcome.requests.push(answer);
            return outcome;
        };
        for wire in response.resources {
            let name = wire.name.clone();
            if kind == Kind::VirtualHost && self.absent.contains(&name) {
                Arc::make_mut(&mut self.absent).remove(&name);
            }
            match self.take_in(kind, wire) {
                Ok(changed) => outcome.changed |= changed,
                Err(refusal) => outcome.refused.push((name, refusal)),
            }
        }
        let held = self.held.entry(kind).or_default();
        for name in &response.removed_resources {
            outcome.changed |= held.remove(name).is_some();
            if kind == Kind::VirtualHost && self.demand.contains(name) {
                outcome.changed |= Arc::make_mut(&mut self.absent).insert(name.clone());
            }
        }
        if kind == Kind::Secret {
            // What waited for them goes on without.
            let refused = outcome.refused.iter().map(|(name, _)| name);
            for name in response.removed_resources.iter().chain(refused) {
                outcome.changed |= self.without.insert(name.clone());
            }
        }
        self.told |= kind == Kind::Listener;
        if !outcome.refused.is_empty() {
            let lines =
                outcome.refused.iter().map(|(name, refusal)| format!("{} {name:?}: {refusal}", kind.word()));
            answer.error_detail = Some(nack(lines.collect::<Vec<_>>().join("\n")));
        }
        let complete = self.complete;
        self.settle();
        outcome.changed |= self.complete != complete;
        if kind == Kind::Names && outcome.changed {
            self.settle_names();
        }
        outcome.requests = self.resubscribe();
        outcome.requests.push(answer);
        outcome
    }

    /// What to run now.
    pub fn spec(&self) -> Spec {
        let mut spec = Spec {
            listeners: self.live_listeners.clone(),
            clusters: self.live_clusters.clone(),
            complete: self.complete,
            absent: self.absent.clone(),
            hosts: self.hosts.clone(),
            ..Default::default()
        };
        for held in self.held.values().flat_map(BTreeMap::values) {
            match &held.value {
                Resource::Routes(routes) => {
                    spec.routes.insert(routes.name.clone(), self.tables.of(routes).clone());
                }
                Resource::Endpoints(name, set) => {
                    spec.endpoints.insert(name.clone(), set.clone());
                }
                Resource::Secret(name, secret) => {
                    spec.secrets.insert(name.clone(), secret.clone());
                }
                Resource::Cluster(_)
                | Resource::Listener(_)
                | Resource::VirtualHost(_)
                | Resource::Names(_) => {}
            }
        }
        spec
    }

    /// Holds a resource; says whether it differs from what was held.
    fn take_in(&mut self, kind: Kind, wire: Wire) -> Result<bool, Refusal> {
        let held = self.held.entry(kind).or_default();
        let Some(any) = wire.resource else {
            // Only a heartbeat or a new version of the same.
            if let Some(held) = held.get_mut(&wire.name) {
                held.version = wire.version;
            }
            return Ok(false);
        };
        if let Some(held) = held.get_mut(&wire.name)
            && held.any == any
        {
            held.version = wire.version;
            return Ok(false);
        }
        let value = decode(kind, &any)?;
        if **value.name() != *wire.name {
            let problem = format!("the resource calls itself {:?}", value.name());
            return Err(Refusal { field: "name".to_owned(), problem });
        }
        if kind == Kind::Secret {
            self.without.remove(&wire.name);
        }
        held.insert(wire.name, Held { any, version: wire.version, value });
        Ok(true)
    }

    fn has(&self, kind: Kind, name: &str) -> bool {
        self.held.get(&kind).is_some_and(|held| held.contains_key(name))
    }

    /// Whether a secret is there, or will not come.
    fn has_secret(&self, name: &str) -> bool {
        self.has(Kind::Secret, name) || self.without.contains(name)
    }

    fn values(&self, kind: Kind) -> impl Iterator<Item = &Resource> {
        self.held.get(&kind).into_iter().flat_map(BTreeMap::values).map(|held| &held.value)
    }

    /// Lets live what has everything that it names.
    fn settle(&mut self) {
        let mut listeners = BTreeMap::new();
        let mut clusters = BTreeMap::new();
        for value in self.values(Kind::Listener).chain(self.values(Kind::Cluster)) {
            match value {
                Resource::Listener(listener) => {
                    let ready = routes_of(listener).all(|name| self.has(Kind::Routes, name))
                        && secrets_of_listener(listener).all(|name| self.has_secret(name));
                    let predecessor = self.live_listeners.get(&listener.name);
                    if let Some(live) = if ready { Some(listener) } else { predecessor } {
                        listeners.insert(listener.name.clone(), live.clone());
                    }
                }
                Resource::Cluster(cluster) => {
                    let ready = endpoints_of(cluster).is_none_or(|name| self.has(Kind::Endpoints, name))
                        && secrets_of_cluster(cluster).all(|name| self.has_secret(name));
                    let predecessor = self.live_clusters.get(&cluster.name).filter(|_| !ready);
                    clusters.insert(cluster.name.clone(), predecessor.unwrap_or(cluster).clone());
                }
                Resource::Endpoints(..)
                | Resource::Routes(_)
                | Resource::Secret(..)
                | Resource::VirtualHost(_)
                | Resource::Names(_) => {}
            }
        }
        (self.live_listeners, self.live_clusters) = (listeners, clusters);
        let told = self.held.get(&Kind::Listener).map_or(0, BTreeMap::len);
        self.complete |= self.told && told == self.live_listeners.len();
        self.fill_tables();
    }

    fn fill_tables(&mut self) {
        let of = |kind| self.held.get(&kind).into_iter().flat_map(BTreeMap::values).map(|held| &held.value);
        let tables = of(Kind::Routes).filter_map(|value| match value {
            Resource::Routes(table) => Some(table),
            _ => None,
        });
        let hosts = of(Kind::VirtualHost).filter_map(|value| match value {
            Resource::VirtualHost(host) => Some(host),
            _ => None,
        });
        self.tables.update(tables, &hosts.collect::<Vec<_>>());
    }

    fn settle_names(&mut self) {
        let hosts = self.values(Kind::Names).filter_map(|value| match value {
            Resource::Names(host) => Some((host.host.clone(), host.clone())),
            _ => None,
        });
        self.hosts = Arc::new(hosts.collect());
    }

    /// Names that listeners and clusters, held or live, refer to, and those that requests need.
    fn wanted(&self) -> BTreeMap<Kind, BTreeSet<String>> {
        let held_listeners = self.values(Kind::Listener).filter_map(|value| match value {
            Resource::Listener(listener) => Some(listener),
            _ => None,
        });
        let held_clusters = self.values(Kind::Cluster).filter_map(|value| match value {
            Resource::Cluster(cluster) => Some(cluster),
            _ => None,
        });
        let (mut routes, mut endpoints, mut secrets) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for listener in held_listeners.chain(self.live_listeners.values()) {
            routes.extend(routes_of(listener).map(str::to_owned));
            secrets.extend(secrets_of_listener(listener).map(str::to_owned));
        }
        for cluster in held_clusters.chain(self.live_clusters.values()) {
            endpoints.extend(endpoints_of(cluster).map(str::to_owned));
            secrets.extend(secrets_of_cluster(cluster).map(str::to_owned));
        }
        BTreeMap::from([
            (Kind::Routes, routes),
            (Kind::Endpoints, endpoints),
            (Kind::Secret, secrets),
            (Kind::VirtualHost, self.demand.names()),
        ])
    }

    /// Requests for names that are newly wanted or no longer.
    fn resubscribe(&mut self) -> Vec<DeltaDiscoveryRequest> {
        let wanted = self.wanted();
        let mut requests = Vec::new();
        for (kind, names) in &wanted {
            let before = self.subscribed.get_mut(kind).map(take).unwrap_or_default();
            let held = self.held.entry(*kind).or_default();
            // What came without being asked for, endpoints with their cluster, is subscribed to.
            let subscribe: Vec<_> =
                names.difference(&before).filter(|name| !held.contains_key(*name)).cloned().collect();
            let unsubscribe: Vec<_> = before.difference(names).cloned().collect();
            if subscribe.is_empty() && unsubscribe.is_empty() {
                continue;
            }
            held.retain(|name, _| names.contains(name));
            requests.push(DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                resource_names_subscribe: subscribe,
                resource_names_unsubscribe: unsubscribe,
                ..Default::default()
            });
        }
        self.without.retain(|name| wanted.get(&Kind::Secret).is_some_and(|names| names.contains(name)));
        self.subscribed = wanted;
        requests
    }
}

fn routes_of(listener: &Listener) -> impl Iterator<Item = &str> {
    listener.chains.all().iter().filter_map(|chain| match &chain.protocol {
        ListenerProtocol::Http(HttpListener { routes: RouteSource::Named(name), .. }) => Some(&**name),
        ListenerProtocol::Http(_) | ListenerProtocol::Tcp(_) => None,
    })
}

fn secrets_of_listener(listener: &Listener) -> impl Iterator<Item = &str> {
    let contexts = listener.chains.all().iter().filter_map(|chain| chain.tls.as_ref());
    contexts.flat_map(|tls| store::names(&tls.common)).map(|name| &**name)
}

fn secrets_of_cluster(cluster: &Cluster) -> impl Iterator<Item = &str> {
    cluster.all_tls().flat_map(|tls| store::names(&tls.common)).map(|name| &**name)
}

fn endpoints_of(cluster: &Cluster) -> Option<&str> {
    match &cluster.discovery {
        Discovery::Eds(name) => Some(name),
        Discovery::Static(_) | Discovery::Dns { .. } | Discovery::OriginalDestination => None,
    }
}

fn nack(mut message: String) -> Status {
    if message.len() > NACK_BYTES_MAX {
        let end = (0..=NACK_BYTES_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
    }
    Status { code: INVALID_ARGUMENT, message, details: Vec::new() }
}

#[cfg(test)]
mod tests;
