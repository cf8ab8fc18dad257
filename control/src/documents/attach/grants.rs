//! Who may refer to objects of another namespace: what `ReferenceGrant` documents there allow.

use std::{collections::BTreeMap, sync::Arc};

use crate::documents::{DocumentSet, gateway_api::ReferenceGrant};

/// Who may refer to what.
#[derive(Debug, Default, PartialEq)]
pub struct Grants {
    /// By the namespace that grants.
    by_namespace: BTreeMap<Arc<str>, Vec<ReferenceGrant>>,
}

/// A group and a kind, and the namespace of the object.
pub type From<'a> = (&'a str, &'a str, &'a str);

impl Grants {
    /// Of all documents.
    pub(super) fn of(documents: &DocumentSet) -> Self {
        let mut by_namespace: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (document, grant) in documents.reference_grants() {
            by_namespace.entry(document.namespace.clone()).or_default().push(grant.clone());
        }
        Self { by_namespace }
    }

    /// Whether an object may refer to another: within its namespace, or where that one's allows it.
    pub fn permit(&self, from: From<'_>, to: From<'_>, name: &str) -> bool {
        if from.2 == to.2 {
            return true;
        }
        let grants = self.by_namespace.get(to.2).map(Vec::as_slice).unwrap_or_default();
        grants.iter().any(|grant| {
            grant.from.iter().any(|it| (&*it.group, &*it.kind, &*it.namespace) == from)
                && grant.to.iter().any(|it| {
                    (&*it.group, &*it.kind) == (to.0, to.1)
                        && it.name.as_deref().is_none_or(|only| only == name)
                })
        })
    }
}
