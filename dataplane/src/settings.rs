//! What a proxy is started with: a YAML file, then `WEFT_*` in the environment, then the command line.
//!
//! `RawSettings` is what a person wrote, `Settings` what the program trusts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use weft_proto::{
    node::{Address, HOST_NAMES, Inbound, LocalWorkload, NodeMetadata, Role, Upstream},
    xds::envoy::config::core::v3::{Locality, Node, node::UserAgentVersionType},
};

use crate::{
    dns,
    identity::{agent, joining::RawJoining},
};

/// Who we say we are to a control plane.
const USER_AGENT: &str = "weft-proxy";

/// Messages of our own that the proxy understands.
const EXTENSIONS: [&str; 1] = ["weft.extension.v1.PeakEwma"];

/// How long open requests may take to finish at shutdown, where nobody says.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Where captured traffic and DNS queries come in, when nothing else is said.
const OUTBOUND_CAPTURE_PORT: u16 = 15001;
const INBOUND_CAPTURE_PORT: u16 = 15006;
const DNS_PORT: u16 = 15053;

/// What a person wrote.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSettings {
    /// Control planes: `https://host:15012` over mutual TLS, or `host:port` in plaintext; default `127.0.0.1:15010`. One
    /// string may hold several, with commas.
    pub control: Option<OneOrMany>,
    /// Node id, unique among proxies; default `<workload>.<namespace>~<host name>`.
    pub node: Option<String>,
    /// `sidecar` (default) or `gateway`.
    pub role: Option<String>,
    /// Namespace of the workload; default `default`.
    pub namespace: Option<String>,
    /// Service account of the workload; default as its certificate says.
    pub service_account: Option<String>,
    /// Name of the deployment or job.
    pub workload: Option<String>,
    /// Version label of the workload.
    pub version: Option<String>,
    /// Labels of the workload.
    pub labels: BTreeMap<String, String>,
    /// The workloads of a proxy that several share: `{name, namespace, version, labels, service_account}`.
    pub workloads: Vec<RawWorkload>,
    /// Local ports that lead to services: `127.0.0.1:9001=api:8080`, `unix:/run/api.sock=api`, or `{bind, service, port}`.
    pub upstreams: Option<RawUpstreams>,
    /// Inbound ports: `{bind, service, port, app, protocol}`.
    pub inbound: Vec<RawInbound>,
    /// Where HTTP that is routed by host is taken.
    pub outbound_http: Option<SocketAddr>,
    /// Whether hosts of `outbound_http` are asked for when requests need them, not all at once; default `true`.
    pub on_demand: Option<bool>,
    /// Takes what `weft intercept` redirects: `outbound_capture`, `inbound_capture` and `dns` at its ports.
    pub capture: bool,
    /// Where outbound TCP is taken that a packet filter redirects.
    pub outbound_capture: Option<SocketAddr>,
    /// Where inbound TCP is taken that a packet filter redirects.
    pub inbound_capture: Option<SocketAddr>,
    /// Where DNS is answered, by UDP and TCP. One string may hold several, with commas.
    pub dns: Option<OneOrMany>,
    /// Who is asked for names that are not the mesh's: `10.0.0.2` or `10.0.0.2:53`; default what `/etc/resolv.conf` says.
    pub dns_resolvers: Option<OneOrMany>,
    /// Address that a gateway binds; default 0.0.0.0.
    pub gateway_bind: Option<IpAddr>,
    /// Gateway server port to the port really bound.
    pub gateway_ports: BTreeMap<String, u16>,
    /// `region/zone/subzone`.
    pub locality: Option<String>,
    /// Where `/ready`, `/metrics` and the rest are served; default `127.0.0.1:15000`.
    pub admin: Option<SocketAddr>,
    /// Where the last good configuration is kept; without it nothing is kept.
    pub data_dir: Option<PathBuf>,
    /// File with the join token by which the proxy gets its identity the first time.
    pub join_token_file: Option<PathBuf>,
    /// The join token itself, for where there is no file.
    pub join_token: Option<String>,
    /// A platform's token in place of a join token, in a file that the platform keeps fresh: `kubernetes:FILE`, `nomad:FILE`
    /// or `consul:FILE`. The control plane must be set up to believe that platform.
    pub proof: Option<String>,
    /// Unix socket on which applications learn who they are (SPIFFE Workload API) and an Envoy gets its certificate (SDS).
    pub workload_socket: Option<PathBuf>,
    /// PEM file with the root by which the control plane is known the first time; default the hash in the join token.
    pub control_ca_file: Option<PathBuf>,
    /// Worker threads; default one a core.
    pub workers: Option<usize>,
    /// How long connections are taken on at shutdown while `/ready` already fails, so that who balances over proxies by it
    /// moves away first; default `0s`: who is told by the control plane needs none.
    pub drain_grace: Option<String>,
    /// How long open requests may take to finish at shutdown; default `30s`.
    pub drain_timeout: Option<String>,
    /// Most downstream connections; default 65536.
    pub connections_max: Option<usize>,
}

