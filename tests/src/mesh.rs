//! A whole mesh on loopback: control plane, adapter, backends, and proxies of either kind. The only file that
//! knows the program's flags and the shape of its settings.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use weft_proto::{
    admin::v1::{
        ApplyRequest, ApplyResponse, Manifest, ServicesRequest, StatusRequest, StatusResponse,
        admin_client::AdminClient,
    },
    node::{HOST_NAMES, LocalWorkload, NodeMetadata, Role},
};

use crate::{
    consul::Consul,
    envoy,
    netns::Host,
    program::{Program, free_ports, weft},
    wait::{self, START, until},
};

/// The admin port of a proxy that has a host of its own.
pub const HOST_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

/// Where a proxy answers DNS whose metadata asks for names.
const DNS: &str = "127.0.0.1:15053";

/// Time for a change to reach every proxy.
pub const SYNC: Duration = Duration::from_secs(15);

/// A control plane with its state directory and the folder of files that its adapter watches.
pub struct Mesh {
    /// Plaintext ADS and Registry.
    pub ads: SocketAddr,
    /// The same over mutual TLS, where the mesh has identities.
    pub tls: Option<SocketAddr>,
    /// Admin gRPC and HTTP.
    pub admin: SocketAddr,
    /// The control plane.
    pub control: Program,
    /// The adapter.
    pub adapter: Option<Program>,
    /// Everything that the mesh writes. Dropped last: programs that fail a test print their logs from here.
    pub dir: Arc<TempDir>,
}

impl Mesh {
    /// Starts a control plane without sources.
    pub async fn start() -> Self {
        Self::start_with(&json!({})).await
    }

    /// Starts a control plane with these settings in its file, beside those of every mesh.
    pub async fn start_with(settings: &serde_json::Value) -> Self {
        let dir = Arc::new(TempDir::new().expect("a temporary folder can be made"));
        std::fs::write(settings_file(dir.path()), settings.to_string()).expect("the settings can be written");
        let [ads, admin] = free_ports();
        let control = control(dir.path(), ads, admin);
        let mesh = Self { dir, ads, tls: None, admin, control, adapter: None };
        mesh.control_ready().await;
        mesh
    }

    /// Starts a control plane that gives identities, with certificates of this life.
    pub async fn start_with_identities(life: &str) -> Self {
        let [tls] = free_ports();
        let settings = json!({"tls_bind": tls, "certificate_life": life});
        let mesh = Self { tls: Some(tls), ..Self::start_with(&settings).await };
        wait::listening("TLS port", tls).await;
        mesh
    }

    /// A join token for a workload.
    pub fn token(&self, namespace: &str, service_account: &str) -> String {
        self.token_of(&["-n", namespace, "--service-account", service_account])
    }

    /// A join token for the bearer that these options name.
    pub fn token_of(&self, bearer: &[&str]) -> String {
        let made = self.command(&[&["token", "create", "-o", "json"], bearer].concat());
        let text = String::from_utf8_lossy(&made.stdout).into_owned();
        let listing: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let token = listing["items"][0]["token"].as_str().map(str::to_owned);
        token.unwrap_or_else(|| panic!("no token: {text}{}", String::from_utf8_lossy(&made.stderr)))
    }

    /// Starts a `weft proxy` that joins with a token.
    pub async fn joining_proxy(&self, name: &str, metadata: &NodeMetadata, token: &str) -> Proxy {
        let mut proxy = self.unready_proxy(name, metadata, token);
        proxy.restart();
        proxy.ready().await;
        proxy
    }

    /// One that is not started yet.
    pub fn unready_proxy(&self, name: &str, metadata: &NodeMetadata, token: &str) -> Proxy {
        let [admin] = free_ports();
        let file = self.dir.path().join(format!("{name}.yaml"));
        let data = self.dir.path().join(name);
        let settings = proxy_settings(name, metadata, true, [self.ads, admin], &data);
        let mut settings: serde_json::Value = serde_json::from_str(&settings).expect("it was just written");
        let tls = self.tls.expect("the mesh has identities");
        settings["control"] = json!([format!("https://{tls}")]);
        settings["service_account"] = json!(metadata.service_account);
        settings["join_token"] = json!(token);
        std::fs::write(&file, settings.to_string()).expect("the settings can be written");
        Proxy { file: Some(file), admin, program: None, dir: self.dir.clone(), name: name.into() }
    }

