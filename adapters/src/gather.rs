//! What the parts of a platform (a job's service, an app, a task) say, gathered into services. Pure.
//!
//! Several parts may serve one service: blue and green, two jobs, tasks one by one. Their endpoints are joined. Where they
//! disagree about a port, the first part by name is right, and the disagreement is told.

use std::collections::{BTreeMap, BTreeSet};

use weft_proto::registry::v1 as proto;

use crate::catalog::{Invalid, Item, Key};

/// What one part says of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claim {
    /// The service, as this part sees it.
    pub(crate) service: proto::Service,
    /// What serves it.
    pub(crate) endpoints: Vec<proto::Endpoint>,
}

/// What must be told after a part has changed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) upserts: Vec<Item>,
    pub(crate) removes: Vec<Key>,
    /// What cannot be told, and disagreements: for people.
    pub(crate) problems: Vec<String>,
}

/// All parts.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    parts: BTreeMap<String, Vec<Claim>>,
    /// Which parts claim a service.
    claimed: BTreeMap<(String, String), BTreeSet<String>>,
    endpoints: usize,
}

impl Gathered {
    /// Replaces what a part says; nothing when the part is gone.
    pub(crate) fn set(&mut self, part: &str, claims: Vec<Claim>) -> Changes {
        if self.parts.get(part).map_or(&[][..], Vec::as_slice) == claims {
            return Changes::default();
        }
        let mut touched: BTreeSet<(String, String)> = claims.iter().map(key_of).collect();
        let mut changes = Changes::default();
        let mut stays = BTreeSet::new();
        for endpoint in claims.iter().flat_map(|claim| &claim.endpoints) {
            match Item::endpoint(endpoint.clone()) {
                Ok(item) => {
                    stays.insert(item.key().clone());
                    changes.upserts.push(item);
                }
                Err(invalid) => changes.problems.push(problem(part, &invalid)),
            }
        }
        self.endpoints += claims.iter().map(|claim| claim.endpoints.len()).sum::<usize>();
        let before = if claims.is_empty() {
            self.parts.remove(part)
        } else {
            self.parts.insert(part.to_owned(), claims)
        };
        for claim in before.unwrap_or_default() {
            self.endpoints -= claim.endpoints.len();
            touched.insert(key_of(&claim));
            let gone = claim.endpoints.into_iter().map(|endpoint| Key::Endpoint(endpoint.id));
            changes.removes.extend(gone.filter(|key| !stays.contains(key)));
        }
        let mut services = Vec::new();
        for key in touched {
            let serves = self.parts.get(part).is_some_and(|claims| claims.iter().any(|c| key_of(c) == key));
            let parts = self.claimed.entry(key.clone()).or_default();
            if serves {
                parts.insert(part.to_owned())
            } else {
                parts.remove(part)
            };
            if parts.is_empty() {
                self.claimed.remove(&key);
                changes.removes.push(Key::Service { namespace: key.0, name: key.1 });
                continue;
            }
            services.extend(self.service(&key, &mut changes.problems));
        }
        // The service first, so that its endpoints find it.
        changes.upserts.splice(0..0, services);
        changes
    }

    /// Everything.
    pub(crate) fn items(&self) -> Vec<Item> {
        let services = self.claimed.keys().filter_map(|key| self.service(key, &mut Vec::new()));
        let endpoints = self.parts.values().flatten().flat_map(|claim| &claim.endpoints);
        services.chain(endpoints.filter_map(|endpoint| Item::endpoint(endpoint.clone()).ok())).collect()
    }

    /// How many endpoints there are.
    pub(crate) fn endpoints(&self) -> usize {
        self.endpoints
    }

    /// The service that its parts make together.
    fn service(&self, key: &(String, String), problems: &mut Vec<String>) -> Option<Item> {
        let claims = self.claimed.get(key)?.iter().flat_map(|part| {
            let own = self.parts.get(part).into_iter().flatten().filter(|claim| key_of(claim) == *key);
            own.map(move |claim| (part, &claim.service))
        });
        let mut service: Option<(&String, proto::Service)> = None;
        for (part, claimed) in claims {
            match &mut service {
                None => service = Some((part, claimed.clone())),
                Some((first, service)) => join(service, claimed, &mut |what| {
                    problems.push(format!(
                        "service {}/{}: {first} and {part} disagree about {what}; {first} counts",
                        key.0, key.1
                    ));
                }),
            }
        }
        let (part, service) = service?;
        Item::service(service).map_err(|invalid| problems.push(problem(part, &invalid))).ok()
    }
}

