//! Golden files: what a mesh and documents become for one proxy. `tests/golden/NAME.yaml` holds the mesh and the proxy,
//! the documents, and after the mark what comes of them; `WEFT_BLESS=1` writes that part anew.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::Deserialize;
use weft_proto::{
    node::{HOST_NAMES, Inbound, LocalWorkload, NodeMetadata, Role, Upstream},
    registry::v1 as wire,
};

use super::{
    secrets::{config_map, issue, secret},
    *,
};
use crate::{
    access_log::RawMeshLogs,
    documents,
    providers::{Providers, RawProvider},
    registry::{fact, merge, source::Source},
    virtual_ips::VirtualIps,
};

mod show;

/// Between what goes in and what comes out.
pub(super) const MARK: &str = "\n# ---------- what comes of it ----------\n";
const SOURCE: &str = "test";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    node: NodeInput,
    #[serde(default)]
    services: Vec<ServiceInput>,
    /// Certificates that are there, `namespace/name`.
    #[serde(default)]
    secrets: Vec<String>,
    /// ConfigMaps of authorities that are there, `namespace/name`.
    #[serde(default)]
    authorities: Vec<String>,
    /// Listeners that the client names.
    #[serde(default)]
    asks: Vec<String>,
    /// Hosts that it asks for on demand.
    #[serde(default)]
    hosts: Vec<String>,
    /// The mesh's `access_log_file`.
    access_log_file: Option<String>,
    /// The mesh's `extension_providers`.
    #[serde(default)]
    providers: Vec<RawProvider>,
    /// Kinds to show: clusters, endpoints, listeners, routes, names; and `status` of the documents.
    show: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeInput {
    #[serde(default)]
    gateway: bool,
    #[serde(default = "default_namespace")]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    workload: String,
    outbound_http: Option<String>,
    /// What only some proxies can do.
    #[serde(default)]
    extensions: Vec<String>,
    outbound_capture: Option<String>,
    inbound_capture: Option<String>,
    /// Whether captured traffic that no service claims is refused.
    #[serde(default)]
    registry_only: bool,
    /// Whether the proxy answers DNS.
    #[serde(default)]
    dns: bool,
    /// Workloads by name, each with its labels.
    #[serde(default)]
    workloads: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    on_demand: bool,
    #[serde(default)]
    upstreams: Vec<PortInput>,
    #[serde(default)]
    inbound: Vec<PortInput>,
    bind: Option<String>,
    #[serde(default)]
    ports: BTreeMap<u16, u16>,
    /// `region/zone/subzone`.
    #[serde(default)]
    locality: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PortInput {
    #[serde(default)]
    bind: String,
    service: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    app: String,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    workload: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceInput {
    name: String,
    #[serde(default = "default_namespace")]
    namespace: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    dns: bool,
    /// Number by name; the name up to the first dash is the protocol.
    ports: BTreeMap<String, u16>,
    #[serde(default)]
    endpoints: Vec<EndpointInput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointInput {
    address: String,
    /// Number by port name; the service's number where there is none.
    #[serde(default)]
    ports: BTreeMap<String, u16>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Of region `eu`.
    #[serde(default)]
    zone: String,
    /// `region/zone/subzone`.
    #[serde(default)]
    locality: String,
    #[serde(default)]
    health: String,
    #[serde(default)]
    weight: u32,
    #[serde(default)]
    workload: String,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn node(input: &NodeInput) -> NodeMetadata {
    let upstream = |port: &PortInput| Upstream {
        bind: port.bind.parse().unwrap(),
        service: port.service.clone(),
        port: port.port,
    };
    let inbound = |port: &PortInput| Inbound {
        bind: (!port.bind.is_empty()).then(|| port.bind.parse().unwrap()),
        service: port.service.clone(),
        port: port.port,
        app: port.app.parse().unwrap(),
        protocol: port.protocol.clone(),
        workload: port.workload.clone(),
    };
    let workload = |(name, labels): (&String, &BTreeMap<String, String>)| LocalWorkload {
        name: name.clone(),
        labels: labels.clone(),
        ..LocalWorkload::default()
    };
    NodeMetadata {
        workloads: input.workloads.iter().map(workload).collect(),
        role: if input.gateway { Role::Gateway } else { Role::Sidecar },
        namespace: input.namespace.clone(),
        labels: input.labels.clone(),
        workload: input.workload.clone(),
        upstreams: input.upstreams.iter().map(upstream).collect(),
        inbound: input.inbound.iter().map(inbound).collect(),
        outbound_http: input.outbound_http.as_ref().map(|bind| bind.parse().unwrap()),
        on_demand: input.on_demand,
        outbound_capture: input.outbound_capture.as_ref().map(|bind| bind.parse().unwrap()),
        inbound_capture: input.inbound_capture.as_ref().map(|bind| bind.parse().unwrap()),
        extensions: input
            .extensions
            .iter()
            .cloned()
            .chain(input.dns.then(|| HOST_NAMES.to_owned()))
            .collect(),
        gateway_bind: input.bind.as_ref().map(|bind| bind.parse().unwrap()),
        gateway_ports: input.ports.clone(),
        locality: place(&input.locality),
        ..NodeMetadata::default()
    }
}

fn place(text: &str) -> [String; 3] {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// The mesh, as a source that tells these services makes it.
fn mesh_of(services: &[ServiceInput]) -> Arc<Mesh> {
    let hello = wire::Hello {
        source: SOURCE.into(),
        incarnation: "1".into(),
        cluster: "dc1".into(),
        ..Default::default()
    };
    let speaker = fact::speaker(&hello).unwrap();
    let objects = services.iter().flat_map(objects_of).map(|object| {
        let upsert = wire::Upsert { object: Some(object) };
        fact::upsert(&speaker, upsert).unwrap()
    });
    let mut source = Source::new(speaker.clone());
    source.restore(objects, 0);
    let keys = source.facts().services().map(|fact| fact.key.clone()).collect();
    let mut ips = VirtualIps::default();
    let facts = [(speaker.name.clone(), source.facts())];
    Arc::new(merge::merge(&Mesh::default(), &facts, &keys, &mut ips))
}

fn objects_of(service: &ServiceInput) -> Vec<wire::upsert::Object> {
    let key = wire::ServiceKey { namespace: service.namespace.clone(), name: service.name.clone() };
    let port = |(name, number): (&String, &u16)| {
        let protocol = match name.split('-').next().unwrap() {
            "http" => wire::Protocol::Http,
            "http2" => wire::Protocol::Http2,
            "grpc" => wire::Protocol::Grpc,
            "tls" => wire::Protocol::Tls,
            _ => wire::Protocol::Tcp,
        };
        wire::Port { name: name.clone(), number: (*number).into(), protocol: protocol.into() }
    };
    let resolution =
        if service.dns { wire::service::Resolution::Dns } else { wire::service::Resolution::Static };
    let endpoint = |(i, input): (usize, &EndpointInput)| {
        let number = |(name, number): (&String, &u16)| {
            (name.clone(), u32::from(*input.ports.get(name).unwrap_or(number)))
        };
        let health = match input.health.as_str() {
            "draining" => wire::Health::Draining,
            "unhealthy" => wire::Health::Unhealthy,
            _ => wire::Health::Healthy,
        };
        let [region, zone, subzone] = match input.zone.as_str() {
            "" => place(&input.locality),
            zone => ["eu".into(), zone.into(), String::new()],
        };
        wire::upsert::Object::Endpoint(wire::Endpoint {
            id: format!("{}-{i}", service.name),
            service: Some(key.clone()),
            address: input.address.clone(),
            ports: service.ports.iter().map(number).collect(),
            weight: input.weight,
            health: health.into(),
            locality: (!region.is_empty()).then_some(wire::Locality { region, zone, subzone }),
            labels: input.labels.clone().into_iter().collect(),
            workload: input.workload.clone(),
            ..Default::default()
        })
    };
    let told = wire::upsert::Object::Service(wire::Service {
        key: Some(key.clone()),
        ports: service.ports.iter().map(port).collect(),
        aliases: service.aliases.clone(),
        resolution: resolution.into(),
        ..Default::default()
    });
    [told].into_iter().chain(service.endpoints.iter().enumerate().map(endpoint)).collect()
}

fn secret_of(named: &str) -> documents::Document {
    let (namespace, name) = named.split_once('/').unwrap();
    let of = issue("a.test");
    let yaml = secret(namespace, name, &[("tls.crt", &of.chain), ("tls.key", &of.key)]);
    let (mut found, problems) = documents::parse(&yaml, "secret", 1);
    assert_eq!(problems, []);
    found.remove(0)
}

fn authorities_of(named: &str) -> documents::Document {
    let (namespace, name) = named.split_once('/').unwrap();
    let (mut found, problems) = documents::parse(&config_map(namespace, name, &issue("a.test")), "map", 1);
    assert_eq!(problems, []);
    found.remove(0)
}

/// What comes of a golden file's input.
fn outcome(text: &str) -> String {
    let (head, rest) = text.split_once("\n---\n").unwrap_or((text, ""));
    let input: Input = serde_saphyr::from_str(head).unwrap();
    let mesh = mesh_of(&input.services);
    let (mut documents, problems) = documents::parse(rest, "documents", 1);
    assert_eq!(problems, []);
    documents.extend(input.secrets.iter().map(|secret| secret_of(secret)));
    documents.extend(input.authorities.iter().map(|map| authorities_of(map)));
    let documents: Arc<DocumentSet> = Arc::new(documents.into_iter().collect());
    let asked = Asked {
        listeners: input.asks.iter().map(|name| name.as_str().into()).collect(),
        hosts: input.hosts.iter().map(|host| format!("{OUTBOUND_HTTP}/{host}").into()).collect(),
    };
    let policy =
        if input.node.registry_only { OutboundPolicy::RegistryOnly } else { OutboundPolicy::AllowAny };
    let logs = RawMeshLogs { file: input.access_log_file, ..RawMeshLogs::default() };
    let (log, format) = logs.check().unwrap();
    let providers = Providers::check(input.providers, &format).unwrap();
    let options = Options { outbound_policy: policy, log, providers, ..Options::default() };
    let mut compiler = Compiler::new(options);
    let world = compiler.update(mesh, documents);
    let set = world.resources_asked(&node(&input.node), &asked);
    let (show_status, kinds): (Vec<String>, _) = input.show.into_iter().partition(|name| name == "status");
    let mut out = show::resources(&set, &kinds);
    if !show_status.is_empty() {
        out.push_str(&show::statuses(&world.verdict().statuses));
    }
    let problems = &world.verdict().problems;
    if !problems.is_empty() {
        out.push_str("problems:\n");
        for problem in problems {
            out.push_str(&format!("- {problem}\n"));
        }
    }
    out
}

#[test]
fn every_golden_file_compiles_to_what_it_says() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bless = std::env::var_os("WEFT_BLESS").is_some();
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 15, "golden files are missing: {files:?}");
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let (input, expected) = text.split_once(MARK).unwrap_or((text.trim_end(), ""));
        let found = outcome(input);
        if bless {
            fs::write(&file, format!("{input}{MARK}{found}")).unwrap();
        } else if found != expected {
            let diff = similar::TextDiff::from_lines(expected, found.as_str());
            wrong.push(format!("{name}:\n{}", diff.unified_diff().context_radius(3)));
        }
    }
    assert!(wrong.is_empty(), "WEFT_BLESS=1 writes these anew:\n{}", wrong.join("\n"));
}
