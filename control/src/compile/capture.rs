//! Captured traffic: the listeners that a packet filter's redirection leads to, as Istio makes and names them.
//!
//! Outbound connections come in by one listener, which hands each to a listener without a socket at the address and port
//! where its client wanted to connect: `ADDRESS_PORT` for the TCP port of one service, so that services never collide;
//! else `0.0.0.0_PORT`, where HTTP is routed by its host and ranges of addresses are told apart. What no service claims
//! goes where it was going, or nowhere, as the outbound traffic policy says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weft_proto::node::cluster_name;

use super::{
    ir::{
        Access, Application, Chain, ChainMatch, Cluster, Direction, Discovery, Endpoints, HttpVersion,
        Inspection, Listener, Serves, ServiceName, Tcp, Way,
    },
    peers::{self, Doors},
};
use crate::{
    documents::MtlsMode,
    model::{OutboundPolicy, Protocol, Resolution, Service},
};

/// Where what no service claims goes: on to where it was going.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// Where refused connections go: it has no endpoint.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";
/// Where inbound connections go to ports that nobody declared.
const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
/// The same over IPv6.
const INBOUND_PASSTHROUGH_IPV6: &str = "InboundPassthroughClusterIpv6";

/// How long a client on a port of HTTP or TLS may say nothing before it counts as one that waits for its server to speak.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the proxy's own connections to its host come from, by which the packet filter knows them. Over IPv6 the filter
/// knows all of the proxy's.
pub(crate) const PASSTHROUGH_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));

/// The listeners at the addresses of one service: one for each of its TCP ports.
pub(crate) fn of_service(service: &Service, idle_timeout: Option<Duration>) -> Vec<Listener> {
    let mut found = Vec::new();
    for port in service.ports.iter().filter(|port| !port.protocol.is_http()) {
        for ip in service.ips() {
            let bind = SocketAddr::new(ip, port.number);
            let serves = tcp(service, port.number, idle_timeout);
            let name = format!("{ip}_{}", port.number).into();
            found.push(Listener {
                way: Way::Handed,
                ..Listener::plain(name, bind, Direction::Outbound, serves)
            });
        }
    }
    found
}

/// Bytes to a port of a service; where the client's own resolution counts, to where it was going.
fn tcp(service: &Service, port: u16, idle_timeout: Option<Duration>) -> Serves {
    let cluster = match service.resolution {
        Resolution::Client if !service.is_pattern() => PASSTHROUGH.into(),
        Resolution::Client | Resolution::Static | Resolution::Dns | Resolution::DnsFirst => {
            cluster_name(port, "", &service.host).into()
        }
    };
    Serves::Tcp(Tcp::to(cluster, idle_timeout))
}

/// What is served at one port of every address.
#[derive(Debug, Default)]
pub(crate) struct Port {
    /// Whether some service speaks HTTP there.
    pub(crate) http: bool,
    /// Ranges of addresses, each with what is served there; the first to claim one has it.
    ranges: BTreeMap<IpNet, Serves>,
    /// Names that TLS clients ask for, wherever they resolve them to, each with what is served then; the same.
    names: BTreeMap<Arc<str>, Serves>,
    /// Whether some service is wherever its clients' own resolution says.
    anywhere: bool,
}

/// The ports that need a listener for every address.
pub(crate) fn ports<'a>(
    services: impl Iterator<Item = (&'a Service, Option<Duration>)>,
) -> BTreeMap<u16, Port> {
    let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
    for (service, idle_timeout) in services {
        let destinations = service.destinations();
        let ranges = destinations.iter().filter(|net| net.prefix_len() < net.max_prefix_len());
        let ranges: BTreeSet<&IpNet> = ranges.collect();
        let anywhere = destinations.is_empty() && service.resolution == Resolution::Client;
        for port in &service.ports {
            match port.protocol {
                Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
                    ports.entry(port.number).or_default().http = true;
                }
                Protocol::Tls if anywhere => {
                    let names = &mut ports.entry(port.number).or_default().names;
                    for host in &service.hosts {
                        let serves = || tcp(service, port.number, idle_timeout);
                        names.entry(host.clone()).or_insert_with(serves);
                    }
                }
                Protocol::Tcp | Protocol::Tls if anywhere || !ranges.is_empty() => {
                    let found = ports.entry(port.number).or_default();
                    found.anywhere |= anywhere;
                    for range in &ranges {
                        let serves = || tcp(service, port.number, idle_timeout);
                        found.ranges.entry(**range).or_insert_with(serves);
                    }
                }
                Protocol::Tcp | Protocol::Tls => {}
            }
        }
    }
    ports
}

impl Port {
    /// The listener at this port of every address; its HTTP is routed by the table that is named as the port is.
    pub(crate) fn listener(&self, number: u16, policy: OutboundPolicy) -> Listener {
        let mut chains: Vec<Chain> =
            self.ranges.iter().map(|(range, serves)| range_chain(*range, serves)).collect();
        chains.extend(self.names.iter().map(|(name, serves)| name_chain(name, serves)));
        if self.http {
            let applications = vec![Application::Http10, Application::Http11, Application::H2c];
            chains.push(Chain {
                name: "http".into(),
                matches: ChainMatch { applications, ..ChainMatch::default() },
                tls: None,
                serves: Serves::routed(table_name(number)),
            });
        }
        let policy = if self.anywhere { OutboundPolicy::AllowAny } else { policy };
        Listener {
            name: format!("0.0.0.0_{number}").into(),
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, number)).into(),
            direction: Direction::Outbound,
            access_logs: Vec::new(),
            tracing: None,
            way: Way::Handed,
            inspection: Inspection {
                original_destination: false,
                patience: (self.http || !self.names.is_empty()).then_some(PATIENCE),
            },
            chains,
            default: Some(Box::new(unclaimed(policy))),
        }
    }
}

