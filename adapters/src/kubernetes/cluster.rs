//! What is known of one cluster: services, slices, pods, nodes and documents, from lists and watches. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};
use weft_proto::registry::v1 as proto;

use super::kind::{Kind, Meaning};
use super::wire::{Meta, Node, Pod, Service, Slice};
use crate::catalog::{Item, Key};

/// Namespace and name.
pub(super) type Name = (String, String);

/// The label by which a slice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One cluster.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    services: BTreeMap<Name, Service>,
    slices: BTreeMap<Name, Slice>,
    pods: HashMap<Name, Pod>,
    nodes: HashMap<String, Node>,
    documents: BTreeMap<Key, Item>,
}

/// What an object has changed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changed {
    /// Services that may be other than before, or gone.
    pub(super) services: BTreeSet<Name>,
    /// A document that is new or other than before.
    pub(super) upsert: Option<Item>,
    /// A document that is gone.
    pub(super) remove: Option<Key>,
    /// Why the object could not be taken.
    pub(super) problem: Option<String>,
}

impl Cluster {
    /// Replaces every object of a kind. What cannot be read is left out and named.
    pub(super) fn list(&mut self, kind: Kind, objects: Vec<Value>) -> Vec<String> {
        match kind.meaning {
            Meaning::Service => self.services.clear(),
            Meaning::Slice => self.slices.clear(),
            Meaning::Node => self.nodes.clear(),
            Meaning::Pod => self.pods.clear(),
            Meaning::Document(name) => {
                let of_kind = weft_proto::document::kind_in_keys(kind.api, name);
                self.documents
                    .retain(|key, _| !matches!(key, Key::Document { kind, .. } if *kind == of_kind));
            }
        }
        objects.into_iter().filter_map(|object| self.put(kind, object).problem).collect()
    }

    /// Takes an object that is new or other than before.
    pub(super) fn put(&mut self, kind: Kind, object: Value) -> Changed {
        self.change(kind, object, true).unwrap_or_else(|error| Changed {
            problem: Some(format!("{}: left out: {error}", kind.plural)),
            ..Changed::default()
        })
    }

    /// Takes an object that is gone.
    pub(super) fn remove(&mut self, kind: Kind, object: Value) -> Changed {
        self.change(kind, object, false).unwrap_or_default()
    }

    fn change(&mut self, kind: Kind, object: Value, stays: bool) -> Result<Changed, serde_json::Error> {
        let mut changed = Changed::default();
        match kind.meaning {
            Meaning::Service => {
                let service: Service = serde_json::from_value(object)?;
                let name = name_of(&service.metadata);
                changed.services.insert(name.clone());
                set(&mut self.services, name, service, stays);
            }
            Meaning::Slice => {
                let slice: Slice = serde_json::from_value(object)?;
                let name = name_of(&slice.metadata);
                // The label of a slice may change hands.
                changed.services.extend(self.slices.get(&name).and_then(service_of));
                changed.services.extend(service_of(&slice));
                set(&mut self.slices, name, slice, stays);
            }
            Meaning::Pod => {
                let pod: Pod = serde_json::from_value(object)?;
                let name = name_of(&pod.metadata);
                let slices = self.slices.range((name.0.clone(), String::new())..);
                let same =
                    slices.take_while(|((namespace, _), _)| *namespace == name.0).map(|(_, slice)| slice);
                let on_it = |slice: &&Slice| slice.endpoints.iter().any(|e| e.target_ref.name == name.1);
                changed.services = same.filter(on_it).filter_map(service_of).collect();
                if stays {
                    self.pods.insert(name, pod);
                } else {
                    self.pods.remove(&name);
                }
            }
            Meaning::Node => {
                let node: Node = serde_json::from_value(object)?;
                let name = node.metadata.name.clone();
                // A heartbeat of a node that is where it was moves nobody.
                let before = self.nodes.get(&name).map(|known| &known.metadata.labels);
                if stays && before != Some(&node.metadata.labels) {
                    let on_it = |slice: &&Slice| slice.endpoints.iter().any(|e| e.node_name == name);
                    changed.services = self.slices.values().filter(on_it).filter_map(service_of).collect();
                    self.nodes.insert(name, node);
                }
            }
            Meaning::Document(name) => {
                let item = document(kind, name, &object)?;
                match item {
                    Ok(item) if stays => {
                        self.documents.insert(item.key().clone(), item.clone());
                        changed.upsert = Some(item);
                    }
                    Ok(item) => {
                        self.documents.remove(item.key());
                        changed.remove = Some(item.key().clone());
                    }
                    Err(invalid) => changed.problem = Some(format!("{}: {invalid}", kind.plural)),
                }
            }
        }
        Ok(changed)
    }

    /// Every service.
    pub(super) fn services(&self) -> impl Iterator<Item = &Name> {
        self.services.keys()
    }

    /// One service with its slices.
    pub(super) fn service(&self, name: &Name) -> Option<(&Service, Vec<&Slice>)> {
        let service = self.services.get(name)?;
        let slices = self.slices.range((name.0.clone(), String::new())..);
        let same = slices.take_while(|((namespace, _), _)| *namespace == name.0).map(|(_, slice)| slice);
        let own = same.filter(|slice| slice.metadata.labels.get(SERVICE_NAME) == Some(&name.1));
        Some((service, own.collect()))
    }

    /// A pod.
    pub(super) fn pod(&self, name: &Name) -> Option<&Pod> {
        self.pods.get(name)
    }

    /// A node.
    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Every document.
    pub(super) fn documents(&self) -> Vec<Item> {
        self.documents.values().cloned().collect()
    }
}

fn set<T>(all: &mut BTreeMap<Name, T>, name: Name, value: T, stays: bool) {
    if stays {
        all.insert(name, value);
    } else {
        all.remove(&name);
    }
}

fn name_of(meta: &Meta) -> Name {
    (meta.namespace.clone(), meta.name.clone())
}

fn service_of(slice: &Slice) -> Option<Name> {
    Some((slice.metadata.namespace.clone(), slice.metadata.labels.get(SERVICE_NAME)?.clone()))
}

/// A document as an operator would have written it: without what the API server adds.
fn document(
    kind: Kind,
    name: &str,
    object: &Value,
) -> Result<Result<Item, crate::catalog::Invalid>, serde_json::Error> {
    let meta: Meta = serde_json::from_value(object["metadata"].clone())?;
    let mut annotations = meta.annotations;
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let mut metadata = json!({"name": meta.name, "labels": meta.labels, "annotations": annotations});
    if kind.namespaced {
        metadata["namespace"] = meta.namespace.as_str().into();
    }
    if let Some(created) = meta.creation_timestamp {
        metadata["creationTimestamp"] = created.into();
    }
    let text = json!({"apiVersion": kind.api, "kind": name, "metadata": metadata, "spec": object["spec"]});
    let namespace = if kind.namespaced { meta.namespace } else { "default".to_owned() };
    let key = proto::DocumentKey {
        kind: weft_proto::document::kind_in_keys(kind.api, name),
        namespace,
        name: meta.name.clone(),
    };
    let origin = format!("{name} {}/{}", key.namespace, meta.name);
    Ok(Item::document(key, proto::Document { yaml: text.to_string(), origin, line: 0 }))
}