fn join(service: &mut proto::Service, other: &proto::Service, disagree: &mut impl FnMut(String)) {
    for port in &other.ports {
        match service.ports.iter().find(|known| known.name == port.name) {
            Some(known) if known == port => {}
            Some(_) => disagree(format!("port {}", port.name)),
            None if service.ports.iter().any(|known| known.number == port.number) => {
                disagree(format!("port number {}", port.number));
            }
            None => service.ports.push(port.clone()),
        }
    }
    service.aliases.extend(other.aliases.iter().cloned());
    for (name, value) in &other.labels {
        service.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
}

fn key_of(claim: &Claim) -> (String, String) {
    claim.service.key.clone().map(|key| (key.namespace, key.name)).unwrap_or_default()
}

fn problem(part: &str, invalid: &Invalid) -> String {
    format!("{part}: left out: {invalid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, port: u32, ids: &[&str]) -> Claim {
        let key = Some(proto::ServiceKey { namespace: "default".into(), name: name.into() });
        let port = proto::Port { name: "http".into(), number: port, protocol: 2 };
        let endpoint = |id: &&str| proto::Endpoint {
            id: (*id).into(),
            service: key.clone(),
            address: "10.0.0.1".into(),
            ports: [("http".to_owned(), 8080)].into(),
            ..Default::default()
        };
        let endpoints = ids.iter().map(endpoint).collect();
        Claim { service: proto::Service { key, ports: vec![port], ..Default::default() }, endpoints }
    }

    fn names(changes: &Changes) -> (Vec<String>, Vec<String>) {
        let upserts = changes.upserts.iter().map(|item| item.key().to_string());
        (upserts.collect(), changes.removes.iter().map(Key::to_string).collect())
    }

    #[test]
    fn a_service_goes_with_the_last_part_that_serves_it() {
        let mut all = Gathered::default();
        all.set("blue", vec![claim("web", 80, &["b1", "b2"])]);
        all.set("green", vec![claim("web", 80, &["g1"])]);
        assert_eq!(all.items().len(), 4);
        let (upserts, removes) = names(&all.set("blue", vec![]));
        assert_eq!(
            (upserts, removes),
            (vec!["service default/web".into()], vec!["endpoint b1".into(), "endpoint b2".into()])
        );
        let (_, removes) = names(&all.set("green", vec![]));
        assert_eq!(removes, ["endpoint g1", "service default/web"]);
        assert_eq!((all.items(), all.endpoints()), (vec![], 0));
    }

    #[test]
    fn what_a_part_does_not_change_is_not_told() {
        let mut all = Gathered::default();
        all.set("web", vec![claim("web", 80, &["a", "b"])]);
        assert_eq!(all.set("web", vec![claim("web", 80, &["a", "b"])]), Changes::default());
        let (_, removes) = names(&all.set("web", vec![claim("web", 80, &["b"])]));
        assert_eq!(removes, ["endpoint a"]);
    }

    #[test]
    fn parts_that_disagree_about_a_port_are_named() {
        let mut all = Gathered::default();
        all.set("blue", vec![claim("web", 80, &["b1"])]);
        let changes = all.set("green", vec![claim("web", 81, &["g1"])]);
        assert_eq!(
            changes.problems,
            ["service default/web: blue and green disagree about port http; blue counts"]
        );
    }

    #[test]
    fn an_endpoint_that_cannot_be_told_leaves_the_others() {
        let mut broken = claim("web", 80, &["a", "b"]);
        broken.endpoints[0].address.clear();
        let changes = Gathered::default().set("web", vec![broken]);
        assert_eq!((changes.upserts.len(), changes.problems.len()), (2, 1));
    }
}
