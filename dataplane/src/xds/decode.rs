//! From xDS resources to `spec` types: total and strict. Pure.
//!
//! Every message is taken apart field by field: what is used is taken out, what is safe to pass over is named in a
//! closed list, and whatever then differs from an empty message is refused by its name. So a field that this proxy does
//! not implement can never be ignored silently.

mod access_log;
mod balancing;
mod chain;
mod check;
mod cluster;
mod endpoint;
mod filter;
mod hash;
mod headers;
mod listener;
mod matching;
mod names;
mod outlier;
mod rate_limit;
mod rbac;
mod retry;
mod route;
mod secret;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod tracing;

use std::{fmt, sync::Arc, time::Duration};

use prost::Message;
use weft_proto::xds::google::protobuf::{Any, Duration as ProtoDuration};

use crate::spec::{Cluster, EndpointSet, Listener, MeshHost, RouteConfig, Secret, VirtualHost};

/// Types that are subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// SDS.
    Secret,
    /// LDS.
    Listener,
    /// RDS.
    Routes,
    /// VHDS: virtual hosts of tables that are on demand.
    VirtualHost,
    /// `weft.extension.v1.HostNames`, of a proxy that answers DNS.
    Names,
}

impl Kind {
    /// Every kind, in the order in which they make before break.
    pub const ALL: [Self; 7] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Secret,
        Self::Listener,
        Self::Routes,
        Self::VirtualHost,
        Self::Names,
    ];

    /// `Any.type_url` of its resources.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::Names => "type.googleapis.com/weft.extension.v1.HostNames",
        }
    }

    /// The kind of a type URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// A word for people and file names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Secret => "secret",
            Self::Listener => "listener",
            Self::Routes => "routes",
            Self::VirtualHost => "virtual host",
            Self::Names => "names",
        }
    }
}

/// A decoded resource.
#[derive(Clone, Debug)]
pub enum Resource {
    /// From CDS.
    Cluster(Arc<Cluster>),
    /// From EDS, with its name.
    Endpoints(Arc<str>, Arc<EndpointSet>),
    /// From SDS, with its name.
    Secret(Arc<str>, Arc<Secret>),
    /// From LDS.
    Listener(Arc<Listener>),
    /// From RDS.
    Routes(Arc<RouteConfig>),
    /// From VHDS; its name begins with that of its table.
    VirtualHost(Arc<VirtualHost>),
    /// Names of a host.
    Names(Arc<MeshHost>),
}

impl Resource {
    /// Its resource name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Cluster(cluster) => &cluster.name,
            Self::Endpoints(name, _) | Self::Secret(name, _) => name,
            Self::Listener(listener) => &listener.name,
            Self::Routes(routes) => &routes.name,
            Self::VirtualHost(host) => &host.name,
            Self::Names(host) => &host.host,
        }
    }
}

/// Why a resource is refused: which field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Path of the field from the resource, e.g. `filter_chains[0].filters[0].typed_config.tracing`.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

impl Refusal {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "{}: {}", self.field, self.problem)
        }
    }
}

impl std::error::Error for Refusal {}

/// Decodes one resource as the control plane sent it.
pub fn decode(kind: Kind, any: &Any) -> Result<Resource, Refusal> {
    if any.type_url != kind.type_url() {
        return Err(Refusal::new(
            "",
            format!("a resource of type {:?} among {}", any.type_url, kind.type_url()),
        ));
    }
    let bytes = any.value.as_slice();
    Ok(match kind {
        Kind::Cluster => Resource::Cluster(Arc::new(cluster::cluster(parse(bytes)?)?)),
        Kind::Endpoints => {
            let (name, set) = endpoint::assignment(parse(bytes)?)?;
            Resource::Endpoints(name, Arc::new(set))
        }
        Kind::Secret => {
            let (name, secret) = secret::secret(parse(bytes)?)?;
            Resource::Secret(name, Arc::new(secret))
        }
        Kind::Listener => Resource::Listener(Arc::new(listener::listener(parse(bytes)?)?)),
        Kind::Routes => Resource::Routes(Arc::new(route::route_config(parse(bytes)?)?)),
        Kind::VirtualHost => Resource::VirtualHost(Arc::new(route::host_on_demand(parse(bytes)?)?)),
        Kind::Names => Resource::Names(Arc::new(names::host_names(parse(bytes)?)?)),
    })
}

/// Adds the outer field to a refusal from within it.
trait At<T> {
    fn at(self, field: &str) -> Result<T, Refusal>;
    fn at_index(self, field: &str, index: usize) -> Result<T, Refusal>;
}

impl<T> At<T> for Result<T, Refusal> {
    fn at(self, field: &str) -> Self {
        self.map_err(|mut refusal| {
            refusal.field = if refusal.field.is_empty() {
                field.to_owned()
            } else {
                format!("{field}.{}", refusal.field)
            };
            refusal
        })
    }

    fn at_index(self, field: &str, index: usize) -> Self {
        self.map_err(|refusal| {
            Err::<T, _>(refusal).at(&format!("{field}[{index}]")).err().expect("an error stays one")
        })
    }
}

/// Sets fields that are safe to pass over to their default, so that `nothing_left` does not see them.
macro_rules! pass_over {
    ($message:ident: $($field:ident),+ $(,)?) => { $( $message.$field = Default::default(); )+ };
}
use pass_over;

/// Refuses a message in which any field is left.
fn nothing_left<M: Default + PartialEq + fmt::Debug>(message: &M) -> Result<(), Refusal> {
    let empty = M::default();
    if *message == empty {
        return Ok(());
    }
    // Only on the way to a refusal: the first line in which the two differ begins with the name of the field.
    let (found, empty) = (format!("{message:#?}"), format!("{empty:#?}"));
    let line =
        found.lines().zip(empty.lines()).find(|(left, right)| left != right).map_or("", |(left, _)| left);
    let field = line.split(':').next().unwrap_or_default().trim().trim_start_matches("r#");
    Err(Refusal::new(field, "not supported by this proxy; remove it"))
}

fn parse<M: Message + Default>(bytes: &[u8]) -> Result<M, Refusal> {
    M::decode(bytes).map_err(|error| Refusal::new("", format!("malformed protobuf: {error}")))
}

/// The message in an `Any`, which must be of the one type that is implemented there.
fn unpack<M: Message + Default + prost::Name>(any: &Any) -> Result<M, Refusal> {
    if any.type_url != M::type_url() && any.type_url.rsplit('/').next() != Some(M::full_name().as_str()) {
        return Err(unknown_type(any));
    }
    parse(&any.value)
}

fn unknown_type(any: &Any) -> Refusal {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    Refusal::new("", format!("{name:?} is not supported by this proxy"))
}

/// Whether an `Any` holds this type.
fn is<M: prost::Name>(any: &Any) -> bool {
    any.type_url.rsplit('/').next() == Some(M::full_name().as_str())
}

fn duration(value: ProtoDuration) -> Result<Duration, Refusal> {
    Duration::try_from(prost_types::Duration { seconds: value.seconds, nanos: value.nanos })
        .map_err(|_| Refusal::new("", "a duration below zero"))
}

fn optional_duration(value: Option<ProtoDuration>, field: &str) -> Result<Option<Duration>, Refusal> {
    value.map(duration).transpose().at(field)
}

fn required(value: String, field: &str) -> Result<String, Refusal> {
    if value.is_empty() { Err(Refusal::new(field, "empty")) } else { Ok(value) }
}
