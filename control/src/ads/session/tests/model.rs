//! A model client and a session joined by wires that break: whatever happens, the client ends with the world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// A client that wants everything of every type. It refuses what is poisoned, whole responses at a time.
struct Client {
    protocol: Protocol,
    held: BTreeMap<Kind, BTreeMap<Arc<str>, u64>>,
    /// Resources with this version are refused.
    poison: u64,
}

impl Client {
    fn hello(&self, world: &ResourceSet) -> Vec<Request> {
        let hello = |kind| match self.protocol {
            Protocol::Delta => {
                let held = self.held.get(&kind).into_iter().flatten();
                let initial = held.map(|(name, version)| (name.to_string(), format!("{version:016x}")));
                let names = Names::Change {
                    subscribe: vec!["*".to_owned()],
                    unsubscribe: vec![],
                    initial: initial.collect(),
                };
                Request { kind, nonce: String::new(), error: None, names }
            }
            Protocol::Sotw => Request { names: self.wanted(kind, world), ..sotw(kind, 0, &[]) },
        };
        Kind::ALL.map(hello).into()
    }

    /// State of the world has no wildcard for endpoints and routes that says what is gone, so the client names them.
    fn wanted(&self, kind: Kind, world: &ResourceSet) -> Names {
        match kind {
            Kind::Cluster | Kind::Listener => Names::All(vec!["*".to_owned()]),
            _ => Names::All(world.of(kind).map(|resource| resource.name.to_string()).collect()),
        }
    }

    fn receive(&mut self, response: &Response, world: &ResourceSet) -> Request {
        let refused = response.resources.iter().any(|resource| resource.version == self.poison);
        if !refused {
            let held = self.held.entry(response.kind).or_default();
            let full = matches!(response.kind, Kind::Cluster | Kind::Listener);
            if self.protocol == Protocol::Sotw && full {
                held.clear();
            }
            held.extend(response.resources.iter().map(|r| (r.name.clone(), r.version)));
            held.retain(|name, _| !response.removed.contains(name));
        }
        let names = match self.protocol {
            Protocol::Delta => ack(response).names,
            Protocol::Sotw => self.wanted(response.kind, world),
        };
        Request { error: refused.then(|| "poisoned".to_owned()), names, ..ack(response) }
    }
}

fn random_world(rng: &mut StdRng, poison: u64) -> Arc<ResourceSet> {
    let mut world = ResourceSet::default();
    for kind in Kind::ALL {
        for name in ["a", "b", "c", "d", "e", "f"] {
            let version = rng.random_range(0..6);
            if version > 0 {
                let version = if version == 5 && rng.random_bool(0.7) { 4 } else { version };
                world.insert(kind, resource(name, if version == 5 { poison } else { version }));
            }
        }
    }
    Arc::new(world)
}

fn versions(world: &ResourceSet) -> BTreeMap<Kind, BTreeMap<Arc<str>, u64>> {
    let of = |kind| world.of(kind).map(|r| (r.name.clone(), r.version)).collect::<BTreeMap<_, _>>();
    Kind::ALL.into_iter().map(|kind| (kind, of(kind))).filter(|(_, of)| !of.is_empty()).collect()
}

/// Runs one client through random worlds, delays and broken connections, then lets everything arrive.
fn run(seed: u64, protocol: Protocol) -> BTreeMap<Kind, BTreeMap<Arc<str>, u64>> {
    const POISON: u64 = 99;
    let mut rng = StdRng::seed_from_u64(seed);
    let worlds: Vec<_> = (0..30).map(|_| random_world(&mut rng, POISON)).collect();
    // The last world is clean, so that both protocols must reach it whole.
    let last = random_world(&mut rng, 1);
    let mut chance = StdRng::seed_from_u64(seed ^ protocol as u64);
    let mut client = Client { protocol, held: BTreeMap::new(), poison: POISON };
    let mut session = Session::new(protocol, Arc::default(), 0);
    let (mut up, mut down) = (VecDeque::from(client.hello(&ResourceSet::default())), VecDeque::new());
    let mut world: Arc<ResourceSet> = Arc::default();
    for (revision, next) in (1..).zip(worlds.into_iter().chain([last.clone()])) {
        world = next;
        if chance.random_bool(0.1) {
            session = Session::new(protocol, world.clone(), revision);
            (up, down) = (client.hello(&world).into(), VecDeque::new());
        }
        down.extend(session.handle_world(world.clone(), revision));
        for _ in 0..chance.random_range(0..8) {
            step(&mut session, &mut client, &mut up, &mut down, &world, chance.random_bool(0.5));
        }
    }
    // A client that names what it wants names what the last world has, beside its last nonce or on a new stream.
    if protocol == Protocol::Sotw {
        session = Session::new(protocol, world.clone(), 100);
        (up, down) = (client.hello(&world).into(), VecDeque::new());
        for kind in [Kind::Endpoints, Kind::Secret, Kind::Routes, Kind::VirtualHost] {
            let wanted: BTreeSet<_> = world.of(kind).map(|resource| resource.name.clone()).collect();
            client.held.entry(kind).or_default().retain(|name, _| wanted.contains(name));
        }
    }
    for _ in 0..10_000 {
        if up.is_empty() && down.is_empty() {
            break;
        }
        let upward = !up.is_empty() && (down.is_empty() || chance.random_bool(0.5));
        step(&mut session, &mut client, &mut up, &mut down, &world, upward);
    }
    assert!(session.is_settled(), "seed {seed}, {protocol:?}: something is left to send");
    assert_eq!(session.refusals().count(), 0, "seed {seed}, {protocol:?}");
    client.held.retain(|_, held| !held.is_empty());
    assert_eq!(client.held, versions(&last), "seed {seed}, {protocol:?}");
    client.held
}

fn step(
    session: &mut Session,
    client: &mut Client,
    up: &mut VecDeque<Request>,
    down: &mut VecDeque<Response>,
    world: &ResourceSet,
    upward: bool,
) {
    if upward {
        if let Some(request) = up.pop_front() {
            down.extend(session.handle_request(request).unwrap());
        }
    } else if let Some(response) = down.pop_front() {
        up.push_back(client.receive(&response, world));
    }
}

#[test]
fn a_client_ends_with_the_world_however_its_connection_breaks_and_in_both_protocols_alike() {
    for seed in 0..200 {
        assert_eq!(run(seed, Protocol::Delta), run(seed, Protocol::Sotw), "seed {seed}");
    }
}
