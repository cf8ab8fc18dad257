//! Rules of access in Envoy's words: RBAC filters for requests and for connections.

use std::{collections::HashMap, sync::Arc};

use ipnet::IpNet;
use weft_proto::xds::{
    envoy::{
        config::{
            core::v3::{CidrRange, TypedExtensionConfig},
            listener::v3::{Filter, filter::ConfigType},
            rbac::v3::{
                MetadataSource, Permission, Policy, Principal, Rbac as Rules, SourcedMetadata,
                permission::{self, Rule},
                principal::{self, Authenticated, Identifier},
                rbac::Action,
            },
            route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
        },
        extensions::{
            filters::{
                http::rbac::v3::{Rbac, RbacPerRoute},
                network::{http_connection_manager::v3::HttpFilter, rbac::v3::Rbac as NetworkRbac},
            },
            path::r#match::uri_template::v3::UriTemplateMatchConfig,
        },
        r#type::matcher::v3::{
            ListMatcher, MetadataMatcher, OrMatcher, PathMatcher, RegexMatcher, StringMatcher, ValueMatcher,
            list_matcher,
            metadata_matcher::{PathSegment, path_segment::Segment},
            path_matcher,
            string_matcher::MatchPattern,
            value_matcher,
        },
    },
    google::protobuf::Any,
};

use super::{any, filter, number, tokens::JWT};
use crate::compile::ir::{Access, Condition, Doer, Done, Grant, Guard, Text};

const HTTP_TYPE: &str = "envoy.extensions.filters.http.rbac.v3.RBAC";
const ROUTE_TYPE: &str = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
const NETWORK_TYPE: &str = "envoy.extensions.filters.network.rbac.v3.RBAC";
const TEMPLATE: &str = "envoy.path.match.uri_template.uri_template_matcher";
const TEMPLATE_TYPE: &str = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";

/// Where the filter of tokens keeps what it found out, as in Istio.
pub(super) const PAYLOAD: &str = "payload";

/// A step, the name of its filters, and what its dry runs are called in statistics.
struct Step {
    action: Action,
    http: &'static str,
    network: &'static str,
    shadow: &'static str,
}

/// The steps in order; what is denied is not allowed by anything after.
const STEPS: [Step; 3] = [
    Step {
        action: Action::Deny,
        http: "envoy.filters.http.rbac.deny",
        network: "envoy.filters.network.rbac.deny",
        shadow: "istio_dry_run_deny_",
    },
    Step {
        action: Action::Allow,
        http: "envoy.filters.http.rbac.allow",
        network: "envoy.filters.network.rbac.allow",
        shadow: "istio_dry_run_allow_",
    },
    Step {
        action: Action::Log,
        http: "envoy.filters.http.rbac.audit",
        network: "envoy.filters.network.rbac.audit",
        shadow: "",
    },
];

fn steps(access: &Access) -> impl Iterator<Item = (&'static Step, &Guard)> {
    STEPS.iter().zip([&access.deny, &access.allow, &access.audit])
}

/// The filters of every listener: they do nothing until a route table says so, and a policy that comes or goes leaves the
/// listener and its connections alone.
pub(super) fn filters() -> impl Iterator<Item = HttpFilter> {
    STEPS.iter().map(|step| {
        let idle = filter::filter((step.http, HTTP_TYPE), &Rbac::default());
        HttpFilter { disabled: true, ..idle }
    })
}

/// What a route table says to them.
pub(super) fn of_table(access: &Access) -> HashMap<String, Any> {
    let said = steps(access).filter(|(_, guard)| !guard.is_empty()).map(|(step, guard)| {
        let per_route = RbacPerRoute { rbac: Some(http(step, guard)) };
        (step.http.to_owned(), any(ROUTE_TYPE, &per_route))
    });
    said.collect()
}

/// The filters of a gRPC server, which has no route table of its own. It knows no dry runs.
pub(super) fn of_grpc_server(access: &Access) -> Vec<HttpFilter> {
    let enforced = steps(access).filter(|(step, guard)| guard.rules.is_some() && step.action != Action::Log);
    let guarded = |(step, guard): (&Step, &Guard)| {
        let rules = guard.rules.as_ref().map(|grants| rules(step.action, grants));
        filter::filter((step.http, HTTP_TYPE), &Rbac { rules, ..Default::default() })
    };
    enforced.map(guarded).chain([filter::router()]).collect()
}

fn http(step: &Step, guard: &Guard) -> Rbac {
    let of = |grants: &Option<Vec<Grant>>| grants.as_ref().map(|grants| rules(step.action, grants));
    let shadow = of(&guard.shadow);
    let shadow_rules_stat_prefix = if shadow.is_some() { step.shadow.to_owned() } else { String::new() };
    Rbac { rules: of(&guard.rules), shadow_rules: shadow, shadow_rules_stat_prefix, ..Default::default() }
}

/// The filters of a chain of connections.
pub(super) fn of_connections(access: &Access) -> Vec<Filter> {
    let filter = |(step, guard): (&'static Step, &Guard)| {
        let Rbac { rules, shadow_rules, shadow_rules_stat_prefix, .. } = http(step, guard);
        let config = NetworkRbac {
            rules,
            shadow_rules,
            shadow_rules_stat_prefix,
            stat_prefix: "tcp.".to_owned(),
            ..Default::default()
        };
        Filter {
            name: step.network.to_owned(),
            config_type: Some(ConfigType::TypedConfig(any(NETWORK_TYPE, &config))),
        }
    };
    steps(access).filter(|(_, guard)| !guard.is_empty()).map(filter).collect()
}

