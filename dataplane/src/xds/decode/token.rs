//! Tokens of end users: `envoy.extensions.filters.http.jwt_authn.v3`.

use std::{collections::HashMap, mem::take, sync::Arc};

use http::HeaderName;
use weft_proto::xds::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::filters::http::jwt_authn::v3::{
        JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement, PerRouteConfig,
        RequirementRule, jwt_provider::JwksSourceSpecifier, jwt_requirement::RequiresType,
        per_route_config::RequirementSpecifier, requirement_rule::RequirementType,
    },
};

use super::{At, Refusal, matching, nothing_left, pass_over, required};
use crate::{
    filter::jwt::{keys::KeySet, token::bare},
    spec::{Audiences, FilterChange, Leniency, Location, Provider, Requirement, TokenRule, Tokens},
};

/// Deepest requirement.
const DEPTH_MAX: usize = 16;
/// How far clocks may be apart where nothing is said, seconds: Envoy's default.
const SKEW_S: u64 = 60;

type Providers = HashMap<String, Arc<Provider>>;

pub(super) fn tokens(mut raw: JwtAuthentication) -> Result<Tokens, Refusal> {
    let mut providers = Providers::new();
    for (name, of) in take(&mut raw.providers) {
        let of = provider(of).at(&format!("providers[{name}]"))?;
        providers.insert(name, Arc::new(of));
    }
    let mut named = HashMap::new();
    for (name, of) in take(&mut raw.requirement_map) {
        let of = requirement(of, &providers, 0).at(&format!("requirement_map[{name}]"))?;
        named.insert(name, of);
    }
    let rules = take(&mut raw.rules).into_iter().enumerate();
    let rules = rules.map(|(i, of)| rule(of, &providers, &named).at_index("rules", i));
    let rules = rules.collect::<Result<_, _>>()?;
    let bypass_preflight = take(&mut raw.bypass_cors_preflight);
    let silent = take(&mut raw.strip_failure_response);
    pass_over!(raw: stat_prefix);
    nothing_left(&raw)?;
    let mut all: Vec<_> = providers.into_iter().collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Tokens { providers: all.into_iter().map(|(_, of)| of).collect(), rules, bypass_preflight, silent })
}

/// What a route or host says.
pub(super) fn of_route(raw: PerRouteConfig) -> Result<FilterChange, Refusal> {
    match raw.requirement_specifier {
        Some(RequirementSpecifier::Disabled(true)) => Ok(FilterChange::Disabled),
        Some(RequirementSpecifier::RequirementName(_)) => {
            Err(Refusal::new("requirement_name", "not supported by this proxy"))
        }
        Some(RequirementSpecifier::Disabled(false)) | None => {
            Err(Refusal::new("requirement_specifier", "missing"))
        }
    }
}

fn rule(
    raw: RequirementRule,
    providers: &Providers,
    named: &HashMap<String, Option<Requirement>>,
) -> Result<TokenRule, Refusal> {
    let matches = raw.r#match.ok_or_else(|| Refusal::new("match", "missing"))?;
    let matches = matching::route_match(matches).at("match")?;
    let requirement = match raw.requirement_type {
        None => None,
        Some(RequirementType::Requires(of)) => requirement(of, providers, 0).at("requires")?,
        Some(RequirementType::RequirementName(name)) => match named.get(&name) {
            Some(of) => of.clone(),
            None => return Err(Refusal::new("requirement_name", format!("{name:?} is not defined"))),
        },
    };
    Ok(TokenRule { matches, requirement })
}

/// None is nothing.
fn requirement(
    raw: JwtRequirement,
    providers: &Providers,
    depth: usize,
) -> Result<Option<Requirement>, Refusal> {
    if depth > DEPTH_MAX {
        return Err(Refusal::new("", "nested too deep"));
    }
    let of_provider = |name: &str| match providers.get(name) {
        Some(found) => Ok(found.clone()),
        None => Err(Refusal::new("provider_name", format!("{name:?} is not defined"))),
    };
    // What needs nothing makes a set need nothing, or adds nothing to it: neither is meant.
    let inner = |raw, i| match requirement(raw, providers, depth + 1).at_index("requirements", i)? {
        Some(found) => Ok(found),
        None => Err(Refusal::new("requires_type", "missing")).at_index("requirements", i),
    };
    Ok(match raw.requires_type {
        None => None,
        Some(RequiresType::ProviderName(name)) => Some(Requirement::Provider(of_provider(&name)?, None)),
        Some(RequiresType::ProviderAndAudiences(raw)) => {
            let of = of_provider(&raw.provider_name)?;
            let own = (!raw.audiences.is_empty()).then(|| audiences(raw.audiences));
            Some(Requirement::Provider(of, own))
        }
        Some(RequiresType::RequiresAny(raw)) => {
            let (mut of, mut leniency) = (Vec::new(), Leniency::None);
            for (i, raw) in raw.requirements.into_iter().enumerate() {
                match raw.requires_type {
                    Some(RequiresType::AllowMissing(_)) => leniency = leniency.max(Leniency::Missing),
                    Some(RequiresType::AllowMissingOrFailed(_)) => leniency = Leniency::MissingOrFailed,
                    _ => of.push(inner(raw, i).at("requires_any")?),
                }
            }
            Some(Requirement::Any { of, leniency })
        }
        Some(RequiresType::RequiresAll(raw)) => {
            let all = raw.requirements.into_iter().enumerate();
            let all: Result<_, _> = all.map(|(i, raw)| inner(raw, i)).collect();
            Some(Requirement::All(all.at("requires_all")?))
        }
        Some(RequiresType::AllowMissing(_) | RequiresType::AllowMissingOrFailed(_)) => {
            return Err(Refusal::new("allow_missing", "is supported within requires_any only by this proxy"));
        }
        Some(RequiresType::ExtractOnlyWithoutValidation(_)) => {
            return Err(Refusal::new("extract_only_without_validation", "not supported by this proxy"));
        }
    })
}

