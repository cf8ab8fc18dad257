//! Limits of requests, as proxies keep them.

use std::sync::Arc;

use crate::documents::{LimitSubject, Rate};

/// What limits the requests of a table. Empty where no policy is for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Limits {
    /// Those that each proxy keeps for itself.
    pub(crate) local: Vec<LocalLimit>,
}

/// A limit that each proxy keeps for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LocalLimit {
    /// `ns[NAMESPACE]-policy[NAME]-rule[NAME]`; unique.
    pub(crate) name: Arc<str>,
    pub(crate) subject: LimitSubject,
    pub(crate) rate: Rate,
    /// What it would refuse is counted, and taken.
    pub(crate) dry_run: bool,
}
