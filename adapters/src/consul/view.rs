//! What all answers of one Consul say together, and what of it must be told. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{Item, Key};
use crate::description::Condition;

/// Something that a watch found.
#[derive(Debug)]
pub(super) enum News {
    /// The names in the catalogue, and the doubt about them.
    Names(BTreeSet<String>, String),
    /// One service and its endpoints, and the doubt about them.
    Health { name: String, items: Vec<Item>, doubt: String },
    /// A question without a good answer: which service's, `None` for the names, and why.
    Failed(Option<String>, String),
}

/// What must be told.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Tell {
    /// Nothing changed.
    #[default]
    Nothing,
    /// These changed.
    Changes { upserts: Vec<Item>, removes: Vec<Key> },
    /// The whole, in doubt or for the first time.
    Listing(Vec<Item>, String),
}

/// The whole view.
#[derive(Debug, Default)]
pub(super) struct View {
    /// `None` until a service's first answer.
    services: BTreeMap<String, Option<Vec<Item>>>,
    named: bool,
    listed: bool,
    /// Doubts about answers before the first listing.
    early_doubt: String,
    failing: BTreeMap<Option<String>, String>,
}

impl View {
    /// The names whose health must be watched.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.services.keys()
    }

    /// How well Consul answers.
    pub(super) fn condition(&self) -> Condition {
        match self.failing.values().next() {
            Some(reason) => Condition::Stale(reason.clone()),
            None => Condition::Live,
        }
    }

    /// Takes news.
    pub(super) fn apply(&mut self, news: News) -> Tell {
        match news {
            News::Names(names, doubt) => self.apply_names(names, doubt),
            News::Health { name, items, doubt } => self.apply_health(name, items, doubt),
            News::Failed(question, reason) => {
                if question.as_ref().is_none_or(|name| self.services.contains_key(name)) {
                    self.failing.insert(question, reason);
                }
                Tell::Nothing
            }
        }
    }

    fn apply_names(&mut self, names: BTreeSet<String>, doubt: String) -> Tell {
        self.failing.remove(&None);
        self.named = true;
        let gone: Vec<String> = self.services.keys().filter(|name| !names.contains(*name)).cloned().collect();
        let mut removes = Vec::new();
        for name in gone {
            self.failing.remove(&Some(name.clone()));
            removes.extend(keys(&self.services.remove(&name).flatten().unwrap_or_default()));
        }
        for name in names {
            self.services.entry(name).or_default();
        }
        self.tell(Vec::new(), removes, doubt)
    }

    fn apply_health(&mut self, name: String, items: Vec<Item>, doubt: String) -> Tell {
        self.failing.remove(&Some(name.clone()));
        // An answer for a name that has left the catalogue meanwhile.
        let Some(known) = self.services.get_mut(&name) else { return Tell::Nothing };
        let listed: BTreeSet<Key> = items.iter().map(|item| item.key().clone()).collect();
        let before = known.replace(items.clone()).unwrap_or_default();
        let removes = keys(&before).filter(|key| !listed.contains(key)).collect();
        let upserts = items.into_iter().filter(|item| !before.contains(item)).collect();
        self.tell(upserts, removes, doubt)
    }

    fn tell(&mut self, upserts: Vec<Item>, removes: Vec<Key>, doubt: String) -> Tell {
        if !self.listed {
            if self.early_doubt.is_empty() {
                self.early_doubt = doubt;
            }
            // A part of the mesh must not replace the whole that control planes may know from before.
            self.listed = self.named && self.services.values().all(Option::is_some);
            if !self.listed {
                return Tell::Nothing;
            }
            return Tell::Listing(self.all(), std::mem::take(&mut self.early_doubt));
        }
        if !doubt.is_empty() && !removes.is_empty() {
            return Tell::Listing(self.all(), doubt);
        }
        if upserts.is_empty() && removes.is_empty() {
            return Tell::Nothing;
        }
        Tell::Changes { upserts, removes }
    }

    fn all(&self) -> Vec<Item> {
        self.services.values().flatten().flatten().cloned().collect()
    }
}

fn keys(items: &[Item]) -> impl Iterator<Item = Key> {
    items.iter().map(|item| item.key().clone())
}

#[cfg(test)]
mod tests {
    use weft_proto::registry::v1 as proto;

    use super::*;

    fn endpoint(id: &str) -> Item {
        Item::endpoint(proto::Endpoint {
            id: id.into(),
            service: Some(proto::ServiceKey { namespace: "default".into(), name: "web".into() }),
            address: "10.0.0.1".into(),
            ..Default::default()
        })
        .unwrap()
    }

    fn names(names: &[&str], doubt: &str) -> News {
        News::Names(names.iter().map(|name| (*name).to_owned()).collect(), doubt.to_owned())
    }

    fn health(name: &str, ids: &[&str], doubt: &str) -> News {
        let items = ids.iter().map(|id| endpoint(id)).collect();
        News::Health { name: name.into(), items, doubt: doubt.into() }
    }

    fn listed() -> View {
        let mut view = View::default();
        view.apply(names(&["web"], ""));
        view.apply(health("web", &["a", "b"], ""));
        view
    }

    #[test]
    fn nothing_is_told_before_every_service_has_answered() {
        let mut view = View::default();
        assert_eq!(view.apply(names(&["api", "web"], "")), Tell::Nothing);
        assert_eq!(view.apply(health("web", &["a"], "")), Tell::Nothing);
        assert_eq!(view.apply(health("api", &[], "")), Tell::Listing(vec![endpoint("a")], String::new()));
    }

    #[test]
    fn the_last_instance_is_removed_when_consul_is_trusted() {
        let gone = Tell::Changes {
            upserts: vec![],
            removes: vec![Key::Endpoint("a".into()), Key::Endpoint("b".into())],
        };
        assert_eq!(listed().apply(health("web", &[], "")), gone);
        assert_eq!(listed().apply(names(&[], "")), gone);
    }

    #[test]
    fn a_doubtful_answer_that_shrinks_is_told_as_a_listing() {
        let doubt = "the index went back";
        assert_eq!(listed().apply(names(&[], doubt)), Tell::Listing(vec![], doubt.into()));
        assert_eq!(
            listed().apply(health("web", &["b"], doubt)),
            Tell::Listing(vec![endpoint("b")], doubt.into())
        );
        assert_eq!(listed().apply(health("web", &["a", "b"], doubt)), Tell::Nothing);
    }

    #[test]
    fn a_failure_removes_nothing_and_is_over_with_the_next_answer() {
        let mut view = listed();
        assert_eq!(view.apply(News::Failed(Some("web".into()), "no answer".into())), Tell::Nothing);
        assert_eq!(view.condition(), Condition::Stale("no answer".into()));
        view.apply(health("web", &["a", "b"], ""));
        assert_eq!(view.condition(), Condition::Live);
    }
}
