//! What a document is told of itself: conditions as Kubernetes writes them, for the document and for each of its parents
//! or listeners. Pure values; who fills them is `check` and `attach`.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionKind {
    /// It is understood and takes effect.
    Accepted,
    /// Everything that it refers to is there and may be referred to.
    ResolvedRefs,
    /// It is a part of what proxies receive.
    Programmed,
    /// Another document claims the same.
    Conflicted,
    /// Its newest text cannot be read, and an earlier one is in force.
    PartiallyInvalid,
}

impl ConditionKind {
    /// As the Gateway API writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
            Self::Conflicted => "Conflicted",
            Self::PartiallyInvalid => "PartiallyInvalid",
        }
    }

    /// Whether a healthy document has it as `True`.
    pub const fn is_good(self) -> bool {
        match self {
            Self::Accepted | Self::ResolvedRefs | Self::Programmed => true,
            Self::Conflicted | Self::PartiallyInvalid => false,
        }
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It does.
    True,
    /// It does not.
    False,
    /// Someone else decides.
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is about.
    pub kind: ConditionKind,
    /// Whether it holds.
    pub status: Truth,
    /// Why, in one word of the Gateway API where it has one.
    pub reason: &'static str,
    /// Why, for people; may be empty.
    pub message: String,
}

impl Condition {
    /// A condition; its reason is its own name where it holds as it should.
    pub fn new(
        kind: ConditionKind,
        status: impl Into<Truth>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status: status.into(), reason, message: message.into() }
    }

    /// Whether it is as it should be.
    pub fn is_good(&self) -> bool {
        self.status == Truth::from(self.kind.is_good())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} {}", self.kind.name(), self.status.name(), self.reason)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// The status of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Of the document. A route has none of its own: each of its parents has some.
    pub conditions: Vec<Condition>,
    /// Of a route: each parent that it names, in its order.
    pub parents: Vec<ParentStatus>,
    /// Of a gateway: each listener, in its order.
    pub listeners: Vec<ListenerStatus>,
}

/// What one parent of a route says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    /// Index in `parentRefs`.
    pub index: usize,
    /// `Gateway` or `Service`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The listener, where one is named.
    pub section: Option<Arc<str>>,
    /// The port, where one is named.
    pub port: Option<u16>,
    /// What it says.
    pub conditions: Vec<Condition>,
}

/// One listener of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Kinds of routes that may attach.
    pub supported_kinds: Vec<&'static str>,
    /// Number of routes that are attached.
    pub attached_routes: u32,
    /// What is said of it.
    pub conditions: Vec<Condition>,
}

/// Status by key of the document.
pub type Statuses = BTreeMap<Arc<str>, Status>;

impl Status {
    /// Adds a condition: to every parent where it has some, else to the document.
    pub fn add(&mut self, condition: Condition) {
        match self.parents.as_mut_slice() {
            [] => self.conditions.push(condition),
            parents => parents.iter_mut().for_each(|parent| parent.conditions.push(condition.clone())),
        }
    }

    /// Every condition: of the document, its parents and its listeners.
    pub fn all(&self) -> impl Iterator<Item = &Condition> {
        let parents = self.parents.iter().flat_map(|parent| &parent.conditions);
        let listeners = self.listeners.iter().flat_map(|listener| &listener.conditions);
        self.conditions.iter().chain(parents).chain(listeners)
    }
}