fn rules(action: Action, grants: &[Grant]) -> Rules {
    let policy = |grant: &Grant| {
        let policy = Policy {
            permissions: grant.permissions.iter().map(permission).collect(),
            principals: grant.principals.iter().map(principal).collect(),
            ..Default::default()
        };
        (grant.name.to_string(), policy)
    };
    Rules { action: action.into(), policies: grants.iter().map(policy).collect(), ..Default::default() }
}

fn permission(condition: &Condition<Done>) -> Permission {
    let set = |of: &[Condition<Done>]| permission::Set { rules: of.iter().map(permission).collect() };
    let rule = match condition {
        Condition::Any => Rule::Any(true),
        Condition::All(of) => Rule::AndRules(set(of)),
        Condition::Some(of) => Rule::OrRules(set(of)),
        Condition::Not(of) => Rule::NotRule(Box::new(permission(of))),
        Condition::Is(done) => done_rule(done),
    };
    Permission { rule: Some(rule) }
}

fn done_rule(done: &Done) -> Rule {
    match done {
        // Hosts have no case.
        Done::Host(text) => Rule::Header(header(":authority", text, true)),
        Done::Method(text) => Rule::Header(header(":method", text, false)),
        Done::Path(text) => {
            let text = if *text == Text::Any { &Text::Prefix("/".into()) } else { text };
            Rule::UrlPath(PathMatcher { rule: Some(path_matcher::Rule::Path(string(text, false))) })
        }
        Done::Template(template) => {
            let config = UriTemplateMatchConfig { path_template: template.to_string() };
            Rule::UriTemplate(TypedExtensionConfig {
                name: TEMPLATE.to_owned(),
                typed_config: Some(any(TEMPLATE_TYPE, &config)),
            })
        }
        Done::DestinationIp(net) => Rule::DestinationIp(range(net)),
        Done::DestinationPort(port) => Rule::DestinationPort((*port).into()),
        Done::ServerName(text) => Rule::RequestedServerName(string(text, true)),
    }
}

fn principal(condition: &Condition<Doer>) -> Principal {
    let set = |of: &[Condition<Doer>]| principal::Set { ids: of.iter().map(principal).collect() };
    let identifier = match condition {
        Condition::Any => Identifier::Any(true),
        Condition::All(of) => Identifier::AndIds(set(of)),
        Condition::Some(of) => Identifier::OrIds(set(of)),
        Condition::Not(of) => Identifier::NotId(Box::new(principal(of))),
        Condition::Is(doer) => doer_identifier(doer),
    };
    Principal { identifier: Some(identifier) }
}

fn doer_identifier(doer: &Doer) -> Identifier {
    match doer {
        Doer::Principal(text) => {
            Identifier::Authenticated(Authenticated { principal_name: Some(string(text, false)) })
        }
        Doer::SourceIp(net) => Identifier::DirectRemoteIp(range(net)),
        Doer::RemoteIp(net) => Identifier::RemoteIp(range(net)),
        Doer::Header(name, text) => Identifier::Header(header(name, text, false)),
        Doer::Claim(path, text) => Identifier::SourcedMetadata(SourcedMetadata {
            metadata_matcher: Some(claim(path, text)),
            metadata_source: MetadataSource::Dynamic.into(),
        }),
    }
}

fn claim(path: &[Arc<str>], text: &Text) -> MetadataMatcher {
    let segment = |key: &str| PathSegment { segment: Some(Segment::Key(key.to_owned())) };
    let is = |pattern| ValueMatcher { match_pattern: Some(pattern) };
    let value = match text {
        Text::Any => is(value_matcher::MatchPattern::PresentMatch(true)),
        text => {
            let one = is(value_matcher::MatchPattern::StringMatch(string(text, false)));
            let within = list_matcher::MatchPattern::OneOf(Box::new(one.clone()));
            let list = ListMatcher { match_pattern: Some(within) };
            let list = is(value_matcher::MatchPattern::ListMatch(Box::new(list)));
            is(value_matcher::MatchPattern::OrMatch(OrMatcher { value_matchers: vec![one, list] }))
        }
    };
    MetadataMatcher {
        filter: JWT.to_owned(),
        path: [PAYLOAD].into_iter().chain(path.iter().map(|key| &**key)).map(segment).collect(),
        value: Some(value),
        invert: false,
    }
}

fn header(name: &str, text: &Text, ignore_case: bool) -> HeaderMatcher {
    let specifier = match text {
        Text::Any => HeaderMatchSpecifier::PresentMatch(true),
        text => HeaderMatchSpecifier::StringMatch(string(text, ignore_case)),
    };
    HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..Default::default() }
}

fn string(text: &Text, ignore_case: bool) -> StringMatcher {
    let pattern = match text {
        Text::Any => {
            let regex = RegexMatcher { regex: ".+".to_owned(), ..Default::default() };
            return StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(regex)), ignore_case: false };
        }
        Text::Exact(text) => MatchPattern::Exact(text.to_string()),
        Text::Prefix(text) => MatchPattern::Prefix(text.to_string()),
        Text::Suffix(text) => MatchPattern::Suffix(text.to_string()),
        Text::Contains(text) => MatchPattern::Contains(text.to_string()),
    };
    StringMatcher { match_pattern: Some(pattern), ignore_case }
}

fn range(net: &IpNet) -> CidrRange {
    CidrRange { address_prefix: net.addr().to_string(), prefix_len: number(net.prefix_len().into()) }
}
