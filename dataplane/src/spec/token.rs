//! Tokens of end users (`envoy.extensions.filters.http.jwt_authn.v3`): which are taken, where they are, what they become.

use std::sync::Arc;

use http::HeaderName;

use super::RouteMatch;
use crate::filter::jwt::keys::KeySet;

/// Which tokens requests need.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Whose tokens are known.
    pub providers: Vec<Arc<Provider>>,
    /// The first that matches says what a request needs; none is that it needs nothing.
    pub rules: Vec<TokenRule>,
    /// Preflights of browsers, which have no credentials, need nothing.
    pub bypass_preflight: bool,
    /// Refusals do not say why.
    pub silent: bool,
}

/// What some requests need.
#[derive(Clone, Debug)]
pub struct TokenRule {
    /// Which requests.
    pub matches: RouteMatch,
    /// None is nothing.
    pub requirement: Option<Requirement>,
}

/// What a request needs.
#[derive(Clone, Debug)]
pub enum Requirement {
    /// A token of a provider, perhaps for other audiences than the provider's own.
    Provider(Arc<Provider>, Option<Audiences>),
    /// One of these.
    Any {
        /// These.
        of: Vec<Requirement>,
        /// What holds where none of them does.
        leniency: Leniency,
    },
    /// All of these.
    All(Vec<Requirement>),
}

/// What a set of requirements lets pass besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leniency {
    /// Nothing.
    None,
    /// Requests without any token.
    Missing,
    /// Every request.
    MissingOrFailed,
}

/// Whose tokens are taken.
#[derive(Clone, Debug)]
pub struct Provider {
    /// `iss`; none is any.
    pub issuer: Option<Arc<str>>,
    /// For whom.
    pub audiences: Audiences,
    /// What signs them.
    pub keys: KeySet,
    /// Where they are looked for.
    pub locations: Vec<Location>,
    /// Whether they go upstream.
    pub forward: bool,
    /// Header for the claims as they were signed, base64url.
    pub payload_header: Option<HeaderName>,
    /// Whether it is padded.
    pub pad_payload: bool,
    /// Headers for single claims, with the names that lead to them.
    pub claim_headers: Vec<(HeaderName, Vec<Arc<str>>)>,
    /// What the claims are called for filters after this one.
    pub payload_in_metadata: Option<Arc<str>>,
    /// Claims that are lists with spaces between.
    pub space_delimited: Vec<Arc<str>>,
    /// How far clocks may be apart, seconds.
    pub skew_s: u64,
}

/// Who may be meant by a token, without scheme and last slash; none is anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audiences(pub Vec<Arc<str>>);

/// Where a token is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A header, after a prefix.
    Header(HeaderName, Arc<str>),
    /// A parameter of the query.
    Param(Arc<str>),
    /// A cookie.
    Cookie(Arc<str>),
}
