//! Rules of access: Envoy's RBAC filters for requests and for connections. A condition that this proxy cannot check is
//! refused: were it passed over, the rule would mean something else.

use std::{collections::HashMap, mem::take, sync::Arc};

use weft_proto::xds::{
    envoy::{
        config::{
            core::v3::TypedExtensionConfig,
            rbac::v3::{
                MetadataSource, Permission, Policy as RawPolicy, Principal, Rbac as RawRules,
                SourcedMetadata, permission::Rule, principal::Identifier, rbac::Action,
            },
        },
        extensions::{
            filters::{
                http::rbac::v3::{Rbac as HttpRbac, RbacPerRoute},
                network::rbac::v3::{Rbac as NetworkRbac, rbac::EnforcementType},
            },
            path::r#match::uri_template::v3::UriTemplateMatchConfig,
        },
        r#type::{
            matcher::v3::{
                MetadataMatcher, PathMatcher, ValueMatcher, double_matcher, list_matcher,
                metadata_matcher::{PathSegment, path_segment},
                path_matcher,
                value_matcher::MatchPattern,
            },
            v3::Int32Range,
        },
    },
    google::protobuf::Any,
};

use super::{At, Refusal, chain, matching, nothing_left, pass_over, required, unpack};
use crate::spec::{
    Condition, DataMatch, FilterChange, FilterConfig, MetadataMatch, Policy, Rbac, RbacAction, Rules,
    Tallies, ValueMatch,
};

/// Deepest nesting of conditions.
const DEPTH_MAX: usize = 64;
/// Most policies of one filter.
const POLICIES_MAX: usize = 10_000;

/// The filter of a listener's requests.
pub(super) fn of_listener(any: &Any) -> Result<FilterConfig, Refusal> {
    http(unpack(any)?).map(Arc::new).map(FilterConfig::Rbac)
}

/// What a route says of it; without rules it does nothing there.
pub(super) fn of_route(any: &Any) -> Result<FilterChange, Refusal> {
    let mut raw: RbacPerRoute = unpack(any)?;
    match raw.rbac.take() {
        None => Ok(FilterChange::Disabled),
        Some(rules) => {
            let rbac = http(rules).at("rbac")?;
            Ok(FilterChange::Config(FilterConfig::Rbac(Arc::new(rbac))))
        }
    }
}

fn http(mut raw: HttpRbac) -> Result<Rbac, Refusal> {
    let rbac = Rbac {
        rules: raw.rules.take().map(rules).transpose().at("rules")?,
        shadow: raw.shadow_rules.take().map(rules).transpose().at("shadow_rules")?,
    };
    // Names of statistics.
    pass_over!(raw: rules_stat_prefix, shadow_rules_stat_prefix, track_per_rule_stats);
    nothing_left(&raw)?;
    Ok(rbac)
}

/// The filter of a chain's connections.
pub(super) fn of_connections(any: &Any) -> Result<Rbac, Refusal> {
    let mut raw: NetworkRbac = unpack(any)?;
    if take(&mut raw.enforcement_type) != EnforcementType::OneTimeOnFirstByte as i32 {
        return Err(Refusal::new(
            "enforcement_type",
            "only ONE_TIME_ON_FIRST_BYTE is supported by this proxy",
        ));
    }
    let rbac = Rbac {
        rules: raw.rules.take().map(rules).transpose().at("rules")?,
        shadow: raw.shadow_rules.take().map(rules).transpose().at("shadow_rules")?,
    };
    pass_over!(raw: stat_prefix, shadow_rules_stat_prefix);
    nothing_left(&raw)?;
    Ok(rbac)
}

