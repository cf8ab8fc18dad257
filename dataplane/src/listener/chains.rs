//! Which filter chain serves a connection. Envoy's order: destination port, destination address, server name, transport,
//! application protocol, address of the peer, kind of source, address of the client, port of the client. At each step
//! the most specific condition that holds decides, and chains without it are out: there is no way back. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::spec::{Chain, ChainMatch, SourceKind, Transport};

/// What stands for the address of a unix socket: in every prefix of length zero, and no other.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

/// What is known of a connection when its chain is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where the client wanted to connect.
    pub destination: Option<SocketAddr>,
    /// The client.
    pub source: Option<SocketAddr>,
    /// What carries the bytes.
    pub transport: Transport,
    /// The server's name, lower case.
    pub server_name: Option<String>,
    /// Application protocols that the client offers, in its order.
    pub applications: Vec<Vec<u8>>,
}

/// The chains of a listener, with the way to each.
#[derive(Clone, Debug)]
pub struct Chains {
    all: Vec<Arc<Chain>>,
    default: Option<usize>,
    /// By port; 0 is any.
    ports: HashMap<u16, ByAddress>,
}

/// By destination, the longest prefix first.
type ByAddress = BTreeMap<std::cmp::Reverse<u8>, HashMap<IpAddr, ByName>>;

/// By server name: `a.b`, `*.b`, or nothing for any.
type ByName = HashMap<String, Vec<usize>>;

/// Two chains for the same connections, by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap(pub usize, pub usize);

impl Chains {
    /// Of the chains in order, and the one for connections that none of them is for.
    pub fn new(chains: Vec<Chain>, default: Option<Chain>) -> Result<Self, Overlap> {
        let mut ports: HashMap<u16, ByAddress> = HashMap::new();
        for (index, chain) in chains.iter().enumerate() {
            let matches = &chain.matches;
            let addresses = ports.entry(matches.destination_port.unwrap_or(0)).or_default();
            for prefix in prefixes(&matches.destinations) {
                let same_length = addresses.entry(std::cmp::Reverse(prefix.prefix_len())).or_default();
                let names = same_length.entry(prefix.trunc().addr()).or_default();
                let any = [String::new()];
                let wanted = if matches.server_names.is_empty() { &any[..] } else { &matches.server_names };
                for name in wanted {
                    let rest = names.entry(name.clone()).or_default();
                    if let Some(earlier) = rest.iter().find(|i| overlap(&chains[**i].matches, matches)) {
                        return Err(Overlap(*earlier, index));
                    }
                    rest.push(index);
                }
            }
        }
        let default_index = default.is_some().then_some(chains.len());
        let all = chains.into_iter().chain(default).map(Arc::new).collect();
        Ok(Self { all, default: default_index, ports })
    }

    /// Every chain, by the index that [`Self::choose`] gives; the default chain comes last.
    pub fn all(&self) -> &[Arc<Chain>] {
        &self.all
    }

    /// The one chain, where it is for every connection.
    pub fn only(&self) -> Option<&Arc<Chain>> {
        match self.all.as_slice() {
            [chain] if self.default.is_some() || chain.matches == ChainMatch::default() => Some(chain),
            _ => None,
        }
    }

    /// The chain for a connection.
    pub fn choose(&self, facts: &Facts) -> Option<usize> {
        self.find(facts).or(self.default)
    }

    fn find(&self, facts: &Facts) -> Option<usize> {
        let port = facts.destination.map_or(0, |destination| destination.port());
        let addresses = self.ports.get(&port).filter(|_| port != 0).or_else(|| self.ports.get(&0))?;
        let names = longest(addresses, facts.destination.map_or(NO_ADDRESS, |to| to.ip()))?;
        let candidates = named(names, facts.server_name.as_deref().unwrap_or_default())?;
        self.narrow(candidates, facts)
    }