/// One value or a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// Several in one string, with commas.
    One(String),
    /// A list.
    Many(Vec<String>),
}

/// Declared upstreams as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum RawUpstreams {
    /// Several in one string, with commas.
    One(String),
    /// A list.
    Many(Vec<RawUpstream>),
}

/// One declared upstream as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum RawUpstream {
    /// `127.0.0.1:9001=api:8080`; without a port, the service's first.
    Short(String),
    /// With its fields named.
    Long(LongUpstream),
}

/// A declared upstream with its fields named.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongUpstream {
    /// Where the proxy listens: an address and port, or `unix:/path`.
    pub bind: String,
    /// Service name, or any of its host names.
    pub service: String,
    /// Service port; 0 is its first.
    #[serde(default)]
    pub port: u16,
}

/// An inbound port as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawInbound {
    /// Where the proxy listens: an address and port, or `unix:/path`. Without it the capture of inbound traffic takes the
    /// workload's own port.
    pub bind: Option<String>,
    /// The service that the workload serves.
    pub service: String,
    /// The service's port; 0 is its first.
    #[serde(default)]
    pub port: u16,
    /// Where the workload listens: an address and port, or `unix:/path`.
    pub app: String,
    /// `http`, `http2`, `grpc` or `tcp`; default as the service says.
    #[serde(default)]
    pub protocol: String,
    /// Name of the one of `workloads` whose port it is; default the proxy's own.
    #[serde(default)]
    pub workload: String,
}

/// One of several workloads that share the proxy, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWorkload {
    /// Name of the deployment or job, unique among them.
    pub name: String,
    /// Its namespace; default the proxy's.
    #[serde(default)]
    pub namespace: String,
    /// Its version label.
    #[serde(default)]
    pub version: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its service account; default `default`.
    #[serde(default)]
    pub service_account: String,
}

/// What the program trusts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Control planes, at least one.
    pub control_planes: Vec<tonic::transport::Endpoint>,
    /// How the proxy gets its identity; none where every control plane is spoken to in plaintext.
    pub identity: Option<agent::Settings>,
    /// Where others on the host are told of it.
    pub workload_socket: Option<PathBuf>,
    /// Node id.
    pub node_id: String,
    /// What the node says about itself.
    pub metadata: NodeMetadata,
    /// Admin address.
    pub admin: SocketAddr,
    /// State directory.
    pub data_dir: Option<PathBuf>,
    /// Worker threads, at least one.
    pub workers: usize,
    /// How long connections are taken on at shutdown while `/ready` already fails.
    pub drain_grace: Duration,
    /// How long open requests may take to finish at shutdown, after the grace.
    pub drain_timeout: Duration,
    /// Most downstream connections.
    pub connections_max: usize,
    /// How DNS is answered, where it is.
    pub dns: Option<dns::Settings>,
}

/// Settings that cannot be used: where and why.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A source cannot be read or holds something unknown.
    #[error("proxy settings: {0}")]
    Source(#[from] config::ConfigError),
    /// A value is not valid.
    #[error("proxy settings: {field}: {problem}")]
    Field {
        /// Its field.
        field: String,
        /// What is wrong.
        problem: String,
    },
}

