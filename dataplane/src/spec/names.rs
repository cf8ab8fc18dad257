//! What a host of the mesh is called, for DNS.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// Hosts by name, as one allocation: whoever reads them sees at once that nothing changed.
pub type MeshHosts = Arc<BTreeMap<Arc<str>, Arc<MeshHost>>>;

/// From a `weft.extension.v1.HostNames`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshHost {
    /// The full host name; the resource's name.
    pub host: Arc<str>,
    /// Every name that means it wherever it is asked, lower case.
    pub names: Vec<Arc<str>>,
    /// A name that means it within `namespace` alone; empty when there is none.
    pub short_name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The addresses that stand for it.
    pub addresses: Vec<IpAddr>,
}
