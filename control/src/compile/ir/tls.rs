//! TLS of listeners and clusters, and secrets.

use std::sync::Arc;

use crate::documents::{Sensitive, TlsVersion};

/// TLS that ends at a filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerTls {
    /// At least one.
    pub(crate) certificates: Vec<Certificate>,
    /// How clients are verified; none is not at all.
    pub(crate) clients: Option<Clients>,
    /// Whether requests are served, in which case HTTP/2 is offered.
    pub(crate) http: bool,
    pub(crate) min: Option<TlsVersion>,
    pub(crate) max: Option<TlsVersion>,
    pub(crate) suites: Vec<Arc<str>>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Certificate {
    /// The proxy's own, which its agent delivers.
    Own,
    /// Delivered under this name.
    Secret(Arc<str>),
    /// In files of the proxy's host: chain and key.
    Files(Arc<str>, Arc<str>),
}

/// Whom to believe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Authorities {
    /// Those of the mesh, which the proxy's agent delivers.
    Own,
    /// Delivered under this name.
    Secret(Arc<str>),
    /// In files of the proxy's host: authorities, and revocation lists.
    Files(Arc<str>, Option<Arc<str>>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Clients {
    /// A client without a certificate is refused.
    pub(crate) required: bool,
    pub(crate) authorities: Authorities,
    /// One of these, where there are any.
    pub(crate) names: Vec<Arc<str>>,
    /// Or an identity of one of these trust domains.
    pub(crate) domains: Arc<[Arc<str>]>,
    pub(crate) key_pins: Vec<Arc<str>>,
    pub(crate) certificate_pins: Vec<Arc<str>>,
}

/// TLS that a cluster's connections begin with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientTls {
    /// The name to ask for; none where the service has no host that is a name.
    pub(crate) sni: Option<Arc<str>>,
    pub(crate) certificate: Option<Certificate>,
    /// None: the server is not verified.
    pub(crate) servers: Option<Servers>,
    /// Application protocols that are offered; empty is what follows from the cluster's.
    pub(crate) applications: &'static [&'static str],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Servers {
    pub(crate) authorities: Authorities,
    /// One of these,
    pub(crate) names: Vec<Arc<str>>,
    /// or an identity of one of these trust domains; both empty is the name that is asked for.
    pub(crate) domains: Arc<[Arc<str>]>,
}

/// A secret as proxies receive it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Secret {
    pub(crate) name: Arc<str>,
    pub(crate) content: SecretContent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SecretContent {
    /// Chain and key.
    Certificate(Sensitive, Sensitive),
    /// Authorities, and revocation lists.
    Authorities(Sensitive, Option<Sensitive>),
}
