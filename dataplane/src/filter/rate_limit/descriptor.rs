//! What limits see of a request: entries of a key and a value. Pure.

use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
    net::IpAddr,
};

use crate::{
    router::{View, header_matches, header_value},
    spec::{Action, ActionValue},
};

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request.
    pub view: View<'a>,
    /// The client, as proxies before us tell; none over a unix socket.
    pub client: Option<IpAddr>,
    /// Who calls, where that was proven.
    pub principal: Option<&'a str>,
    /// Name of its route.
    pub route: Option<&'a str>,
}

/// The value of an entry. An address is written as text only for those who need it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Text.
    Text(Cow<'a, [u8]>),
    /// An address.
    Address(IpAddr),
}

impl Value<'_> {
    /// Whether it is this text.
    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Text(own) => **own == *text.as_bytes(),
            Self::Address(own) => text.parse() == Ok(*own),
        }
    }
}

impl Hash for Value<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Text(text) => text.hash(state),
            Self::Address(address) => address.hash(state),
        }
    }
}

/// The descriptor of a request; none where an entry that must be there has no value.
pub fn entries<'a>(actions: &'a [Action], facts: &Facts<'a>) -> Option<Vec<(&'a str, Value<'a>)>> {
    let mut entries = Vec::with_capacity(actions.len());
    for action in actions {
        match value(&action.value, facts) {
            Some(value) => entries.push((&*action.key, value)),
            None if action.optional => {}
            None => return None,
        }
    }
    Some(entries)
}

fn value<'a>(of: &'a ActionValue, facts: &Facts<'a>) -> Option<Value<'a>> {
    let text = |text: &'a str| Some(Value::Text(Cow::Borrowed(text.as_bytes())));
    match of {
        ActionValue::Literal(literal) => text(literal),
        ActionValue::Match { text: value, headers, expect } => {
            let hold = headers.iter().all(|condition| header_matches(condition, &facts.view));
            if hold == *expect { text(value) } else { None }
        }
        ActionValue::Header(name) => header_value(name, &facts.view).map(Value::Text),
        ActionValue::RemoteAddress => facts.client.map(Value::Address),
        ActionValue::Principal => facts.principal.and_then(text),
        ActionValue::Path => text(facts.view.path),
        ActionValue::RouteName => facts.route.and_then(text),
    }
}
