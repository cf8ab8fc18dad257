//! The kinds of objects that a file may hold, as people write them. Unknown fields are errors.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What every document begins with; read first, to learn the kind.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: HeaderMetadata,
}

/// Enough of the metadata to name a document of any kind.
#[derive(Debug, Deserialize)]
pub(super) struct HeaderMetadata {
    pub(super) name: String,
    #[serde(default = "default_namespace")]
    pub(super) namespace: String,
}

pub(super) fn default_namespace() -> String {
    "default".to_owned()
}

/// One whole document of a kind that is understood here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document<Spec> {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    pub(super) name: String,
    #[serde(default = "default_namespace")]
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// For other programs; carried nowhere.
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
}

/// `weft.dev/v1` `Service`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceSpec {
    pub(super) ports: Vec<Port>,
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    #[serde(default)]
    pub(super) resolution: Resolution,
    #[serde(default)]
    pub(super) endpoints: Vec<EndpointSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) number: u32,
    #[serde(default)]
    pub(super) protocol: Protocol,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    #[default]
    Tcp,
    Http,
    Http2,
    Grpc,
    Tls,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Resolution {
    #[default]
    Static,
    Dns,
}

/// One address that serves a service: inline in a `Service`, or the `spec` of a `weft.dev/v1` `Endpoint`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointSpec {
    /// Name of the service, in the same namespace; only, and always, in an `Endpoint`.
    pub(super) service: Option<String>,
    pub(super) id: Option<String>,
    pub(super) address: String,
    pub(super) port: Option<u32>,
    #[serde(default)]
    pub(super) ports: BTreeMap<String, u32>,
    pub(super) weight: Option<u32>,
    #[serde(default)]
    pub(super) health: Health,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    pub(super) locality: Option<Locality>,
    #[serde(default)]
    pub(super) workload: String,
    #[serde(default)]
    pub(super) identity: String,
    #[serde(default)]
    pub(super) network: String,
    #[serde(default)]
    pub(super) mtls: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    #[default]
    Healthy,
    Draining,
    Unhealthy,
    Unknown,
}

/// `region: eu, zone: a` or Istio's `eu/a/rack1`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Locality {
    Path(String),
    Parts(LocalityParts),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalityParts {
    #[serde(default)]
    pub(super) region: String,
    #[serde(default)]
    pub(super) zone: String,
    #[serde(default)]
    pub(super) subzone: String,
}

/// Istio's `ServiceEntry`, as far as it can be followed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ServiceEntrySpec {
    pub(super) hosts: Vec<String>,
    pub(super) ports: Vec<EntryPort>,
    #[serde(default)]
    pub(super) resolution: EntryResolution,
    /// Where it runs makes no difference here: what an endpoint accepts decides.
    #[serde(default, rename = "location")]
    _location: EntryLocation,
    #[serde(default)]
    pub(super) endpoints: Vec<WorkloadEntrySpec>,
    pub(super) workload_selector: Option<Selector>,
    #[serde(default)]
    pub(super) subject_alt_names: Vec<String>,
    #[serde(default)]
    pub(super) export_to: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EntryPort {
    pub(super) number: u32,
    pub(super) name: String,
    #[serde(default)]
    pub(super) protocol: EntryProtocol,
    pub(super) target_port: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum EntryProtocol {
    #[default]
    #[serde(alias = "MONGO", alias = "REDIS", alias = "MYSQL", alias = "tcp")]
    Tcp,
    #[serde(alias = "http")]
    Http,
    #[serde(alias = "http2")]
    Http2,
    #[serde(alias = "grpc", alias = "GRPC-WEB")]
    Grpc,
    #[serde(alias = "HTTPS", alias = "https", alias = "tls")]
    Tls,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum EntryResolution {
    #[default]
    None,
    Static,
    #[serde(alias = "DNS_ROUND_ROBIN")]
    Dns,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) enum EntryLocation {
    #[default]
    #[serde(rename = "MESH_EXTERNAL")]
    External,
    #[serde(rename = "MESH_INTERNAL")]
    Internal,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selector {
    pub(super) labels: BTreeMap<String, String>,
}

/// Istio's `WorkloadEntry`, also inline in a `ServiceEntry`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WorkloadEntrySpec {
    pub(super) address: String,
    #[serde(default)]
    pub(super) ports: BTreeMap<String, u32>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) network: String,
    pub(super) locality: Option<String>,
    pub(super) weight: Option<u32>,
    pub(super) service_account: Option<String>,
}