    /// Waits until the control plane answers.
    pub async fn control_ready(&self) {
        until("start of the control plane", START, async || {
            let mut client = self.client().await.map_err(|error| error.to_string())?;
            client.status(StatusRequest::default()).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        wait::listening("ADS port", self.ads).await;
    }

    /// Stops the control plane as a crash would.
    pub fn kill_control(&mut self) {
        self.control.kill();
    }

    /// Starts the control plane again, on the same ports and state.
    pub async fn restart_control(&mut self) {
        self.control = control(self.dir.path(), self.ads, self.admin);
        self.control_ready().await;
    }

    /// The admin API.
    pub async fn client(&self) -> Result<AdminClient<Channel>, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.admin))?;
        Ok(AdminClient::new(endpoint.connect().await?))
    }

    /// Applies YAML; the text of every problem when it is refused.
    pub async fn apply(&self, yaml: &str) -> Result<ApplyResponse, String> {
        let mut client = self.client().await.map_err(|error| error.to_string())?;
        let manifest = Manifest { yaml: yaml.to_owned(), origin: "case.yaml".into() };
        let request = ApplyRequest { manifests: vec![manifest], ..Default::default() };
        let response =
            client.apply(request).await.map_err(|status| status.message().to_owned())?.into_inner();
        let problem = response.problems.iter().find(|problem| problem.severity != "warning");
        match problem {
            None => Ok(response),
            Some(_) => Err(response
                .problems
                .iter()
                .map(|p| format!("{}:{}:{}: {}: {}", p.origin, p.line, p.column, p.field, p.message))
                .collect::<Vec<_>>()
                .join("\n")),
        }
    }

    /// Status of the mesh.
    pub async fn status(&self) -> Result<StatusResponse, String> {
        let mut client = self.client().await.map_err(|error| error.to_string())?;
        let status = client.status(StatusRequest::default()).await.map_err(|status| status.to_string())?;
        Ok(status.into_inner())
    }

    /// Waits until `proxies` proxies are connected and all run the newest configuration, none refusing any of it.
    pub async fn synced(&self, proxies: usize, limit: Duration) {
        until("proxies in sync", limit, async || {
            let status = self.status().await?;
            let synced = |p: &weft_proto::admin::v1::ProxyStatus| {
                p.state == "synced" && p.acked_revision >= status.revision && p.rejections.is_empty()
            };
            let ready = status.proxies.iter().filter(|proxy| synced(proxy)).count();
            if ready == status.proxies.len() && ready >= proxies {
                Ok(())
            } else {
                Err(format!("{status:#?}"))
            }
        })
        .await;
    }

    /// Waits until the registry shows so many endpoints of a service.
    pub async fn endpoints(&self, service: &str, wanted: usize, limit: Duration) {
        until(&format!("{wanted} endpoints of {service}"), limit, async || {
            let mut client = self.client().await.map_err(|error| error.to_string())?;
            let request = ServicesRequest { name: service.to_owned(), ..Default::default() };
            let found = client.services(request).await.map_err(|status| status.to_string())?.into_inner();
            let usable =
                |e: &&weft_proto::admin::v1::EndpointView| e.health != "unhealthy" && e.health != "draining";
            let count = found.services.iter().flat_map(|service| &service.endpoints).filter(usable).count();
            if count == wanted { Ok(()) } else { Err(format!("{found:#?}")) }
        })
        .await;
    }

    /// Folder that the file adapter watches.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    /// Writes a file for the adapter, whole at once, and starts the adapter if it does not run.
    pub fn publish(&mut self, file: &str, yaml: &str) {
        let folder = self.files();
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        let new = self.dir.path().join(file);
        std::fs::write(&new, yaml).expect("the file can be written");
        std::fs::rename(&new, folder.join(file)).expect("the file can be moved");
        if self.adapter.is_none() {
            let mut command = Command::new(weft());
            command.args(["adapter", "files", "--dir"]).arg(&folder);
            command.arg("--control").arg(format!("http://{}", self.ads)).args(["--name", "files"]);
            self.adapter = Some(Program::start("adapter", self.dir.path(), &mut command));
        }
    }

    /// Starts a Consul adapter, whose source is `consul/local`.
    pub fn follow(&mut self, consul: &Consul) {
        self.adapter = Some(self.adapter("consul", &["--address", &consul.url()]));
    }

    /// Starts an adapter for a platform with these flags. Its source is PLATFORM/local.
    pub fn adapter(&self, platform: &str, flags: &[&str]) -> Program {
        let mut command = Command::new(weft());
        command.args(["adapter", platform]).args(flags);
        command.arg("--control").arg(format!("http://{}", self.ads));
        Program::start(&format!("adapter-{platform}"), self.dir.path(), &mut command)
    }

    /// The command of an adapter for the mesh's files that speaks for a source over mutual TLS, with a state folder of the
    /// source's own.
    pub fn joining_adapter(&self, source: &str) -> Command {
        let tls = self.tls.expect("the mesh has identities");
        let data = self.dir.path().join(source.replace('/', "-"));
        let mut command = Command::new(weft());
        command.args(["adapter", "files", "--dir"]).arg(self.files()).args(["--name", source]);
        command.arg("--control").arg(format!("https://{tls}")).arg("--data-dir").arg(data);
        command
    }

    /// Waits until the registry shows a source in this state, for a reason that holds this text.
    pub async fn source(&self, name: &str, state: &str, reason: &str, limit: Duration) {
        until(&format!("{name} {state}: {reason}"), limit, async || {
            let status = self.status().await?;
            let found = status.sources.iter().find(|source| source.name == name);
            let told = found.is_some_and(|source| source.state == state && source.reason.contains(reason));
            if told { Ok(()) } else { Err(format!("{:#?}", status.sources)) }
        })
        .await
    }

    /// Runs the command line against this mesh.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(weft());
        command.args(arguments).env("WEFT_ADDR", format!("http://{}", self.admin));
        command.output().expect("weft can be run")
    }

    /// Starts a `weft proxy`.
    pub async fn weft_proxy(&self, name: &str, metadata: &NodeMetadata) -> Proxy {
        self.start_proxy(name, metadata, true).await
    }

    /// Starts one that has the whole table of hosts, not only what its requests need.
    pub async fn weft_proxy_of_all_hosts(&self, name: &str, metadata: &NodeMetadata) -> Proxy {
        self.start_proxy(name, metadata, false).await
    }

    async fn start_proxy(&self, name: &str, metadata: &NodeMetadata, on_demand: bool) -> Proxy {
        let [admin] = free_ports();
        let file = self.dir.path().join(format!("{name}.yaml"));
        let data = self.dir.path().join(name);
        let settings = proxy_settings(name, metadata, on_demand, [self.ads, admin], &data);
        std::fs::write(&file, settings).expect("the settings can be written");
        let mut proxy =
            Proxy { file: Some(file), admin, program: None, dir: self.dir.clone(), name: name.into() };
        proxy.restart();
        proxy.ready().await;
        proxy
    }

    /// Starts a `weft proxy` on a host, which leads it to the control plane.
    pub fn weft_proxy_on(&self, host: &mut Host, name: &str, metadata: &NodeMetadata) -> Program {
        host.relay(self.ads);
        let file = self.dir.path().join(format!("{name}.yaml"));
        let data = self.dir.path().join(name);
        std::fs::write(&file, proxy_settings(name, metadata, true, [self.ads, HOST_ADMIN], &data))
            .expect("the settings can be written");
        let mut command = Command::new(weft());
        command.args(["proxy", "--config"]).arg(file);
        Program::start(name, self.dir.path(), &mut host.proxy(&command))
    }

    /// Starts an Envoy on a host, which leads it to the control plane.
    pub fn envoy_on(&self, host: &mut Host, name: &str, metadata: &NodeMetadata) -> Program {
        host.relay(self.ads);
        let bootstrap = envoy::bootstrap(name, metadata, self.ads, HOST_ADMIN);
        let command = envoy::command(name, self.dir.path(), &bootstrap);
        Program::start(name, self.dir.path(), &mut host.proxy(&command))
    }

    /// Starts an Envoy.
    pub async fn envoy(&self, name: &str, metadata: &NodeMetadata) -> Proxy {
        let [admin] = free_ports();
        let bootstrap = envoy::bootstrap(name, metadata, self.ads, admin);
        let program = envoy::start(name, self.dir.path(), &bootstrap);
        let proxy =
            Proxy { file: None, admin, program: Some(program), dir: self.dir.clone(), name: name.into() };
        proxy.ready().await;
        proxy
    }
}