fn rules(mut raw: RawRules) -> Result<Rules, Refusal> {
    let action = match Action::try_from(take(&mut raw.action)) {
        Ok(Action::Allow) => RbacAction::Allow,
        Ok(Action::Deny) => RbacAction::Deny,
        Ok(Action::Log) => RbacAction::Log,
        Err(_) => return Err(Refusal::new("action", "an unknown value")),
    };
    let found: HashMap<String, RawPolicy> = take(&mut raw.policies);
    if found.len() > POLICIES_MAX {
        let problem = format!("{} policies; at most {POLICIES_MAX} are taken", found.len());
        return Err(Refusal::new("policies", problem));
    }
    let mut policies = Vec::with_capacity(found.len());
    for (name, raw) in found {
        policies.push(policy(&name, raw).at(&format!("policies[{name}]"))?);
    }
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    nothing_left(&raw)?;
    Ok(Rules { action, policies, unmatched: Tallies::default() })
}

fn policy(name: &str, mut raw: RawPolicy) -> Result<Policy, Refusal> {
    let permissions = take(&mut raw.permissions).into_iter().enumerate();
    let permissions = permissions.map(|(i, raw)| permission(raw, 0).at_index("permissions", i));
    let permissions: Vec<_> = permissions.collect::<Result<_, _>>()?;
    let principals = take(&mut raw.principals).into_iter().enumerate();
    let principals = principals.map(|(i, raw)| principal(raw, 0).at_index("principals", i));
    let principals: Vec<_> = principals.collect::<Result<_, _>>()?;
    for (field, empty) in [("permissions", permissions.is_empty()), ("principals", principals.is_empty())] {
        if empty {
            return Err(Refusal::new(field, "empty"));
        }
    }
    nothing_left(&raw)?;
    // In a log one space more would be one column more.
    let shown: String = name.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
    let details = format!("rbac_access_denied_matched_policy[{shown}]").into();
    Ok(Policy { name: name.into(), details, permissions, principals, tallies: Tallies::default() })
}

/// One condition needs no bracket around it.
fn all(mut conditions: Vec<Condition>) -> Condition {
    match conditions.len() {
        1 => conditions.remove(0),
        _ => Condition::All(conditions),
    }
}

fn some(mut conditions: Vec<Condition>) -> Condition {
    match conditions.len() {
        1 => conditions.remove(0),
        _ => Condition::Some(conditions),
    }
}

/// Reads the conditions of a set, one level deeper.
fn set<Raw>(
    raw: Vec<Raw>,
    field: &str,
    depth: usize,
    read: fn(Raw, usize) -> Result<Condition, Refusal>,
) -> Result<Vec<Condition>, Refusal> {
    if raw.is_empty() {
        return Err(Refusal::new(field, "empty"));
    }
    let read = |(i, raw)| read(raw, depth + 1).at_index(field, i);
    raw.into_iter().enumerate().map(read).collect()
}

fn not_too_deep(depth: usize) -> Result<(), Refusal> {
    if depth < DEPTH_MAX {
        return Ok(());
    }
    Err(Refusal::new("", format!("conditions are nested more than {DEPTH_MAX} deep")))
}

/// The two kinds say `any: true` or nothing at all.
fn any(said: bool) -> Result<Condition, Refusal> {
    if said { Ok(Condition::Any) } else { Err(Refusal::new("any", "must be true")) }
}