impl Settings {
    /// Reads a file, if any, then the environment, then overrides (`admin` to `127.0.0.1:0`, say).
    pub fn load(file: Option<&Path>, overrides: &[(String, String)]) -> Result<Self, SettingsError> {
        let mut builder = config::Config::builder();
        if let Some(file) = file {
            builder = builder.add_source(config::File::from(file).format(config::FileFormat::Yaml));
        }
        for (name, value) in environment(std::env::vars()) {
            builder = builder.set_override(name, value)?;
        }
        for (name, value) in overrides {
            builder = builder.set_override(name, value.as_str())?;
        }
        Self::check(builder.build()?.try_deserialize()?)
    }

    /// Reads YAML text alone.
    pub fn from_yaml(text: &str) -> Result<Self, SettingsError> {
        let source = config::File::from_str(text, config::FileFormat::Yaml);
        Self::check(config::Config::builder().add_source(source).build()?.try_deserialize()?)
    }

    /// Checks what was written.
    pub fn check(raw: RawSettings) -> Result<Self, SettingsError> {
        let role = match raw.role.as_deref() {
            None | Some("sidecar") => Role::Sidecar,
            Some("gateway") => Role::Gateway,
            Some(other) => return Err(bad("role", format!("{other:?} is neither sidecar nor gateway"))),
        };
        let namespace = raw.namespace.unwrap_or_else(|| "default".to_owned());
        let mut metadata = NodeMetadata {
            role,
            namespace: namespace.clone(),
            service_account: raw.service_account.unwrap_or_default(),
            workload: raw.workload.unwrap_or_default(),
            version: raw.version.unwrap_or_default(),
            labels: raw.labels,
            workloads: workloads(raw.workloads)?,
            upstreams: upstreams(raw.upstreams)?,
            inbound: raw.inbound.into_iter().enumerate().map(inbound).collect::<Result<_, _>>()?,
            outbound_http: raw.outbound_http,
            on_demand: raw.outbound_http.is_some() && raw.on_demand.unwrap_or(true),
            outbound_capture: raw.outbound_capture,
            inbound_capture: raw.inbound_capture,
            gateway_bind: raw.gateway_bind,
            gateway_ports: ports(raw.gateway_ports)?,
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
            mtls: false,
            locality: locality(raw.locality.as_deref().unwrap_or_default()),
        };
        for (i, inbound) in metadata.inbound.iter().enumerate() {
            let known = |workload: &LocalWorkload| workload.name == inbound.workload;
            if !inbound.workload.is_empty() && !metadata.workloads.iter().any(known) {
                let problem = format!("{:?} is none of `workloads`", inbound.workload);
                return Err(bad(format!("inbound[{i}].workload"), problem));
            }
        }
        let mut dns = dns_binds(raw.dns)?;
        if raw.capture {
            metadata.outbound_capture.get_or_insert(any_address(OUTBOUND_CAPTURE_PORT));
            metadata.inbound_capture.get_or_insert(any_address(INBOUND_CAPTURE_PORT));
            dns.get_or_insert_with(|| loopback(DNS_PORT));
        }
        let resolvers = resolvers(raw.dns_resolvers)?;
        let resolv_conf = PathBuf::from(dns::RESOLV_CONF);
        let dns = dns.map(|bind| dns::Settings { bind, resolvers, namespace, resolv_conf });
        if dns.is_some() {
            metadata.extensions.push(HOST_NAMES.to_owned());
        }
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let default_id = || format!("{}.{}~{}", metadata.workload, metadata.namespace, host.trim());
        let control_planes = control_planes(raw.control)?;
        let joining = RawJoining {
            data_dir: raw.data_dir.clone(),
            join_token_file: raw.join_token_file,
            join_token: raw.join_token,
            proof: raw.proof,
            control_ca_file: raw.control_ca_file,
        };
        Ok(Self {
            workload_socket: raw.workload_socket,
            identity: joining.check(&control_planes).map_err(|e| bad(e.field, e.problem))?,
            control_planes,
            node_id: raw.node.filter(|id| !id.is_empty()).unwrap_or_else(default_id),
            metadata,
            admin: raw.admin.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 15000))),
            data_dir: raw.data_dir,
            workers: workers(raw.workers)?,
            drain_grace: time("drain_grace", raw.drain_grace.as_deref(), Duration::ZERO)?,
            drain_timeout: time("drain_timeout", raw.drain_timeout.as_deref(), DRAIN_TIMEOUT)?,
            connections_max: raw.connections_max.unwrap_or(65_536),
            dns,
        })
    }

    /// The node as told to a control plane.
    pub fn node(&self) -> Node {
        let [region, zone, sub_zone] = self.metadata.locality.clone();
        Node {
            id: self.node_id.clone(),
            cluster: format!("{}.{}", self.metadata.workload, self.metadata.namespace),
            metadata: Some(self.metadata.to_struct()),
            locality: Some(Locality { region, zone, sub_zone }),
            user_agent_name: USER_AGENT.to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(
                env!("CARGO_PKG_VERSION").to_owned(),
            )),
            ..Default::default()
        }
    }
}