/// A running proxy of either kind.
pub struct Proxy {
    /// Its admin port.
    pub admin: SocketAddr,
    file: Option<PathBuf>,
    program: Option<Program>,
    name: String,
    dir: Arc<TempDir>,
}

impl Proxy {
    /// The file of its output.
    pub fn output(&self) -> PathBuf {
        self.dir.path().join(format!("{}.log", self.name))
    }

    /// The process.
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("a proxy that was started has a process")
    }

    /// Starts a `weft proxy` again with the same settings and cache.
    pub fn restart(&mut self) {
        let file = self.file.as_ref().expect("only a weft proxy is restarted");
        let mut command = Command::new(weft());
        command.args(["proxy", "--config"]).arg(file);
        self.program = None;
        self.program = Some(Program::start(&self.name, self.dir.path(), &mut command));
    }

    /// Waits until a `weft proxy` has its configuration on disk.
    pub async fn saved(&self) {
        until(&format!("configuration of {} saved", self.name), START, async || {
            let (_, metrics) = http_get(self.admin, "/metrics").await?;
            if metrics.lines().any(|line| line == "weft_xds_unsaved 0") { Ok(()) } else { Err(metrics) }
        })
        .await;
    }

    /// Waits until `/ready` says yes.
    pub async fn ready(&self) {
        until(&format!("{} ready", self.name), START, async || {
            let (status, body) = http_get(self.admin, "/ready").await?;
            if status == 200 { Ok(()) } else { Err(format!("{status}: {body}")) }
        })
        .await;
    }
}