fn permission(raw: Permission, depth: usize) -> Result<Condition, Refusal> {
    not_too_deep(depth)?;
    let Some(rule) = raw.rule else { return Err(Refusal::new("rule", "missing")) };
    Ok(match rule {
        Rule::AndRules(raw) => all(set(raw.rules, "and_rules.rules", depth, permission)?),
        Rule::OrRules(raw) => some(set(raw.rules, "or_rules.rules", depth, permission)?),
        Rule::NotRule(raw) => Condition::Not(Box::new(permission(*raw, depth + 1).at("not_rule")?)),
        Rule::Any(said) => any(said)?,
        Rule::Header(raw) => Condition::Header(matching::header(raw).at("header")?),
        Rule::UrlPath(raw) => Condition::Path(path(raw).at("url_path")?),
        Rule::DestinationIp(raw) => Condition::DestinationIp(chain::prefix(raw).at("destination_ip")?),
        Rule::DestinationPort(port) => {
            let port = u16::try_from(port).map_err(|_| Refusal::new("destination_port", "no port"))?;
            Condition::DestinationPort(port..=port)
        }
        Rule::DestinationPortRange(raw) => port_range(raw).at("destination_port_range")?,
        Rule::RequestedServerName(raw) => {
            Condition::ServerName(matching::string(raw).at("requested_server_name")?)
        }
        Rule::UriTemplate(raw) => template(raw).at("uri_template")?,
        Rule::SourcedMetadata(raw) => sourced(raw).at("sourced_metadata")?,
        Rule::Metadata(raw) => Condition::Metadata(metadata(raw).at("metadata")?),
        Rule::Matcher(raw) => {
            return Err(Refusal::new("matcher", format!("{:?} is not supported by this proxy", raw.name)));
        }
    })
}

fn principal(raw: Principal, depth: usize) -> Result<Condition, Refusal> {
    not_too_deep(depth)?;
    let Some(identifier) = raw.identifier else { return Err(Refusal::new("identifier", "missing")) };
    Ok(match identifier {
        Identifier::AndIds(raw) => all(set(raw.ids, "and_ids.ids", depth, principal)?),
        Identifier::OrIds(raw) => some(set(raw.ids, "or_ids.ids", depth, principal)?),
        Identifier::NotId(raw) => Condition::Not(Box::new(principal(*raw, depth + 1).at("not_id")?)),
        Identifier::Any(said) => any(said)?,
        Identifier::Authenticated(raw) => {
            let name = raw.principal_name.map(matching::string).transpose();
            Condition::Authenticated(name.at("authenticated.principal_name")?)
        }
        Identifier::DirectRemoteIp(raw) => Condition::SourceIp(chain::prefix(raw).at("direct_remote_ip")?),
        Identifier::RemoteIp(raw) => Condition::RemoteIp(chain::prefix(raw).at("remote_ip")?),
        Identifier::Header(raw) => Condition::Header(matching::header(raw).at("header")?),
        Identifier::UrlPath(raw) => Condition::Path(path(raw).at("url_path")?),
        Identifier::SourcedMetadata(raw) => sourced(raw).at("sourced_metadata")?,
        Identifier::Metadata(raw) => Condition::Metadata(metadata(raw).at("metadata")?),
        // What it means has changed over time.
        Identifier::SourceIp(_) => {
            return Err(Refusal::new("source_ip", "say direct_remote_ip or remote_ip"));
        }
        Identifier::FilterState(_) => {
            return Err(Refusal::new("filter_state", "not supported by this proxy"));
        }
        Identifier::Custom(_) => return Err(Refusal::new("custom", "not supported by this proxy")),
    })
}

fn path(raw: PathMatcher) -> Result<ValueMatch, Refusal> {
    match raw.rule {
        Some(path_matcher::Rule::Path(raw)) => matching::string(raw).at("path"),
        None => Err(Refusal::new("rule", "missing")),
    }
}

/// Half open.
fn port_range(raw: Int32Range) -> Result<Condition, Refusal> {
    let start = u16::try_from(raw.start).ok();
    let end = raw.end.checked_sub(1).and_then(|last| u16::try_from(last).ok());
    let range = start.zip(end).filter(|(start, last)| start <= last);
    let (start, last) =
        range.ok_or_else(|| Refusal::new("", format!("{}..{} is no range of ports", raw.start, raw.end)))?;
    Ok(Condition::DestinationPort(start..=last))
}

