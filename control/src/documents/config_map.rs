//! `ConfigMap` (v1): authorities, which are no secret, for those who refer to them.

use super::{
    problem::Report,
    reader::{Object, nearest},
    secret::{self, Sensitive},
};

/// Kind in keys.
pub const KIND: &str = "ConfigMap";

const AUTHORITIES: &str = "ca.crt";
const REVOCATIONS: &str = "ca.crl";

/// Trusted authorities.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigMap {
    /// PEM.
    pub authorities: Option<Sensitive>,
    /// Revocation lists, PEM.
    pub revocations: Option<Sensitive>,
}

/// Reads what is beside `metadata`.
pub(super) fn read(object: &mut Object<'_>, report: &mut Report) -> Option<ConfigMap> {
    object.field("immutable", report).and_then(|at| at.boolean(report));
    object.unsupported(&["binaryData"], report);
    let mut found = ConfigMap { authorities: None, revocations: None };
    for (key, value) in object.field("data", report).map(|at| at.entries(report)).unwrap_or_default() {
        let Some(text) = value.text(report) else { continue };
        let entry = (key.clone(), Sensitive::of(&text));
        match &*key.text {
            AUTHORITIES => found.authorities = secret::authorities(entry, report),
            REVOCATIONS => found.revocations = secret::revocations(entry, report),
            other => {
                let hint = nearest(other, &[AUTHORITIES, REVOCATIONS]);
                report.error(key.place, &key.field, format!("{other} is not used by proxies"), hint);
            }
        }
    }
    Some(found)
}
