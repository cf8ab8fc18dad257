//! `when`: conditions by a key.

use std::sync::Arc;

use super::{Clause, Values, pattern, values};
use crate::documents::{
    problem::Report,
    reader::{At, Located, Object},
    values::header_name,
};

/// Keys that stand alone.
const KEYS: [&str; 12] = [
    "request.headers[NAME]",
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.claims[NAME]",
    "destination.ip",
    "destination.port",
    "connection.sni",
];

pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<Clause> {
    let mut object = at.object(report)?;
    let key = object.required("key", report).and_then(|at| at.located(report));
    let clause = key.and_then(|key| of_key(&key, &mut object, report));
    object.finish(report);
    clause
}

fn of_key(key: &Located, object: &mut Object<'_>, report: &mut Report) -> Option<Clause> {
    let place = (object.place, object.path.clone());
    let texts = |object: &mut Object<'_>, report: &mut Report| of(object, pattern::text, report);
    let found = match &*key.text {
        "source.ip" => of(object, pattern::net, report).map(Clause::SourceIp),
        "remote.ip" => of(object, pattern::net, report).map(Clause::RemoteIp),
        "source.namespace" => texts(object, report).map(Clause::Namespace),
        "source.principal" => texts(object, report).map(Clause::Principal),
        "source.serviceAccount" => of(object, pattern::account, report).map(Clause::ServiceAccount),
        "request.auth.principal" => texts(object, report).map(Clause::RequestPrincipal),
        "request.auth.audiences" => claim(&["aud"], object, report),
        "request.auth.presenter" => claim(&["azp"], object, report),
        "destination.ip" => of(object, pattern::net, report).map(Clause::DestinationIp),
        "destination.port" => of(object, pattern::port, report).map(Clause::Port),
        "connection.sni" => texts(object, report).map(Clause::ServerName),
        other => match bracketed(other) {
            Some(("request.headers", names)) if names.len() == 1 => {
                let name = Located { text: names[0].into(), ..key.clone() };
                let values = texts(object, report);
                header_name(&name, report).zip(values).map(|(name, values)| Clause::Header(name, values))
            }
            Some(("request.auth.claims", names)) => claim(&names, object, report),
            _ => {
                let message = format!("{other:?} is not supported");
                report.error(key.place, &key.field, message, format!("known are {}", KEYS.join(", ")));
                texts(object, report);
                return None;
            }
        },
    };
    if found.is_none() && report.is_clean() {
        report.error(place.0, &place.1, "says no values", "give values or notValues");
    }
    found
}

fn of<T>(
    object: &mut Object<'_>,
    read: fn(&At<'_>, &mut Report) -> Option<T>,
    report: &mut Report,
) -> Option<Values<T>> {
    values(object, "values", "notValues", read, report)
}

fn claim(names: &[&str], object: &mut Object<'_>, report: &mut Report) -> Option<Clause> {
    let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    of(object, pattern::text, report).map(|values| Clause::Claim(names, values))
}

/// `word[a][b]`, each name in brackets of its own.
fn bracketed(key: &str) -> Option<(&str, Vec<&str>)> {
    let (word, rest) = key.split_once('[')?;
    let names = rest.strip_suffix(']')?.split("][").collect::<Vec<_>>();
    let whole = |name: &&str| !name.is_empty() && !name.contains(['[', ']']);
    names.iter().all(whole).then_some((word, names))
}
