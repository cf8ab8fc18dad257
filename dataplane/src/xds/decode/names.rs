//! `weft.extension.v1.HostNames`: what DNS answers for a host of the mesh.

use std::{net::IpAddr, sync::Arc};

use weft_proto::extension::v1::HostNames;

use super::{At, Refusal, required};
use crate::spec::MeshHost;

/// Longest name, bytes (RFC 1035, section 3.1, as text).
const NAME_BYTES_MAX: usize = 253;
/// Most names, and most addresses, of one host.
const ITEMS_MAX: usize = 256;

pub(super) fn host_names(raw: HostNames) -> Result<MeshHost, Refusal> {
    for (field, count) in [("names", raw.names.len()), ("addresses", raw.addresses.len())] {
        if count > ITEMS_MAX {
            return Err(Refusal::new(field, format!("{count}; at most {ITEMS_MAX} are taken")));
        }
    }
    let names = raw.names.into_iter().enumerate();
    let addresses = raw.addresses.into_iter().enumerate();
    let address = |text: String| {
        text.parse::<IpAddr>().map_err(|_| Refusal::new("", format!("{text:?} is no IP address")))
    };
    Ok(MeshHost {
        host: required(raw.host, "host")?.into(),
        names: names.map(|(i, text)| name(text).at_index("names", i)).collect::<Result<_, _>>()?,
        short_name: name(raw.short_name).at("short_name")?,
        namespace: raw.namespace.into(),
        addresses: addresses
            .map(|(i, text)| address(text).at_index("addresses", i))
            .collect::<Result<_, _>>()?,
    })
}

fn name(text: String) -> Result<Arc<str>, Refusal> {
    match text.len() <= NAME_BYTES_MAX {
        true => Ok(text.to_ascii_lowercase().into()),
        false => Err(Refusal::new("", format!("longer than {NAME_BYTES_MAX} bytes"))),
    }
}
