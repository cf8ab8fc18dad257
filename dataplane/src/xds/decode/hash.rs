//! `RouteAction.hash_policy`, and `hash_policy` of TCP proxies.

use http::HeaderValue;
use weft_proto::xds::envoy::{
    config::route::v3::route_action::{
        HashPolicy as RawPolicy,
        hash_policy::{Cookie, PolicySpecifier},
    },
    r#type::v3::{HashPolicy as TcpPolicy, hash_policy::PolicySpecifier as TcpSpecifier},
};

use super::{At, Refusal, duration, matching, required};
use crate::spec::{HashCookie, HashPolicy, HashSource};

/// Most parts of one hash.
const POLICIES_MAX: usize = 64;

pub(super) fn policies(raw: Vec<RawPolicy>) -> Result<Vec<HashPolicy>, Refusal> {
    if raw.len() > POLICIES_MAX {
        let problem = format!("{} parts; at most {POLICIES_MAX} are taken", raw.len());
        return Err(Refusal::new("hash_policy", problem));
    }
    let policies = raw.into_iter().enumerate();
    let policies = policies.filter_map(|(i, raw)| policy(raw).at_index("hash_policy", i).transpose());
    policies.collect()
}

/// None where the policy never gives a hash.
fn policy(raw: RawPolicy) -> Result<Option<HashPolicy>, Refusal> {
    let source = match raw.policy_specifier {
        Some(PolicySpecifier::Header(header)) => {
            let name = required(header.header_name, "header.header_name")?.to_ascii_lowercase();
            let rewrite = match header.regex_rewrite {
                None => None,
                Some(rewrite) => {
                    let at = "header.regex_rewrite";
                    let pattern = rewrite.pattern.unwrap_or_default();
                    let pattern = matching::partial_regex(&pattern).at("pattern").at(at)?;
                    let by = matching::substitution(&rewrite.substitution).at("substitution").at(at)?;
                    Some((pattern, by))
                }
            };
            HashSource::Header { name, rewrite }
        }
        Some(PolicySpecifier::Cookie(raw)) => HashSource::Cookie(cookie(raw).at("cookie")?),
        Some(PolicySpecifier::ConnectionProperties(properties)) => {
            if !properties.source_ip {
                return Ok(None);
            }
            HashSource::SourceIp
        }
        Some(PolicySpecifier::QueryParameter(query)) => {
            HashSource::Query(required(query.name, "query_parameter.name")?)
        }
        Some(PolicySpecifier::FilterState(_)) => {
            return Err(Refusal::new("filter_state", "not supported by this proxy"));
        }
        None => return Err(Refusal::new("policy_specifier", "missing")),
    };
    Ok(Some(HashPolicy { source, terminal: raw.terminal }))
}

fn cookie(raw: Cookie) -> Result<HashCookie, Refusal> {
    let name = required(raw.name, "name")?;
    let issue = match raw.ttl {
        None => None,
        Some(ttl) => {
            // Whole seconds, as in the header; none at all is a cookie of the browser's session.
            let seconds = duration(ttl).at("ttl")?.as_secs();
            let mut rest = String::new();
            if seconds > 0 {
                rest.push_str(&format!("; Max-Age={seconds}"));
            }
            if !raw.path.is_empty() {
                rest.push_str(&format!("; Path={}", raw.path));
            }
            for (i, attribute) in raw.attributes.into_iter().enumerate() {
                let name = required(attribute.name, "name").at_index("attributes", i)?;
                rest.push_str("; ");
                rest.push_str(&name);
                if !attribute.value.is_empty() {
                    rest.push('=');
                    rest.push_str(&attribute.value);
                }
            }
            rest.push_str("; HttpOnly");
            Some(rest)
        }
    };
    let header = format!("{name}={}", issue.as_deref().unwrap_or_default());
    if name.contains(['=', ';', ' ', '"']) || HeaderValue::try_from(header).is_err() {
        return Err(Refusal::new("name", "the cookie cannot be written in a header"));
    }
    Ok(HashCookie { name, issue })
}