/// `WEFT_*` variables that are settings of a proxy; other commands of the binary have variables of their own.
fn environment(vars: impl Iterator<Item = (String, String)>) -> impl Iterator<Item = (String, String)> {
    const NAMES: [&str; 27] = [
        "control",
        "node",
        "role",
        "namespace",
        "service_account",
        "workload",
        "version",
        "upstreams",
        "outbound_http",
        "on_demand",
        "capture",
        "outbound_capture",
        "inbound_capture",
        "dns",
        "dns_resolvers",
        "gateway_bind",
        "locality",
        "data_dir",
        "join_token_file",
        "join_token",
        "proof",
        "control_ca_file",
        "workload_socket",
        "workers",
        "drain_grace",
        "drain_timeout",
        "connections_max",
    ];
    vars.filter_map(|(name, value)| {
        let name = name.strip_prefix("WEFT_")?.to_ascii_lowercase();
        let name = if name == "proxy_admin" { "admin".to_owned() } else { name };
        (NAMES.contains(&name.as_str()) || name == "admin" && value.parse::<SocketAddr>().is_ok())
            .then_some((name, value))
    })
}

fn bad(field: impl Into<String>, problem: impl Into<String>) -> SettingsError {
    SettingsError::Field { field: field.into(), problem: problem.into() }
}

fn control_planes(raw: Option<OneOrMany>) -> Result<Vec<tonic::transport::Endpoint>, SettingsError> {
    let texts = match raw {
        None => vec!["127.0.0.1:15010".to_owned()],
        Some(OneOrMany::One(text)) => text.split(',').map(|part| part.trim().to_owned()).collect(),
        Some(OneOrMany::Many(texts)) => texts,
    };
    if texts.is_empty() {
        return Err(bad("control", "empty; name at least one address"));
    }
    let parse = |(i, text): (usize, String)| {
        let url = if text.contains("://") { text.clone() } else { format!("http://{text}") };
        let wanted = || bad(format!("control[{i}]"), format!("{text:?} is no address; write host:port"));
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(wanted());
        }
        tonic::transport::Endpoint::from_shared(url).map_err(|_| wanted())
    };
    texts.into_iter().enumerate().map(parse).collect()
}

fn upstreams(raw: Option<RawUpstreams>) -> Result<Vec<Upstream>, SettingsError> {
    let raw = match raw {
        None => Vec::new(),
        Some(RawUpstreams::Many(list)) => list,
        Some(RawUpstreams::One(text)) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| RawUpstream::Short(part.to_owned())).collect()
        }
    };
    let parse = |(i, raw): (usize, RawUpstream)| match raw {
        RawUpstream::Long(long) => {
            let bind = address(&format!("upstreams[{i}].bind"), &long.bind)?;
            Ok(Upstream { bind, service: long.service, port: long.port })
        }
        RawUpstream::Short(text) => short_upstream(&text).ok_or_else(|| {
            bad(format!("upstreams[{i}]"), format!("{text:?}: write <bind address>=<service>[:<port>]"))
        }),
    };
    raw.into_iter().enumerate().map(parse).collect()
}