/// A path template: `*` is one segment, `**` any number of them, at the end or before literals.
fn template(raw: TypedExtensionConfig) -> Result<Condition, Refusal> {
    let Some(any) = raw.typed_config else { return Err(Refusal::new("typed_config", "missing")) };
    let raw: UriTemplateMatchConfig = unpack(&any).at("typed_config")?;
    let text = required(raw.path_template, "typed_config.path_template")?;
    let bad = |problem: &str| Refusal::new("typed_config.path_template", format!("{text:?}: {problem}"));
    let segments = text.strip_prefix('/').ok_or_else(|| bad("it begins with a slash"))?;
    let (mut pattern, mut ended) = (String::from("^"), false);
    for segment in segments.split('/') {
        pattern.push('/');
        if matches!(segment, "*" | "**") && ended {
            return Err(bad("no wildcard may follow **"));
        }
        match segment {
            "*" => pattern.push_str("[^/]+"),
            "**" => {
                ended = true;
                pattern.push_str("(?s-u:.)*");
            }
            literal if literal.contains(['*', '{', '}']) => {
                return Err(bad("a segment is a literal, * or **"));
            }
            literal => pattern.push_str(&regex::escape(literal)),
        }
    }
    pattern.push('$');
    matching::pattern(&pattern).map(Condition::Template)
}

fn sourced(raw: SourcedMetadata) -> Result<Condition, Refusal> {
    if raw.metadata_source != MetadataSource::Dynamic as i32 {
        return Err(Refusal::new("metadata_source", "only DYNAMIC is supported by this proxy"));
    }
    let matcher = raw.metadata_matcher.ok_or_else(|| Refusal::new("metadata_matcher", "missing"))?;
    metadata(matcher).at("metadata_matcher").map(Condition::Metadata)
}

fn metadata(raw: MetadataMatcher) -> Result<MetadataMatch, Refusal> {
    let key = |(i, segment): (usize, PathSegment)| match segment.segment {
        Some(path_segment::Segment::Key(key)) => Ok(Arc::from(key)),
        None => Err(Refusal::new("segment", "missing")).at_index("path", i),
    };
    let path: Vec<Arc<str>> = raw.path.into_iter().enumerate().map(key).collect::<Result<_, _>>()?;
    if path.is_empty() {
        return Err(Refusal::new("path", "empty"));
    }
    let value = raw.value.ok_or_else(|| Refusal::new("value", "missing"))?;
    let value = data(value, 0).at("value")?;
    Ok(MetadataMatch { filter: required(raw.filter, "filter")?.into(), path, value, invert: raw.invert })
}

fn data(raw: ValueMatcher, depth: usize) -> Result<DataMatch, Refusal> {
    not_too_deep(depth)?;
    let Some(pattern) = raw.match_pattern else { return Err(Refusal::new("match_pattern", "missing")) };
    Ok(match pattern {
        MatchPattern::NullMatch(_) => DataMatch::Null,
        MatchPattern::DoubleMatch(raw) => match raw.match_pattern {
            Some(double_matcher::MatchPattern::Exact(number)) => DataMatch::Number(number),
            _ => return Err(Refusal::new("double_match", "only exact is supported by this proxy")),
        },
        MatchPattern::StringMatch(raw) => DataMatch::Text(matching::string(raw).at("string_match")?),
        MatchPattern::BoolMatch(wanted) => DataMatch::Bool(wanted),
        MatchPattern::PresentMatch(wanted) => DataMatch::Present(wanted),
        MatchPattern::ListMatch(raw) => match raw.match_pattern {
            Some(list_matcher::MatchPattern::OneOf(inner)) => {
                DataMatch::OneOf(Box::new(data(*inner, depth + 1).at("list_match.one_of")?))
            }
            None => return Err(Refusal::new("list_match", "empty")),
        },
        MatchPattern::OrMatch(raw) => {
            let any = raw.value_matchers.into_iter().enumerate();
            let any = any.map(|(i, raw)| data(raw, depth + 1).at_index("or_match.value_matchers", i));
            DataMatch::Or(any.collect::<Result<_, _>>()?)
        }
    })
}

#[cfg(test)]
mod tests;
