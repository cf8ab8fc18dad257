//! SPIFFE ids: who a workload is, whatever platform runs it. Pure: a strict grammar, and nothing that guesses.
//!
//! A workload's id has Istio's form, `spiffe://TRUST DOMAIN/ns/NAMESPACE/sa/SERVICE ACCOUNT`. The mesh's own parts have
//! ids of another form, which no attestation of a workload can lead to.

use std::{fmt, str::FromStr, sync::Arc};

/// Longest id, bytes (SPIFFE-ID section 2.3).
const BYTES_MAX: usize = 2048;
/// Longest trust domain, bytes (SPIFFE-ID section 2.1).
const DOMAIN_BYTES_MAX: usize = 255;
const SCHEME: &str = "spiffe://";
const CONTROL_PLANE: &str = "/weft/control-plane";
const ADAPTER: &str = "/weft/adapter/";

/// An id in the strict grammar: lower-case trust domain, path of plain segments, no query, port, escape or dot segment.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path begins.
    path: usize,
}

/// What an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal<'a> {
    /// A workload: its namespace and service account.
    Workload {
        /// Namespace.
        namespace: &'a str,
        /// Service account.
        service_account: &'a str,
    },
    /// A control plane.
    ControlPlane,
    /// An adapter: the name of the source that it may speak for, with its slashes.
    Adapter(&'a str),
    /// Something of another mesh's making.
    Other,
}

/// Text that is no id: why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSpiffeId(&'static str);

impl fmt::Display for NoSpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no SPIFFE id: {}", self.0)
    }
}

impl std::error::Error for NoSpiffeId {}

impl SpiffeId {
    /// A workload's; an error says which part has a character that an id cannot have.
    pub fn workload(domain: &str, namespace: &str, service_account: &str) -> Result<Self, NoSpiffeId> {
        check_segment(namespace)?;
        check_segment(service_account)?;
        format!("{SCHEME}{domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// A control plane's.
    pub fn control_plane(domain: &str) -> Result<Self, NoSpiffeId> {
        format!("{SCHEME}{domain}{CONTROL_PLANE}").parse()
    }

    /// The id of the adapter that speaks for a source (`consul/dc1`).
    pub fn adapter(domain: &str, source: &str) -> Result<Self, NoSpiffeId> {
        format!("{SCHEME}{domain}{ADAPTER}{source}").parse()
    }

    /// The whole, `spiffe://...`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.path]
    }

    /// The path, with its first slash.
    pub fn path(&self) -> &str {
        &self.text[self.path..]
    }

    /// What it stands for.
    pub fn principal(&self) -> Principal<'_> {
        let path = self.path();
        let mut segments = path[1..].split('/');
        match [(); 5].map(|()| segments.next()) {
            [Some("ns"), Some(namespace), Some("sa"), Some(service_account), None] => {
                Principal::Workload { namespace, service_account }
            }
            _ if path == CONTROL_PLANE => Principal::ControlPlane,
            _ => path.strip_prefix(ADAPTER).map_or(Principal::Other, Principal::Adapter),
        }
    }

    /// The namespace and service account of a workload.
    pub fn workload_parts(&self) -> Option<(&str, &str)> {
        match self.principal() {
            Principal::Workload { namespace, service_account } => Some((namespace, service_account)),
            Principal::ControlPlane | Principal::Adapter(_) | Principal::Other => None,
        }
    }
}

impl FromStr for SpiffeId {
    type Err = NoSpiffeId;

    fn from_str(text: &str) -> Result<Self, NoSpiffeId> {
        if text.len() > BYTES_MAX {
            return Err(NoSpiffeId("longer than 2048 bytes"));
        }
        let rest = text.strip_prefix(SCHEME).ok_or(NoSpiffeId("does not begin with spiffe://"))?;
        let (domain, path) = rest.split_once('/').ok_or(NoSpiffeId("has no path"))?;
        check_trust_domain(domain)?;
        path.split('/').try_for_each(check_segment)?;
        Ok(Self { text: text.into(), path: SCHEME.len() + domain.len() })
    }
}

/// Whether a text can be a trust domain; an error says why not.
pub fn check_trust_domain(domain: &str) -> Result<(), NoSpiffeId> {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    match domain.len() {
        0 => Err(NoSpiffeId("has no trust domain")),
        1..=DOMAIN_BYTES_MAX if domain.bytes().all(known) => Ok(()),
        _ => Err(NoSpiffeId("has a trust domain with other than lower-case letters, digits, dots, - and _")),
    }
}

fn check_segment(segment: &str) -> Result<(), NoSpiffeId> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    match segment {
        "" => Err(NoSpiffeId("has an empty segment")),
        "." | ".." => Err(NoSpiffeId("has a dot segment")),
        segment if segment.bytes().all(known) => Ok(()),
        _ => Err(NoSpiffeId("has a segment with other than letters, digits, dots, - and _")),
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_a_strict_grammar() {
        for good in ["spiffe://td/a", "spiffe://cluster.local/ns/default/sa/Web-1"] {
            assert_eq!(good.parse::<SpiffeId>().unwrap().as_str(), good);
        }
        let long = format!("spiffe://td/{}", "a".repeat(BYTES_MAX));
        for bad in [
            "spiffe://td",
            "spiffe://td/",
            "spiffe:///a",
            "spiffe://TD/a",
            "spiffe://td:1/a",
            "spiffe://td/a/",
            "spiffe://td//a",
            "spiffe://td/../a",
            "spiffe://td/a?b",
            "spiffe://td/a#b",
            "spiffe://td/a%2fb",
            "spiffe://td/a\0",
            "spiffe://td/\u{e4}",
            "spiffe://u@td/a",
            "SPIFFE://td/a",
            "https://td/a",
            &long,
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_stands_for_one_thing() {
        let principal = |text: &str| format!("{:?}", text.parse::<SpiffeId>().unwrap().principal());
        let workload = SpiffeId::workload("td", "shop", "web").unwrap();
        assert_eq!(workload.as_str(), "spiffe://td/ns/shop/sa/web");
        assert_eq!((workload.trust_domain(), workload.path()), ("td", "/ns/shop/sa/web"));
        assert_eq!(workload.workload_parts(), Some(("shop", "web")));
        assert_eq!(SpiffeId::control_plane("td").unwrap().principal(), Principal::ControlPlane);
        assert_eq!(
            SpiffeId::adapter("td", "consul/dc1").unwrap().principal(),
            Principal::Adapter("consul/dc1")
        );
        for other in ["spiffe://td/ns/a/sa", "spiffe://td/ns/a/sa/b/c", "spiffe://td/weft/control-plane/a"] {
            assert_eq!(principal(other), "Other");
        }
    }

    #[test]
    fn no_part_of_a_workload_can_add_a_segment() {
        for (namespace, account) in [("a/sa/b", "c"), ("a", "b/c"), ("", "a"), ("a", ".."), ("a", "b c")] {
            assert!(SpiffeId::workload("td", namespace, account).is_err(), "{namespace} {account}");
        }
        assert!(SpiffeId::adapter("td", "../control-plane").is_err());
    }
}
