//! What Consul answers, as far as it is read. Everything else is ignored, as newer versions say more.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// `GET /v1/catalog/services`: names and tags.
pub(super) type Names = BTreeMap<String, serde::de::IgnoredAny>;

/// One element of `GET /v1/health/service/NAME`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Instance {
    pub(super) node: Node,
    pub(super) service: Service,
    #[serde(default, deserialize_with = "null")]
    pub(super) checks: Vec<Check>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Node {
    pub(super) node: String,
    #[serde(default)]
    pub(super) address: String,
    #[serde(default)]
    pub(super) datacenter: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) meta: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Service {
    #[serde(default)]
    pub(super) kind: String,
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) address: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) meta: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) port: u32,
    #[serde(default, deserialize_with = "null")]
    pub(super) weights: Weights,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Weights {
    pub(super) passing: u32,
    pub(super) warning: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { passing: 1, warning: 1 }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Check {
    #[serde(rename = "CheckID")]
    pub(super) id: String,
    pub(super) status: String,
}

/// Go writes an empty list or map as null.
fn null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
