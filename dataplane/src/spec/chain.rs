//! Filter chains: which connections of a listener are served alike, and how.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{AccessLogs, DownstreamTls, ListenerProtocol, Rbac};

/// One filter chain.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Name, for people; may be empty.
    pub name: Arc<str>,
    /// Connections that it is for.
    pub matches: ChainMatch,
    /// TLS that ends here; none is plain text, or TLS that passes through.
    pub tls: Option<Arc<DownstreamTls>>,
    /// Who may connect (`envoy.extensions.filters.network.rbac.v3`), in order.
    pub guards: Vec<Arc<Rbac>>,
    /// What to do with a connection.
    pub protocol: ListenerProtocol,
    /// Close a connection on which nothing moves for this long (TCP) or that idles between requests (HTTP).
    pub idle_timeout: Duration,
    /// What is written of each request, or of each connection (TCP); none is nothing.
    pub access_logs: Option<Arc<AccessLogs>>,
    /// SHA-256 of the message it was decoded from: equal digests are equal chains.
    pub digest: [u8; 32],
}

/// `FilterChainMatch`: everything given must hold; what is empty or none holds for every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainMatch {
    /// Port that the client connected to.
    pub destination_port: Option<u16>,
    /// Addresses that the client connected to (`prefix_ranges`).
    pub destinations: Vec<IpNet>,
    /// Names that a TLS client asks for, lower case: `a.b` or `*.b`.
    pub server_names: Vec<String>,
    /// What carries the bytes.
    pub transport: Option<Transport>,
    /// Application protocols, one of which the client offers: by ALPN or, in plain text, by what it says.
    pub applications: Vec<String>,
    /// Addresses of the peer (`direct_source_prefix_ranges`).
    pub direct_sources: Vec<IpNet>,
    /// How near the peer is.
    pub source_kind: SourceKind,
    /// Addresses of the client (`source_prefix_ranges`).
    pub sources: Vec<IpNet>,
    /// Ports of the client.
    pub source_ports: Vec<u16>,
}

/// `transport_protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `raw_buffer`: anything but TLS, or nobody looked.
    #[default]
    Raw,
    /// `tls`.
    Tls,
}

/// `source_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// Any peer.
    #[default]
    Any,
    /// The address that the client connected to, or a loopback address.
    Local,
    /// Any other.
    External,
}

/// What is read of a connection before a chain is chosen. Nothing, unless a listener filter asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The server's name and protocols of a TLS client (`tls_inspector`).
    pub tls: bool,
    /// The HTTP version of a client in plain text (`http_inspector`).
    pub http: bool,
    /// Time for that (`listener_filters_timeout`); none is no limit.
    pub timeout: Option<Duration>,
    /// A client that says nothing in time is served as far as it is known; else its connection is closed.
    pub proceed_after_timeout: bool,
}

impl Inspection {
    /// Whether the client's first bytes are looked at.
    pub fn reads(&self) -> bool {
        self.tls || self.http
    }
}
