//! `FilterChain`: which connections it is for, and what it does with them.

use std::{mem::take, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use prost::Message;
use sha2::{Digest, Sha256};
use weft_proto::xds::envoy::config::{
    core::v3::CidrRange,
    listener::v3::{
        FilterChain, FilterChainMatch, filter::ConfigType, filter_chain_match::ConnectionSourceType,
    },
};

use super::{
    At, Refusal,
    listener::{self, Served},
    nothing_left, pass_over, rbac, tls,
};
use crate::{
    listener::chains::{Chains, Overlap},
    spec::{Chain, ChainMatch, SourceKind, Transport},
};

/// The chains of a listener; at least one.
pub(super) fn chains(raw: Vec<FilterChain>, default: Option<FilterChain>) -> Result<Chains, Refusal> {
    if raw.is_empty() && default.is_none() {
        return Err(Refusal::new("filter_chains", "empty"));
    }
    let chains = raw.into_iter().enumerate();
    let chains = chains.map(|(i, raw)| chain(raw).at_index("filter_chains", i)).collect::<Result<_, _>>()?;
    let default = default.map(chain).transpose().at("default_filter_chain")?;
    Chains::new(chains, default).map_err(|Overlap(first, second)| {
        let problem = format!("matches the same connections as filter_chains[{first}]");
        Refusal::new(format!("filter_chains[{second}].filter_chain_match"), problem)
    })
}

fn chain(mut raw: FilterChain) -> Result<Chain, Refusal> {
    let digest = Sha256::digest(raw.encode_to_vec()).into();
    let name = take(&mut raw.name).into();
    let matches = raw.filter_chain_match.take().map(chain_match).transpose().at("filter_chain_match")?;
    let mut configs = Vec::new();
    for (i, filter) in take(&mut raw.filters).into_iter().enumerate() {
        match filter.config_type {
            Some(ConfigType::TypedConfig(any)) => configs.push(any),
            _ => return Err(Refusal::new("typed_config", "missing")).at_index("filters", i),
        }
    }
    let last = configs.pop().ok_or_else(|| Refusal::new("filters", "empty"))?;
    let guard = |(i, any)| rbac::of_connections(any).at("typed_config").at_index("filters", i).map(Arc::new);
    let guards = configs.iter().enumerate().map(guard).collect::<Result<_, _>>()?;
    let Served { protocol, idle_timeout, access_logs } =
        listener::network_filter(&last).at("typed_config").at_index("filters", configs.len())?;
    pass_over!(raw: metadata);
    let tls = tls::downstream(raw.transport_socket.take(), raw.transport_socket_connect_timeout.take())?;
    nothing_left(&raw)?;
    let (matches, access_logs) = (matches.unwrap_or_default(), access_logs.shared());
    Ok(Chain { name, matches, tls, guards, protocol, idle_timeout, access_logs, digest })
}

fn chain_match(mut raw: FilterChainMatch) -> Result<ChainMatch, Refusal> {
    let destination_port = raw.destination_port.take().map(|port| port_number(port.value));
    let names = take(&mut raw.server_names).into_iter().enumerate();
    let server_names = names.map(|(i, name)| server_name(name).at_index("server_names", i));
    let transport = match take(&mut raw.transport_protocol).as_str() {
        "" => None,
        "tls" => Some(Transport::Tls),
        "raw_buffer" => Some(Transport::Raw),
        other => {
            return Err(Refusal::new(
                "transport_protocol",
                format!("{other:?} is neither tls nor raw_buffer"),
            ));
        }
    };
    let source_kind = match ConnectionSourceType::try_from(take(&mut raw.source_type)) {
        Ok(ConnectionSourceType::Any) => SourceKind::Any,
        Ok(ConnectionSourceType::SameIpOrLoopback) => SourceKind::Local,
        Ok(ConnectionSourceType::External) => SourceKind::External,
        Err(_) => return Err(Refusal::new("source_type", "an unknown value")),
    };
    let ports = take(&mut raw.source_ports).into_iter().map(port_number);
    let matches = ChainMatch {
        destination_port: destination_port.transpose().at("destination_port")?,
        destinations: prefixes(take(&mut raw.prefix_ranges), "prefix_ranges")?,
        server_names: server_names.collect::<Result<_, _>>()?,
        transport,
        applications: take(&mut raw.application_protocols),
        direct_sources: prefixes(take(&mut raw.direct_source_prefix_ranges), "direct_source_prefix_ranges")?,
        source_kind,
        sources: prefixes(take(&mut raw.source_prefix_ranges), "source_prefix_ranges")?,
        source_ports: ports.collect::<Result<_, _>>().at("source_ports")?,
    };
    nothing_left(&raw)?;
    Ok(matches)
}

fn port_number(number: u32) -> Result<u16, Refusal> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| Refusal::new("", format!("{number} is no port")))
}

/// A name, or `*.` and a name; what Envoy refuses is refused.
fn server_name(name: String) -> Result<String, Refusal> {
    let rest = name.strip_prefix("*.").unwrap_or(&name);
    if rest.is_empty() || rest.contains('*') {
        return Err(Refusal::new("", format!("{name:?} is neither a name nor *. and a name")));
    }
    Ok(name.to_ascii_lowercase())
}

fn prefixes(raw: Vec<CidrRange>, field: &str) -> Result<Vec<IpNet>, Refusal> {
    raw.into_iter().enumerate().map(|(i, range)| prefix(range).at_index(field, i)).collect()
}

/// A range of addresses.
pub(super) fn prefix(range: CidrRange) -> Result<IpNet, Refusal> {
    let address: IpAddr = range
        .address_prefix
        .parse()
        .map_err(|_| Refusal::new("address_prefix", format!("{:?} is no address", range.address_prefix)))?;
    let length = range.prefix_len.map_or(0, |length| length.value);
    let net = u8::try_from(length).ok().and_then(|length| IpNet::new(address, length).ok());
    net.ok_or_else(|| Refusal::new("prefix_len", format!("{length} is too long")))
}
