//! What a request's hash is made of, for clusters that pick by it.

use regex::bytes::Regex;

/// One part of the hash (`RouteAction.HashPolicy`).
#[derive(Clone, Debug)]
pub struct HashPolicy {
    /// What is hashed.
    pub source: HashSource,
    /// Further parts are left out when there is a hash by then.
    pub terminal: bool,
}

/// What is hashed.
#[derive(Clone, Debug)]
pub enum HashSource {
    /// A header; pseudo headers `:method`, `:authority`, `:path`, `:scheme` included.
    Header {
        /// Lower case name.
        name: String,
        /// What of its value is replaced before it is hashed, and by what (`regex_rewrite`).
        rewrite: Option<(Regex, String)>,
    },
    /// A cookie.
    Cookie(HashCookie),
    /// The caller's IP address (`connection_properties.source_ip`).
    SourceIp,
    /// The first query parameter of this name.
    Query(String),
}

/// A cookie that decides.
#[derive(Clone, Debug)]
pub struct HashCookie {
    /// Its name.
    pub name: String,
    /// What follows the value in a `Set-Cookie` when a request has none (`ttl`, `path`, `attributes`); none is never to set
    /// one.
    pub issue: Option<String>,
}