    /// The steps after the server's name, over the few chains that are left.
    fn narrow(&self, candidates: &[usize], facts: &Facts) -> Option<usize> {
        let rules = |index: usize| &self.all[index].matches;
        let left = best(candidates.to_vec(), |i| match rules(i).transport {
            Some(transport) => (transport == facts.transport).then_some(1),
            None => Some(0),
        });
        let left = best(left, |i| offered(&rules(i).applications, &facts.applications));
        let client = facts.source.map_or(NO_ADDRESS, |source| source.ip());
        let left = best(left, |i| prefix_length(&rules(i).direct_sources, client));
        let local = is_local(facts);
        let left = best(left, |i| match rules(i).source_kind {
            SourceKind::Any => Some(0),
            SourceKind::Local => local.then_some(1),
            SourceKind::External => (!local).then_some(1),
        });
        let left = best(left, |i| prefix_length(&rules(i).sources, client));
        let port = facts.source.map(|source| source.port());
        let left = best(left, |i| match rules(i).source_ports.as_slice() {
            [] => Some(0),
            ports => port.is_some_and(|port| ports.contains(&port)).then_some(1),
        });
        left.first().copied()
    }
}

/// Those whose condition is the most specific of those that hold.
fn best<Rank: Ord>(mut candidates: Vec<usize>, rank: impl Fn(usize) -> Option<Rank>) -> Vec<usize> {
    let Some(highest) = candidates.iter().filter_map(|index| rank(*index)).max() else { return Vec::new() };
    candidates.retain(|index| rank(*index).as_ref() == Some(&highest));
    candidates
}

fn longest(addresses: &ByAddress, address: IpAddr) -> Option<&ByName> {
    let address = address.to_canonical();
    addresses.iter().find_map(|(length, prefixes)| {
        let prefix = IpNet::new(address, length.0).ok()?.trunc();
        prefixes.get(&prefix.addr())
    })
}

/// By the name itself, then the longest suffix, then any name.
fn named<'a>(names: &'a ByName, name: &str) -> Option<&'a Vec<usize>> {
    if let Some(exact) = names.get(name) {
        return Some(exact);
    }
    let dots = name.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0);
    let suffix = dots.map(|at| format!("*{}", &name[at..])).find_map(|pattern| names.get(&pattern));
    suffix.or_else(|| names.get(""))
}

/// The first protocol of the client's that a chain names is worth most.
fn offered(wanted: &[String], offered: &[Vec<u8>]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    let at = offered.iter().position(|one| wanted.iter().any(|name| name.as_bytes() == one.as_slice()))?;
    Some(offered.len() - at)
}

fn prefix_length(prefixes: &[IpNet], address: IpAddr) -> Option<u8> {
    if prefixes.is_empty() {
        return Some(0);
    }
    let address = address.to_canonical();
    prefixes.iter().filter(|prefix| prefix.contains(&address)).map(IpNet::prefix_len).max()
}

fn is_local(facts: &Facts) -> bool {
    match (facts.source, facts.destination) {
        (Some(source), to) => source.ip().is_loopback() || to.is_some_and(|to| to.ip() == source.ip()),
        (None, _) => true,
    }
}

/// No prefix is every address.
fn prefixes(given: &[IpNet]) -> Vec<IpNet> {
    match given {
        [] => vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
        given => given.iter().map(IpNet::trunc).collect(),
    }
}

/// Whether two chains of one port, address and name are for the same connections as well.
fn overlap(a: &ChainMatch, b: &ChainMatch) -> bool {
    fn share<T: PartialEq>(a: &[T], b: &[T]) -> bool {
        (a.is_empty() && b.is_empty()) || a.iter().any(|one| b.contains(one))
    }
    let nets = |a: &[IpNet], b: &[IpNet]| share(&prefixes(a), &prefixes(b));
    a.transport == b.transport
        && share(&a.applications, &b.applications)
        && nets(&a.direct_sources, &b.direct_sources)
        && a.source_kind == b.source_kind
        && nets(&a.sources, &b.sources)
        && share(&a.source_ports, &b.source_ports)
}

#[cfg(test)]
mod tests;
