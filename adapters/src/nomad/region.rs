//! What is known of one region of Nomad: registrations, allocations and nodes, from lists and from events. Pure.
//!
//! An event counts only past the index of the list that it adds to: the stream begins before the lists are read, and
//! replays its last events to whoever comes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::wire::{Alloc, Event, Node, Registration};

/// Namespace and name of a service.
pub(super) type Name = (String, String);

/// One region.
#[derive(Debug, Default)]
pub(super) struct Region {
    /// Index of the list of names: an unknown service was not there at it.
    index: u64,
    /// Index of the list of allocations; `None` where it may not be read.
    allocs_index: Option<u64>,
    services: BTreeMap<Name, Listed>,
    allocs: HashMap<String, Alloc>,
    nodes: HashMap<String, Node>,
    /// Which services an allocation serves.
    serves: HashMap<String, BTreeSet<Name>>,
}

/// One service as last listed, and what happened since.
#[derive(Debug, Default)]
struct Listed {
    index: u64,
    registrations: BTreeMap<String, Registration>,
}

impl Region {
    /// A region of which the names were listed at `index`.
    pub(super) fn new(index: u64) -> Self {
        Region { index, ..Region::default() }
    }

    /// Index of the list of names. Never zero, on which no question would block.
    pub(super) fn index(&self) -> u64 {
        self.index.max(1)
    }

    /// Index of the list of allocations.
    pub(super) fn allocs_index(&self) -> Option<u64> {
        self.allocs_index
    }

    /// Takes the list of allocations.
    pub(super) fn allocs(&mut self, index: u64, allocs: Vec<Alloc>) {
        self.allocs_index = Some(index.max(1));
        for alloc in allocs {
            self.alloc(alloc);
        }
    }

    /// Takes the list of one service.
    pub(super) fn list(&mut self, name: &Name, index: u64, registrations: Vec<Registration>) {
        for registration in &registrations {
            self.serves.entry(registration.alloc_id.clone()).or_default().insert(name.clone());
        }
        let registrations = registrations.into_iter().map(|found| (found.id.clone(), found)).collect();
        self.services.insert(name.clone(), Listed { index, registrations });
    }

    /// Takes an allocation; what is older than what is known says nothing. Gives the services that it serves.
    pub(super) fn alloc(&mut self, mut alloc: Alloc) -> BTreeSet<Name> {
        let serves = self.serves.get(&alloc.id).cloned().unwrap_or_default();
        if let Some(known) = self.allocs.get(&alloc.id) {
            if known.modify_index > alloc.modify_index {
                return BTreeSet::new();
            }
            // Lists leave the deployment out, and events the kind of job.
            if alloc.deployment_id.is_empty() {
                alloc.deployment_id.clone_from(&known.deployment_id);
            }
            if alloc.job_type.is_empty() {
                alloc.job_type.clone_from(&known.job_type);
            }
        }
        let over = matches!(alloc.client_status.as_str(), "complete" | "failed" | "lost");
        if over && serves.is_empty() {
            self.allocs.remove(&alloc.id);
        } else {
            self.allocs.insert(alloc.id.clone(), alloc);
        }
        serves
    }

    /// Takes a node. Gives the services on it.
    pub(super) fn node(&mut self, node: Node) -> BTreeSet<Name> {
        let on_it = |listed: &Listed| listed.registrations.values().any(|found| found.node_id == node.id);
        let names = self.services.iter().filter(|(_, listed)| on_it(listed));
        let names = names.map(|(name, _)| name.clone()).collect();
        self.nodes.insert(node.id.clone(), node);
        names
    }

    /// Takes an event. Gives the services that changed.
    pub(super) fn event(&mut self, event: Event) -> BTreeSet<Name> {
        let mut changed = BTreeSet::new();
        if let Some(registration) = event.payload.service {
            changed.extend(self.registration(&event.kind, event.index, registration));
        }
        if let Some(alloc) = event.payload.allocation {
            changed.extend(self.alloc(alloc));
        }
        if let Some(node) = event.payload.node {
            changed.extend(self.node(node));
        }
        changed
    }

    fn registration(&mut self, kind: &str, index: u64, found: Registration) -> Option<Name> {
        let name = (found.namespace.clone(), found.service_name.clone());
        if index <= self.services.get(&name).map_or(self.index, |listed| listed.index) {
            return None;
        }
        match kind {
            "ServiceRegistration" => {
                self.serves.entry(found.alloc_id.clone()).or_default().insert(name.clone());
                let listed = self.services.entry(name.clone()).or_default();
                listed.registrations.insert(found.id.clone(), found);
            }
            "ServiceDeregistration" => {
                let listed = self.services.get_mut(&name)?;
                listed.registrations.remove(&found.id);
                let still = listed.registrations.values().any(|other| other.alloc_id == found.alloc_id);
                // An empty one stays, since it knows which events are older than its list.
                if !still && let Some(serves) = self.serves.get_mut(&found.alloc_id) {
                    serves.remove(&name);
                    if serves.is_empty() {
                        self.serves.remove(&found.alloc_id);
                    }
                }
            }
            _ => return None,
        }
        Some(name)
    }