/// Gets a page of an admin port.
pub async fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    use crate::client::{Connection, Protocol, empty, get};
    let mut connection = Connection::open(address, Protocol::H1).await.map_err(|error| error.to_string())?;
    let request = get(Protocol::H1, &address.to_string(), path).body(empty()).expect("a fixed path is valid");
    let answer = connection.send(request).await.map_err(|error| error.to_string())?;
    Ok((answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned()))
}

fn settings_file(dir: &Path) -> PathBuf {
    dir.join("control.yaml")
}

fn control(dir: &Path, ads: SocketAddr, admin: SocketAddr) -> Program {
    let mut command = Command::new(weft());
    command.arg("control").arg("--config").arg(settings_file(dir));
    command.arg("--insecure-loopback").arg("--data-dir").arg(dir.join("control"));
    command.arg("--xds-bind").arg(ads.to_string()).arg("--admin-bind").arg(admin.to_string());
    Program::start("control", dir, &mut command)
}

fn proxy_settings(
    name: &str,
    metadata: &NodeMetadata,
    on_demand: bool,
    [control, admin]: [SocketAddr; 2],
    data: &Path,
) -> String {
    let upstreams: Vec<_> = metadata
        .upstreams
        .iter()
        .map(|u| json!({"bind": u.bind.to_string(), "service": u.service, "port": u.port}))
        .collect();
    let inbound: Vec<_> = metadata
        .inbound
        .iter()
        .map(|i| {
            let mut port =
                json!({"service": i.service, "port": i.port, "protocol": i.protocol, "workload": i.workload});
            port["app"] = i.app.to_string().into();
            port["bind"] = json!(i.bind.as_ref().map(ToString::to_string));
            port
        })
        .collect();
    let workload = |one: &LocalWorkload| json!({"name": one.name, "labels": one.labels});
    let workloads: Vec<_> = metadata.workloads.iter().map(workload).collect();
    let settings = json!({
        "node": name,
        "control": [format!("http://{control}")],
        "role": match metadata.role {
            Role::Sidecar => "sidecar",
            Role::Gateway => "gateway",
        },
        "gateway_bind": metadata.gateway_bind,
        "gateway_ports": metadata.gateway_ports,
        "namespace": metadata.namespace,
        "workload": metadata.workload,
        "version": metadata.version,
        "labels": metadata.labels,
        "workloads": workloads,
        "upstreams": upstreams,
        "inbound": inbound,
        "outbound_http": metadata.outbound_http,
        "on_demand": on_demand,
        "locality": metadata.locality.join("/"),
        "outbound_capture": metadata.outbound_capture,
        "inbound_capture": metadata.inbound_capture,
        "dns": metadata.extensions.iter().any(|name| name == HOST_NAMES).then_some(DNS),
        "admin": admin,
        "data_dir": data,
        "workers": 1,
    });
    serde_json::to_string_pretty(&settings).expect("plain values serialise")
}