fn short_upstream(text: &str) -> Option<Upstream> {
    let (bind, target) = text.split_once('=')?;
    let (service, port) = match target.rsplit_once(':') {
        Some((service, port)) => (service, port.parse().ok()?),
        None => (target, 0),
    };
    (!service.is_empty()).then_some(())?;
    Some(Upstream { bind: bind.parse().ok()?, service: service.to_owned(), port })
}

fn inbound((i, raw): (usize, RawInbound)) -> Result<Inbound, SettingsError> {
    let field = |name: &str| format!("inbound[{i}].{name}");
    Ok(Inbound {
        bind: raw.bind.map(|bind| address(&field("bind"), &bind)).transpose()?,
        service: raw.service,
        port: raw.port,
        app: address(&field("app"), &raw.app)?,
        protocol: raw.protocol,
        workload: raw.workload,
    })
}

fn workloads(raw: Vec<RawWorkload>) -> Result<Vec<LocalWorkload>, SettingsError> {
    let mut names = BTreeSet::new();
    let check = |(i, raw): (usize, RawWorkload)| {
        if raw.name.is_empty() || !names.insert(raw.name.clone()) {
            let problem = format!("{:?} is empty or named twice", raw.name);
            return Err(bad(format!("workloads[{i}].name"), problem));
        }
        let RawWorkload { name, namespace, version, labels, service_account } = raw;
        Ok(LocalWorkload { name, namespace, version, labels, service_account })
    };
    raw.into_iter().enumerate().map(check).collect()
}

fn address(field: &str, text: &str) -> Result<Address, SettingsError> {
    text.parse().map_err(|problem: String| bad(field, problem))
}

fn listed(raw: OneOrMany) -> Vec<String> {
    match raw {
        OneOrMany::One(text) => {
            text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        }
        OneOrMany::Many(texts) => texts,
    }
}

fn dns_binds(raw: Option<OneOrMany>) -> Result<Option<Vec<SocketAddr>>, SettingsError> {
    let parse = |(i, text): (usize, String)| {
        let wanted = || bad(format!("dns[{i}]"), format!("{text:?}: write 127.0.0.1:{DNS_PORT}"));
        text.parse().map_err(|_| wanted())
    };
    raw.map(|raw| listed(raw).into_iter().enumerate().map(parse).collect()).transpose()
}

fn resolvers(raw: Option<OneOrMany>) -> Result<Vec<SocketAddr>, SettingsError> {
    let parse = |(i, text): (usize, String)| {
        let with_port = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
        with_port.map_err(|_| bad(format!("dns_resolvers[{i}]"), format!("{text:?}: write 10.0.0.2")))
    };
    raw.map_or_else(Vec::new, listed).into_iter().enumerate().map(parse).collect()
}

/// Whether this host speaks IPv6.
fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// Every address of both families, or of the one there is.
fn any_address(port: u16) -> SocketAddr {
    let ip: IpAddr = if has_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, port)
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    let v6 = has_ipv6().then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    [SocketAddr::from((Ipv4Addr::LOCALHOST, port))].into_iter().chain(v6).collect()
}

/// `region/zone/subzone`; what is left out is empty.
fn locality(text: &str) -> [String; 3] {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

fn ports(raw: BTreeMap<String, u16>) -> Result<BTreeMap<u16, u16>, SettingsError> {
    let parse = |(from, to): (String, u16)| match from.parse() {
        Ok(from) => Ok((from, to)),
        Err(_) => Err(bad(format!("gateway_ports.{from}"), "the key is no port number")),
    };
    raw.into_iter().map(parse).collect()
}

fn workers(raw: Option<usize>) -> Result<usize, SettingsError> {
    match raw {
        Some(0) => Err(bad("workers", "must be at least 1")),
        Some(workers) => Ok(workers),
        None => Ok(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)),
    }
}

fn time(field: &str, raw: Option<&str>, default: Duration) -> Result<Duration, SettingsError> {
    let Some(text) = raw else { return Ok(default) };
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| bad(field, format!("{text:?}: write 30s")))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(bad(field, format!("{text:?}: write a number and ms, s or m"))),
    }
}

#[cfg(test)]
mod tests;
