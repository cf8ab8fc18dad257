//! Listeners and their filter chains.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use weft_proto::node::Address;

use super::{Access, ServerTls, TokenProvider};
use crate::{access_log::AccessLog, documents::Tag, providers};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) bind: Address,
    pub(crate) direction: Direction,
    /// What is written of each request or connection.
    pub(crate) access_logs: Vec<AccessLog>,
    /// How requests are traced.
    pub(crate) tracing: Option<Tracing>,
    pub(crate) way: Way,
    pub(crate) inspection: Inspection,
    /// At least one, or a default. No two are for the same connections.
    pub(crate) chains: Vec<Chain>,
    /// For connections that none of the chains is for.
    pub(crate) default: Option<Box<Chain>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
    Gateway,
}

/// Spans of requests, and the cluster that takes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tracing {
    pub(crate) cluster: Arc<str>,
    /// What the cluster's hosts are called, with the port.
    pub(crate) authority: Arc<str>,
    pub(crate) transport: providers::Transport,
    /// Who tells: `workload.namespace`.
    pub(crate) service: Arc<str>,
    /// Share of requests without a trace of their own, in thousandths of a percent.
    pub(crate) sampling_milli: u32,
    /// By name.
    pub(crate) tags: Vec<(Arc<str>, Tag)>,
}

/// How connections come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// By the listener's own socket.
    #[default]
    Socket,
    /// By its own socket, and from there to the listener without one that is at their original destination, if any.
    HandOver,
    /// From another listener: it has no socket.
    Handed,
}

/// What is found out of a connection besides what the conditions of the chains need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Inspection {
    /// The destination is the one before redirection.
    pub(crate) original_destination: bool,
    /// A client that says nothing for this long is served as far as it is known; none: it is closed after a while.
    pub(crate) patience: Option<Duration>,
}

/// Which connections are served alike, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Chain {
    /// Unique in the listener; empty where it is alone.
    pub(crate) name: Arc<str>,
    pub(crate) matches: ChainMatch,
    /// TLS that ends here.
    pub(crate) tls: Option<ServerTls>,
    pub(crate) serves: Serves,
}

/// Everything given must hold; what is empty holds for every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ChainMatch {
    pub(crate) destination_port: Option<u16>,
    pub(crate) destinations: Vec<IpNet>,
    /// Names that a TLS client asks for: `a.b` or `*.b`.
    pub(crate) server_names: Vec<Arc<str>>,
    pub(crate) transport: Option<Transport>,
    pub(crate) applications: Vec<Application>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Raw,
    Tls,
}

/// Application protocols that a client offers: by ALPN or, in plain text, by what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Application {
    Http10,
    Http11,
    /// HTTP/2 in plain text.
    H2c,
    /// What proxies of the mesh offer over mutual TLS, beside what they speak in it.
    Mesh,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Serves {
    /// HTTP.
    Http(Http),
    /// Bytes.
    Tcp(Tcp),
}

/// Requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Http {
    /// Name of the table that routes them.
    pub(crate) table: Arc<str>,
    /// Tokens of end users that they may carry; any other token there is refused. Empty where tokens mean nothing.
    pub(crate) tokens: Arc<[TokenProvider]>,
}

/// Bytes, relayed to clusters by weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tcp {
    /// At least one; the weights sum above zero.
    pub(crate) clusters: Vec<(Arc<str>, u32)>,
    pub(crate) idle_timeout: Option<Duration>,
    /// What is checked of every connection.
    pub(crate) access: Access,
}

impl Listener {
    /// One without a chain yet.
    pub(crate) fn empty(name: Arc<str>, bind: impl Into<Address>, direction: Direction) -> Self {
        let bind = bind.into();
        Self {
            name,
            bind,
            direction,
            access_logs: Vec::new(),
            tracing: None,
            way: Way::Socket,
            inspection: Inspection::default(),
            chains: Vec::new(),
            default: None,
        }
    }

    /// One that serves all connections alike.
    pub(crate) fn plain(
        name: Arc<str>,
        bind: impl Into<Address>,
        direction: Direction,
        serves: Serves,
    ) -> Self {
        let chain = Chain { name: "".into(), matches: ChainMatch::default(), tls: None, serves };
        Self { chains: vec![chain], ..Self::empty(name, bind, direction) }
    }

    /// The clusters that bytes are relayed to.
    pub(crate) fn tcp_clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        let tcp = self.all_chains().filter_map(|chain| match &chain.serves {
            Serves::Tcp(tcp) => Some(tcp),
            Serves::Http(_) => None,
        });
        tcp.flat_map(|tcp| tcp.clusters.iter().map(|(name, _)| name))
    }

    /// Has every connection checked that is relayed as bytes.
    pub(crate) fn guard_connections(&mut self, access: &Access) {
        for chain in self.chains.iter_mut().chain(self.default.as_deref_mut()) {
            if let Serves::Tcp(tcp) = &mut chain.serves {
                tcp.access = access.clone();
            }
        }
    }

    /// Has tokens checked of every request.
    pub(crate) fn authenticate(&mut self, tokens: &Arc<[TokenProvider]>) {
        for chain in self.chains.iter_mut().chain(self.default.as_deref_mut()) {
            if let Serves::Http(http) = &mut chain.serves {
                http.tokens = tokens.clone();
            }
        }
    }

    /// Every chain, the default last.
    pub(crate) fn all_chains(&self) -> impl Iterator<Item = &Chain> {
        self.chains.iter().chain(self.default.as_deref())
    }
}

impl Serves {
    /// Requests, routed by a named table, whose tokens mean nothing.
    pub(crate) fn routed(table: Arc<str>) -> Self {
        Self::Http(Http { table, tokens: Arc::new([]) })
    }
}

impl Tcp {
    /// To one cluster.
    pub(crate) fn to(cluster: Arc<str>, idle_timeout: Option<Duration>) -> Self {
        Self { clusters: vec![(cluster, 1)], idle_timeout, access: Access::default() }
    }
}
