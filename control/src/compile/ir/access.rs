//! Rules of access, as proxies check them.

use std::sync::Arc;

use ipnet::IpNet;

/// What is checked of a request or connection, in this order. Empty where no policy is for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    /// What it holds for may not be done.
    pub(crate) deny: Guard,
    /// What it does not hold for may not be done.
    pub(crate) allow: Guard,
    /// What it holds for is noted.
    pub(crate) audit: Guard,
}

/// Rules of one kind; none is that no policy says anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Guard {
    /// Those that are enforced.
    pub(crate) rules: Option<Vec<Grant>>,
    /// Those that are only watched.
    pub(crate) shadow: Option<Vec<Grant>>,
}

/// A rule of a policy: any permission and any principal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Grant {
    /// `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`, as in Istio; unique.
    pub(crate) name: Arc<str>,
    /// At least one.
    pub(crate) permissions: Vec<Condition<Done>>,
    /// At least one.
    pub(crate) principals: Vec<Condition<Doer>>,
}

/// A condition; sets are never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Condition<Leaf> {
    Any,
    All(Vec<Condition<Leaf>>),
    Some(Vec<Condition<Leaf>>),
    Not(Box<Condition<Leaf>>),
    Is(Leaf),
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Done {
    Host(Text),
    Method(Text),
    Path(Text),
    /// `*` is a segment, `**` any number of them.
    Template(Arc<str>),
    DestinationIp(IpNet),
    DestinationPort(u16),
    ServerName(Text),
}

/// Who does it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Doer {
    /// A name of the peer's certificate.
    Principal(Text),
    SourceIp(IpNet),
    RemoteIp(IpNet),
    Header(Arc<str>, Text),
    /// A claim of the token: a text, or a list with such a text in it.
    Claim(Vec<Arc<str>>, Text),
}

/// A text and how it is compared; it is not empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    Any,
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Suffix(Arc<str>),
    Contains(Arc<str>),
}

impl<Leaf> Condition<Leaf> {
    /// All of these; none is anything.
    pub(crate) fn all(mut of: Vec<Self>) -> Self {
        match of.len() {
            0 => Self::Any,
            1 => of.remove(0),
            _ => Self::All(of),
        }
    }

    /// Any of these, of which there is at least one.
    pub(crate) fn some(mut of: Vec<Self>) -> Self {
        match of.len() {
            1 => of.remove(0),
            _ => Self::Some(of),
        }
    }

    pub(crate) fn not(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// What never holds.
    pub(crate) fn never() -> Self {
        Self::Any.not()
    }
}

impl Guard {
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_none() && self.shadow.is_none()
    }
}
