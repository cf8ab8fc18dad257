//! Tokens of end users, as proxies check them.

use std::sync::Arc;

/// Tokens of one issuer, what checks them, and what becomes of what they say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenProvider {
    /// `iss`.
    pub(crate) issuer: Arc<str>,
    /// One of these must be in `aud`; none is any.
    pub(crate) audiences: Vec<Arc<str>>,
    /// A key set (RFC 7517).
    pub(crate) keys: Arc<str>,
    /// Headers, lower case, with what stands before the token there.
    pub(crate) from_headers: Vec<(Arc<str>, Arc<str>)>,
    pub(crate) from_params: Vec<Arc<str>>,
    pub(crate) from_cookies: Vec<Arc<str>>,
    /// Whether the workload gets the token.
    pub(crate) forward: bool,
    /// Header for the claims, base64url.
    pub(crate) payload_header: Option<Arc<str>>,
    /// Headers for single claims, with the names that lead to them.
    pub(crate) claim_headers: Vec<(Arc<str>, Arc<str>)>,
    /// Claims that are lists with spaces between.
    pub(crate) space_delimited: Vec<Arc<str>>,
}
