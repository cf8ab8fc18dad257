//! Tokens of end users in Envoy's words: the filter that checks them.

use weft_proto::xds::{
    envoy::{
        config::{
            core::v3::{DataSource, data_source::Specifier},
            route::v3::{RouteMatch, route_match::PathSpecifier},
        },
        extensions::filters::{
            http::jwt_authn::v3::{
                JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement,
                JwtRequirementOrList, RequirementRule,
                jwt_provider::{JwksSourceSpecifier, NormalizePayload},
                jwt_requirement::RequiresType,
                requirement_rule::RequirementType,
            },
            network::http_connection_manager::v3::HttpFilter,
        },
    },
    google::protobuf::Empty,
};

use super::{access::PAYLOAD, filter};
use crate::compile::ir::TokenProvider;

/// Name of the filter, and of what it finds out.
pub(super) const JWT: &str = "envoy.filters.http.jwt_authn";
const JWT_TYPE: &str = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";

/// The filter. A token of one of the providers, or none at all: who may ask without is for the rules of access.
pub(super) fn filter(providers: &[TokenProvider]) -> HttpFilter {
    let name = |i: usize| format!("origins-{i}"); // Istio's.
    let provided = |i| JwtRequirement { requires_type: Some(RequiresType::ProviderName(name(i))) };
    let missing = JwtRequirement { requires_type: Some(RequiresType::AllowMissing(Empty {})) };
    let any =
        JwtRequirementOrList { requirements: (0..providers.len()).map(provided).chain([missing]).collect() };
    let all =
        RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let requires = JwtRequirement { requires_type: Some(RequiresType::RequiresAny(any)) };
    let rule =
        RequirementRule { r#match: Some(all), requirement_type: Some(RequirementType::Requires(requires)) };
    let config = JwtAuthentication {
        providers: providers.iter().enumerate().map(|(i, of)| (name(i), provider(of))).collect(),
        rules: vec![rule],
        bypass_cors_preflight: true,
        ..Default::default()
    };
    filter::filter((JWT, JWT_TYPE), &config)
}

fn provider(of: &TokenProvider) -> JwtProvider {
    let texts = |texts: &[std::sync::Arc<str>]| texts.iter().map(ToString::to_string).collect();
    let keys = Specifier::InlineString(of.keys.to_string());
    JwtProvider {
        issuer: of.issuer.to_string(),
        audiences: texts(&of.audiences),
        jwks_source_specifier: Some(JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(keys),
            ..Default::default()
        })),
        forward: of.forward,
        from_headers: (of.from_headers.iter())
            .map(|(name, prefix)| JwtHeader { name: name.to_string(), value_prefix: prefix.to_string() })
            .collect(),
        from_params: texts(&of.from_params),
        from_cookies: texts(&of.from_cookies),
        forward_payload_header: of.payload_header.as_deref().unwrap_or_default().to_owned(),
        claim_to_headers: (of.claim_headers.iter())
            .map(|(header, claim)| JwtClaimToHeader {
                header_name: header.to_string(),
                claim_name: claim.to_string(),
                ..Default::default()
            })
            .collect(),
        payload_in_metadata: PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: texts(&of.space_delimited),
        }),
        ..Default::default()
    }
}