/// Whether connections are told apart by their callers' addresses.
pub(super) fn tcp(raw: Vec<TcpPolicy>) -> Result<bool, Refusal> {
    let mut by_source = false;
    for (i, policy) in raw.into_iter().enumerate() {
        match policy.policy_specifier {
            Some(TcpSpecifier::SourceIp(_)) => by_source = true,
            Some(TcpSpecifier::FilterState(_)) => {
                let refusal = Refusal::new("filter_state", "not supported by this proxy");
                return Err(refusal).at_index("hash_policy", i);
            }
            None => return Err(Refusal::new("policy_specifier", "missing")).at_index("hash_policy", i),
        }
    }
    Ok(by_source)
}

#[cfg(test)]
mod tests {
    use weft_proto::xds::{
        envoy::{
            config::route::v3::route_action::hash_policy::{
                ConnectionProperties, CookieAttribute, FilterState, Header, QueryParameter,
            },
            r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher},
        },
        google::protobuf::Duration,
    };

    use super::*;

    fn raw(specifier: PolicySpecifier) -> RawPolicy {
        RawPolicy { policy_specifier: Some(specifier), terminal: true }
    }

    fn session(name: &str) -> Cookie {
        Cookie { name: name.into(), ttl: Some(Duration::default()), ..Default::default() }
    }

    fn issue(cookie: Cookie) -> Option<String> {
        match policies(vec![raw(PolicySpecifier::Cookie(cookie))]).unwrap().remove(0).source {
            HashSource::Cookie(cookie) => cookie.issue,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(specifier: PolicySpecifier, field: &str) {
        assert_eq!(policies(vec![raw(specifier)]).unwrap_err().field, field);
    }

    #[test]
    fn issued_cookies_look_as_in_envoy() {
        assert_eq!(issue(Cookie { ttl: None, ..session("id") }), None);
        assert_eq!(issue(session("id")).unwrap(), "; HttpOnly");
        let ttl = Some(Duration { seconds: 60, nanos: 1 });
        let attribute = |name: &str, value: &str| CookieAttribute { name: name.into(), value: value.into() };
        let attributes = vec![attribute("SameSite", "Lax"), attribute("Secure", "")];
        let full = Cookie { ttl, path: "/a".into(), attributes, ..session("id") };
        assert_eq!(issue(full).unwrap(), "; Max-Age=60; Path=/a; SameSite=Lax; Secure; HttpOnly");
    }

    #[test]
    fn what_cannot_be_hashed_or_written_is_named() {
        refused(PolicySpecifier::Cookie(session("")), "hash_policy[0].cookie.name");
        refused(PolicySpecifier::Cookie(session("a=b")), "hash_policy[0].cookie.name");
        let split = Cookie { path: "/\r\nx: y".into(), ..session("id") };
        refused(PolicySpecifier::Cookie(split), "hash_policy[0].cookie.name");
        refused(PolicySpecifier::FilterState(FilterState::default()), "hash_policy[0].filter_state");
        refused(PolicySpecifier::Header(Header::default()), "hash_policy[0].header.header_name");
        let query = QueryParameter::default();
        refused(PolicySpecifier::QueryParameter(query), "hash_policy[0].query_parameter.name");
        let pattern = Some(RegexMatcher { regex: "(".into(), ..Default::default() });
        let regex_rewrite = Some(RegexMatchAndSubstitute { pattern, substitution: String::new() });
        let header = Header { header_name: "x".into(), regex_rewrite };
        refused(PolicySpecifier::Header(header), "hash_policy[0].header.regex_rewrite.pattern.regex");
        assert_eq!(
            policies(vec![RawPolicy::default()]).unwrap_err().field,
            "hash_policy[0].policy_specifier"
        );
    }

    #[test]
    fn connection_properties_without_any_say_nothing() {
        let by_ip =
            |source_ip| raw(PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip }));
        assert_eq!(policies(vec![by_ip(false)]).unwrap().len(), 0);
        assert!(policies(vec![by_ip(true)]).unwrap()[0].terminal);
        assert!(!tcp(Vec::new()).unwrap());
        assert_eq!(tcp(vec![TcpPolicy::default()]).unwrap_err().field, "hash_policy[0].policy_specifier");
    }
}