fn range_chain(range: IpNet, serves: &Serves) -> Chain {
    let matches = ChainMatch { destinations: vec![range], ..ChainMatch::default() };
    Chain { name: range.to_string().into(), matches, tls: None, serves: serves.clone() }
}

fn name_chain(name: &Arc<str>, serves: &Serves) -> Chain {
    let matches = ChainMatch { server_names: vec![name.clone()], ..ChainMatch::default() };
    Chain { name: name.clone(), matches, tls: None, serves: serves.clone() }
}

/// The table that routes HTTP at a port of every address.
pub(crate) fn table_name(port: u16) -> Arc<str> {
    port.to_string().into()
}

/// What becomes of connections that no service claims.
fn unclaimed(policy: OutboundPolicy) -> Chain {
    let cluster = match policy {
        OutboundPolicy::AllowAny => PASSTHROUGH,
        OutboundPolicy::RegistryOnly => BLACK_HOLE,
    };
    to_cluster("unclaimed", ChainMatch::default(), cluster)
}

fn to_cluster(name: &str, matches: ChainMatch, cluster: &str) -> Chain {
    Chain { name: name.into(), matches, tls: None, serves: Serves::Tcp(Tcp::to(cluster.into(), None)) }
}

/// What was meant for the very port that captures would come back for ever.
fn no_loop(bind: SocketAddr) -> Chain {
    let matches = ChainMatch { destination_port: Some(bind.port()), ..ChainMatch::default() };
    to_cluster("loop", matches, BLACK_HOLE)
}

/// The listener by which outbound connections come in.
pub(crate) fn outbound(bind: SocketAddr, policy: OutboundPolicy) -> Listener {
    Listener {
        name: "virtualOutbound".into(),
        bind: bind.into(),
        direction: Direction::Outbound,
        access_logs: Vec::new(),
        tracing: None,
        way: Way::HandOver,
        inspection: Inspection::default(),
        chains: vec![no_loop(bind)],
        default: Some(Box::new(unclaimed(policy))),
    }
}

/// The listener by which inbound connections come in: those to `ports` are served as these say, all others go to where
/// they were going, as far as `access` lets them. Which mutual TLS each takes is `doors`' to say.
pub(crate) fn inbound(
    bind: SocketAddr,
    ports: Vec<(u16, Serves, MtlsMode)>,
    doors: &Doors<'_>,
    access: &Access,
) -> Listener {
    let mut taken = BTreeSet::from([bind.port()]);
    let mut chains = vec![no_loop(bind)];
    for (port, serves, mode) in ports {
        if taken.insert(port) {
            let matches = ChainMatch { destination_port: Some(port), ..ChainMatch::default() };
            let chain = Chain { name: format!("0.0.0.0_{port}").into(), matches, tls: None, serves };
            chains.extend(doors.of(chain, mode));
        }
    }
    let every = |net: IpNet| ChainMatch { destinations: vec![net], ..ChainMatch::default() };
    for (name, net, cluster) in [
        ("passthrough", Ipv4Net::default().into(), INBOUND_PASSTHROUGH),
        ("passthrough-ipv6", Ipv6Net::default().into(), INBOUND_PASSTHROUGH_IPV6),
    ] {
        let tcp = Tcp { access: access.clone(), ..Tcp::to(cluster.into(), None) };
        let (matches, serves) = (every(net), Serves::Tcp(tcp));
        let chain = Chain { name: name.into(), matches, tls: None, serves };
        chains.extend(doors.of(chain, doors.rest));
    }
    Listener {
        name: "virtualInbound".into(),
        bind: bind.into(),
        direction: Direction::Inbound,
        access_logs: Vec::new(),
        tracing: None,
        way: Way::Socket,
        inspection: Inspection { original_destination: true, patience: peers::patience(&chains) },
        chains,
        default: None,
    }
}

/// The clusters that the listener of outbound connections and those behind it name.
pub(crate) fn outbound_clusters() -> [Cluster; 2] {
    let http = Some(HttpVersion::Downstream);
    [own(PASSTHROUGH, Discovery::OriginalDestination, http, None), black_hole()]
}

/// The clusters that the listener of inbound connections names.
pub(crate) fn inbound_clusters() -> [Cluster; 3] {
    let to = |name, source| own(name, Discovery::OriginalDestination, None, source);
    [to(INBOUND_PASSTHROUGH, Some(PASSTHROUGH_SOURCE)), to(INBOUND_PASSTHROUGH_IPV6, None), black_hole()]
}

fn black_hole() -> Cluster {
    let nothing = Endpoints { cluster: BLACK_HOLE.into(), localities: Vec::new() };
    own(BLACK_HOLE, Discovery::Static(nothing), None, None)
}

fn own(name: &str, discovery: Discovery, http: Option<HttpVersion>, source: Option<IpAddr>) -> Cluster {
    // Metrics know where the traffic went by the name of the cluster, as in Istio.
    let service = ServiceName { host: "unknown".into(), name: name.into(), namespace: "unknown".into() };
    Cluster { service: Some(service), source, ..Cluster::own(name.into(), discovery, http) }
}
