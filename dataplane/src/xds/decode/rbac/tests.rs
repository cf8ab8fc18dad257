//! Rules of access: what is taken and refused, and that what is decided by them is what a naive reading of the protocol says.

use prost::{Message, Name};
use weft_proto::xds::{
    envoy::{
        config::{
            core::v3::CidrRange,
            rbac::v3::{permission, principal, principal::Authenticated},
            route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern as StringPattern},
    },
    google::protobuf::UInt32Value,
};

use super::*;
use crate::spec::FilterConfig;

mod generated;
mod oracle;

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn one(permission: Rule, principal: Identifier) -> HttpRbac {
    let policy = RawPolicy {
        permissions: vec![Permission { rule: Some(permission) }],
        principals: vec![Principal { identifier: Some(principal) }],
        ..Default::default()
    };
    let rules = RawRules { policies: [("p q".to_owned(), policy)].into(), ..Default::default() };
    HttpRbac { rules: Some(rules), ..Default::default() }
}

fn template_of(text: &str) -> Rule {
    let config = UriTemplateMatchConfig { path_template: text.to_owned() };
    Rule::UriTemplate(TypedExtensionConfig { name: "t".to_owned(), typed_config: Some(any(&config)) })
}

#[track_caller]
fn refused(permission: Rule, principal: Identifier, field: &str) {
    let error = of_listener(&any(&one(permission, principal))).unwrap_err();
    assert_eq!(error.field, format!("rules.policies[p q].{field}"), "{error}");
}

#[test]
fn a_policy_knows_what_its_refusals_are_called() {
    let found = of_listener(&any(&one(Rule::Any(true), Identifier::Any(true)))).unwrap();
    let FilterConfig::Rbac(rbac) = found else { panic!("{found:?}") };
    let rules = rbac.rules.as_ref().unwrap();
    assert_eq!((rules.action, rules.policies.len()), (RbacAction::Allow, 1));
    assert_eq!(&*rules.policies[0].details, "rbac_access_denied_matched_policy[p_q]");
    assert!(rbac.shadow.is_none() && !rbac.is_empty());
    let FilterConfig::Rbac(nothing) = of_listener(&any(&HttpRbac::default())).unwrap() else { panic!() };
    assert!(nothing.is_empty());
    assert!(matches!(of_route(&any(&RbacPerRoute::default())).unwrap(), FilterChange::Disabled));
}

#[test]
fn what_cannot_be_checked_is_refused_by_name() {
    let any_id = || Identifier::Any(true);
    refused(Rule::Any(false), any_id(), "permissions[0].any");
    refused(Rule::Matcher(TypedExtensionConfig::default()), any_id(), "permissions[0].matcher");
    refused(Rule::AndRules(permission::Set::default()), any_id(), "permissions[0].and_rules.rules");
    let range =
        CidrRange { address_prefix: "10.0.0.0".to_owned(), prefix_len: Some(UInt32Value { value: 33 }) };
    refused(Rule::DestinationIp(range.clone()), any_id(), "permissions[0].destination_ip.prefix_len");
    refused(Rule::DestinationPort(70_000), any_id(), "permissions[0].destination_port");
    for bad in ["a", "/a*", "/{a}", "/**/*", "/**/**"] {
        refused(template_of(bad), any_id(), "permissions[0].uri_template.typed_config.path_template");
    }
    refused(Rule::Any(true), Identifier::SourceIp(range), "principals[0].source_ip");
    refused(Rule::Any(true), Identifier::FilterState(Default::default()), "principals[0].filter_state");
    let route = SourcedMetadata { metadata_source: MetadataSource::Route.into(), ..Default::default() };
    refused(
        Rule::Any(true),
        Identifier::SourcedMetadata(route),
        "principals[0].sourced_metadata.metadata_source",
    );
    let mut raw = one(Rule::Any(true), any_id());
    raw.matcher = Some(Default::default());
    assert_eq!(of_listener(&any(&raw)).unwrap_err().field, "matcher");
    let mut raw = one(Rule::Any(true), any_id());
    raw.rules.as_mut().unwrap().policies.get_mut("p q").unwrap().condition = Some(Default::default());
    assert_eq!(of_listener(&any(&raw)).unwrap_err().field, "rules.policies[p q].condition");
    let continuous =
        NetworkRbac { enforcement_type: EnforcementType::Continuous.into(), ..Default::default() };
    assert_eq!(of_connections(&any(&continuous)).unwrap_err().field, "enforcement_type");
}

#[test]
fn conditions_are_nested_to_a_depth_and_no_further() {
    let nested = |depth: usize| {
        let mut rule = Rule::Any(true);
        for _ in 0..depth {
            rule = Rule::NotRule(Box::new(Permission { rule: Some(rule) }));
        }
        http(one(rule, Identifier::Any(true)))
    };
    assert!(nested(DEPTH_MAX - 1).is_ok());
    assert!(nested(DEPTH_MAX).is_err());
}
