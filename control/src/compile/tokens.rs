//! Which tokens of end users a workload takes. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{access::Workload, ir::TokenProvider};
use crate::documents::{DocumentSet, JwtRule, KeySource};

/// Claims that are lists with spaces between wherever they come: Istio's.
const SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];

/// What stands for the keys of an issuer that are not known, so that its tokens are refused: Envoy takes no empty set. It is
/// the point of P-256 whose x is SHA-256 of `weft: a key that nobody has 0`, the first of these that is on the curve, with
/// the even y: found without a private key, so that there is none that anybody could have kept.
const NO_KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","kid":"nobody","x":"GbdCDZ2KoO2JbsfkJN8v2xp2LyO5RoaXx2HxAh8DcwY","y":"86s4U6AS3EPKAHFb_gPCXC-59uF5VbLGIwAjkkOdzd4"}]}"#;

/// Key sets by the URL that they are at.
pub(crate) type KeySets = BTreeMap<Arc<str>, Arc<str>>;

/// The tokens that a workload takes, the oldest document's first, and the keys of the documents that say so.
pub(crate) fn compile(
    documents: &DocumentSet,
    keys: &KeySets,
    workload: Workload<'_>,
) -> (Arc<[TokenProvider]>, Vec<Arc<str>>) {
    let (mut providers, mut shaped) = (Vec::new(), Vec::new());
    for (document, spec) in documents.request_authentications() {
        if workload.is_meant(&document.namespace, &spec.scope) {
            providers.extend(spec.rules.iter().map(|rule| provider(rule, keys)));
            shaped.push(document.key());
        }
    }
    (providers.into(), shaped)
}

/// Where keys are, and how long a fetch may take: as the most patient rule says.
pub(crate) fn urls(documents: &DocumentSet) -> BTreeMap<Arc<str>, Duration> {
    let mut urls: BTreeMap<Arc<str>, Duration> = BTreeMap::new();
    for rule in documents.request_authentications().flat_map(|(_, spec)| &spec.rules) {
        if let KeySource::Url(url) = &rule.keys {
            let timeout = urls.entry(url.clone()).or_default();
            *timeout = rule.timeout.max(*timeout);
        }
    }
    urls
}

fn provider(rule: &JwtRule, keys: &KeySets) -> TokenProvider {
    TokenProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        keys: match &rule.keys {
            KeySource::Inline(keys) => keys.clone(),
            KeySource::Url(url) => keys.get(url).cloned().unwrap_or_else(|| NO_KEYS.into()),
        },
        from_headers: rule.from_headers.clone(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        forward: rule.forward,
        payload_header: rule.payload_header.clone(),
        claim_headers: rule.claim_headers.clone(),
        space_delimited: (SPACE_DELIMITED.iter().map(|name| Arc::from(*name)))
            .chain(rule.space_delimited.iter().cloned())
            .collect(),
    }
}
