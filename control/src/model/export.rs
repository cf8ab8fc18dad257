//! Where a service or a document counts: Istio's `exportTo`. Pure.

use std::{collections::BTreeSet, sync::Arc};

/// Where a service or a document counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ExportTo {
    /// Everywhere: `*`, and where nothing is said.
    #[default]
    Everywhere,
    /// In these namespaces; `.` is the document's own. Empty, as `~` says it, is nowhere.
    Namespaces(BTreeSet<Arc<str>>),
}

/// The own namespace.
const OWN: &str = ".";

impl ExportTo {
    /// Whether what is of namespace `home` counts in a namespace.
    pub fn reaches(&self, namespace: &str, home: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Namespaces(named) => {
                named.contains(namespace) || (namespace == home && named.contains(OWN))
            }
        }
    }

    /// Whether two, each of a namespace, can count in the same place.
    pub fn overlaps(&self, home: &str, other: &Self, other_home: &str) -> bool {
        let named = |of: &Self, home: &str, there: &Self, there_home: &str| match of {
            Self::Everywhere => *there != Self::Namespaces(BTreeSet::new()),
            Self::Namespaces(names) => {
                names.iter().any(|name| there.reaches(if **name == *OWN { home } else { name }, there_home))
            }
        };
        match self {
            Self::Everywhere => named(other, other_home, self, home),
            Self::Namespaces(_) => named(self, home, other, other_home),
        }
    }

    /// The namespaces that it names, written out; none where it counts everywhere.
    pub fn namespaces<'a>(&'a self, home: &'a str) -> impl Iterator<Item = &'a str> {
        let named = match self {
            Self::Everywhere => None,
            Self::Namespaces(named) => Some(named),
        };
        named.into_iter().flatten().map(move |name| if **name == *OWN { home } else { name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(names: &[&str]) -> ExportTo {
        ExportTo::Namespaces(names.iter().map(|name| Arc::from(*name)).collect())
    }

    #[test]
    fn a_document_counts_where_it_is_exported_to() {
        for (export, namespace, expected) in [
            (ExportTo::Everywhere, "b", true),
            (to(&["."]), "a", true),
            (to(&["."]), "b", false),
            (to(&["b"]), "b", true),
            (to(&["b"]), "a", false),
            (to(&[]), "a", false),
        ] {
            assert_eq!(export.reaches(namespace, "a"), expected, "{export:?} in {namespace}");
        }
    }

    #[test]
    fn two_documents_meet_where_both_count() {
        for (a, b, expected) in [
            (ExportTo::Everywhere, ExportTo::Everywhere, true),
            (ExportTo::Everywhere, to(&["."]), true),
            (ExportTo::Everywhere, to(&[]), false),
            (to(&["."]), to(&["."]), false),
            (to(&[".", "b"]), to(&["."]), true),
            (to(&["c"]), to(&["b", "c"]), true),
            (to(&["c"]), to(&["b"]), false),
        ] {
            assert_eq!(a.overlaps("a", &b, "b"), expected, "{a:?} {b:?}");
            assert_eq!(b.overlaps("b", &a, "a"), expected, "{b:?} {a:?}");
        }
    }
}