    /// The services that were ever heard of.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.services.keys()
    }

    /// The registrations of one service, each with its allocation and its node as far as they are known.
    pub(super) fn registrations(
        &self,
        name: &Name,
    ) -> impl Iterator<Item = (&Registration, Option<&Alloc>, Option<&Node>)> {
        let found = self.services.get(name).into_iter().flat_map(|listed| listed.registrations.values());
        found.map(|found| (found, self.allocs.get(&found.alloc_id), self.nodes.get(&found.node_id)))
    }

    /// Nodes that services are on.
    pub(super) fn needed_nodes(&self) -> BTreeSet<String> {
        let all = self.services.values().flat_map(|listed| listed.registrations.values());
        all.map(|found| found.node_id.clone()).filter(|id| !id.is_empty()).collect()
    }

    /// Allocations that may be waiting to be found healthy by a deployment that lists do not name.
    pub(super) fn undecided(&self) -> Vec<String> {
        let undecided = |alloc: &&Alloc| {
            alloc.client_status == "running"
                && alloc.job_type == "service"
                && alloc.deployment_status.healthy.is_none()
                && alloc.deployment_id.is_empty()
                && self.serves.contains_key(&alloc.id)
        };
        self.allocs.values().filter(undecided).map(|alloc| alloc.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn registration(id: &str) -> serde_json::Value {
        json!({"ID": id, "ServiceName": "web", "Namespace": "default", "NodeID": "n1", "Datacenter": "dc1",
            "JobID": "api", "AllocID": format!("alloc-{id}"), "Tags": null, "Address": "10.0.0.1", "Port": 23000})
    }

    fn event(kind: &str, index: u64, payload: serde_json::Value) -> Event {
        serde_json::from_value(json!({"Topic": "x", "Type": kind, "Index": index, "Payload": payload}))
            .unwrap()
    }

    fn web() -> Name {
        ("default".into(), "web".into())
    }

    fn ids(region: &Region) -> Vec<&str> {
        region.registrations(&web()).map(|(found, ..)| found.id.as_str()).collect()
    }

    fn listed(ids: &[&str]) -> Region {
        let mut region = Region::new(40);
        let found = ids.iter().map(|id| serde_json::from_value(registration(id)).unwrap()).collect();
        region.list(&web(), 42, found);
        region
    }

    #[test]
    fn an_event_that_the_list_has_already_seen_says_nothing() {
        let mut region = listed(&["a"]);
        let (gone, new) = ("ServiceDeregistration", "ServiceRegistration");
        assert!(region.event(event(gone, 42, json!({"Service": registration("a")}))).is_empty());
        assert_eq!(ids(&region), ["a"]);
        region.event(event(new, 43, json!({"Service": registration("b")})));
        region.event(event(gone, 44, json!({"Service": registration("a")})));
        assert_eq!(ids(&region), ["b"]);
    }

    #[test]
    fn a_service_that_was_gone_before_the_names_were_listed_does_not_come_back() {
        let mut region = Region::new(40);
        let new = |index| event("ServiceRegistration", index, json!({"Service": registration("a")}));
        assert!(region.event(new(39)).is_empty());
        assert_eq!(region.event(new(41)), [web()].into());
    }

    #[test]
    fn an_allocation_names_the_services_that_it_serves_and_an_older_one_none() {
        let mut region = listed(&["a"]);
        let alloc = |index: u64| {
            event("AllocationUpdated", index, json!({"Allocation": {"ID": "alloc-a", "ModifyIndex": index}}))
        };
        assert_eq!(region.event(alloc(50)), [web()].into());
        assert!(region.event(alloc(49)).is_empty());
    }

    #[test]
    fn a_batch_of_a_node_that_went_down_takes_all_at_once() {
        let all: Vec<String> = (0..500).map(|n| format!("r{n}")).collect();
        let mut region = listed(&all.iter().map(String::as_str).collect::<Vec<_>>());
        for id in &all {
            region.event(event("ServiceDeregistration", 43, json!({"Service": registration(id)})));
        }
        assert!(ids(&region).is_empty());
        assert!(region.serves.is_empty(), "nothing is remembered of what is gone");
    }

    #[test]
    fn unknown_events_and_payloads_are_passed_over() {
        let mut region = listed(&["a"]);
        assert!(region.event(event("Weather", 99, json!({"Cloud": {"ID": 1}}))).is_empty());
        assert!(region.event(event("ServiceBlessing", 99, json!({"Service": registration("a")}))).is_empty());
        assert_eq!(ids(&region), ["a"]);
    }
}