fn provider(mut raw: JwtProvider) -> Result<Provider, Refusal> {
    let keys = match raw.jwks_source_specifier.take() {
        Some(JwksSourceSpecifier::LocalJwks(raw)) => keys(raw).at("local_jwks")?,
        Some(JwksSourceSpecifier::RemoteJwks(_)) => {
            return Err(Refusal::new("remote_jwks", "not supported by this proxy; give local_jwks"));
        }
        None => return Err(Refusal::new("jwks_source_specifier", "missing")),
    };
    let claims = take(&mut raw.claim_to_headers).into_iter().enumerate();
    let claims = claims.map(|(i, of)| claim(of).at_index("claim_to_headers", i));
    let issuer = take(&mut raw.issuer);
    let key = take(&mut raw.payload_in_metadata);
    let skew = u64::from(take(&mut raw.clock_skew_seconds));
    let found = Provider {
        issuer: (!issuer.is_empty()).then(|| issuer.into()),
        audiences: audiences(take(&mut raw.audiences)),
        keys,
        locations: locations(&mut raw)?,
        forward: take(&mut raw.forward),
        payload_header: match take(&mut raw.forward_payload_header) {
            empty if empty.is_empty() => None,
            name => Some(header(name, "forward_payload_header")?),
        },
        pad_payload: take(&mut raw.pad_forward_payload_header),
        claim_headers: claims.collect::<Result<_, _>>()?,
        payload_in_metadata: (!key.is_empty()).then(|| key.into()),
        space_delimited: (raw.normalize_payload_in_metadata.take().into_iter())
            .flat_map(|raw| raw.space_delimited_claims)
            .map(Into::into)
            .collect(),
        skew_s: if skew == 0 { SKEW_S } else { skew },
    };
    // It only makes checks cheaper.
    pass_over!(raw: jwt_cache_config);
    nothing_left(&raw)?;
    Ok(found)
}

fn keys(raw: DataSource) -> Result<KeySet, Refusal> {
    match raw.specifier {
        Some(Specifier::InlineString(text)) => Ok(KeySet::parse(&text)),
        Some(Specifier::InlineBytes(bytes)) => Ok(KeySet::parse(&String::from_utf8_lossy(&bytes))),
        _ => Err(Refusal::new("specifier", "only inline keys are supported by this proxy")),
    }
}

/// Where tokens are looked for; where nothing is said that is where RFC 6750 has them.
fn locations(raw: &mut JwtProvider) -> Result<Vec<Location>, Refusal> {
    let mut found = Vec::new();
    for (i, JwtHeader { name, value_prefix }) in take(&mut raw.from_headers).into_iter().enumerate() {
        let name = header(name, "name").at_index("from_headers", i)?;
        found.push(Location::Header(name, value_prefix.into()));
    }
    found.extend(take(&mut raw.from_params).into_iter().map(|name| Location::Param(name.into())));
    found.extend(take(&mut raw.from_cookies).into_iter().map(|name| Location::Cookie(name.into())));
    if found.is_empty() {
        found.push(Location::Header(http::header::AUTHORIZATION, "Bearer ".into()));
        found.push(Location::Param("access_token".into()));
    }
    Ok(found)
}

fn claim(raw: JwtClaimToHeader) -> Result<(HeaderName, Vec<Arc<str>>), Refusal> {
    let name = header(raw.header_name, "header_name")?;
    let path: Vec<Arc<str>> = match (raw.claim_name.is_empty(), raw.claim_path.is_empty()) {
        (false, true) => raw.claim_name.split('.').map(Arc::from).collect(),
        (true, false) => raw.claim_path.into_iter().map(|segment| segment.key.into()).collect(),
        _ => return Err(Refusal::new("claim_name", "one of claim_name and claim_path is wanted")),
    };
    Ok((name, path))
}

fn header(name: String, field: &str) -> Result<HeaderName, Refusal> {
    let name = required(name, field)?;
    HeaderName::try_from(&name).map_err(|_| Refusal::new(field, format!("{name:?} is no header name")))
}

fn audiences(raw: Vec<String>) -> Audiences {
    Audiences(raw.iter().map(|audience| Arc::from(bare(audience))).collect())
}
