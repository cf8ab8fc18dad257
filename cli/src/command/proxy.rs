//! `weft proxy`: runs a proxy, beside a workload or at the edge.

mod node;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use weft_dataplane::{app, settings::Settings};
use weft_proto::node::{Inbound, Role, Upstream};

use crate::{
    command::SETTINGS_HINT,
    failure::{Exit, Failure},
};

/// Options of `weft proxy`. A flag beats WEFT_*, which beats the file given by --config.
#[derive(Debug, clap::Args)]
pub struct ProxyArgs {
    /// File with settings (YAML)
    #[arg(long, env = "WEFT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control planes, tried in turn [env: WEFT_CONTROL] [default: http://127.0.0.1:15010]
    #[arg(long, value_name = "URL")]
    control: Vec<String>,
    /// Id of this proxy, unique in the mesh [default: WORKLOAD.NAMESPACE~HOST]
    #[arg(long)]
    id: Option<String>,
    /// Service that the workload serves
    #[arg(long)]
    service: Option<String>,
    /// Namespace of the workload [default: default]
    #[arg(long)]
    namespace: Option<String>,
    /// Name of the deployment or job [default: the service]
    #[arg(long)]
    workload: Option<String>,
    /// Version of the workload
    #[arg(long, value_name = "VERSION")]
    app_version: Option<String>,
    /// Label of the workload, e.g. version=v1
    #[arg(long, value_name = "KEY=VALUE", value_parser = node::label)]
    label: Vec<(String, String)>,
    /// Local port or socket that leads to a service, e.g. 127.0.0.1:9001=api:80 or unix:/run/api.sock=api
    #[arg(long, value_name = "ADDRESS=SERVICE[:PORT]", value_parser = node::upstream)]
    upstream: Vec<Upstream>,
    /// Port that the mesh reaches the workload by, e.g. 127.0.0.1:9002=127.0.0.1:8080/http; with --capture just
    /// 127.0.0.1:8080/http
    #[arg(long, value_name = "[ADDRESS=][SERVICE[:PORT]@]ADDRESS[/PROTOCOL]", value_parser = node::inbound)]
    inbound: Vec<Inbound>,
    /// Where HTTP is taken that is routed by its host
    #[arg(long, value_name = "ADDRESS")]
    outbound_http: Option<SocketAddr>,
    /// Take what `weft intercept` redirects: TCP at 15001 and 15006, DNS at 15053
    #[arg(long, conflicts_with = "gateway")]
    capture: bool,
    /// Serve the Gateway documents that select this proxy's labels
    #[arg(long)]
    gateway: bool,
    /// Address that gateway ports bind [default: 0.0.0.0]
    #[arg(long, value_name = "IP", requires = "gateway")]
    bind: Option<IpAddr>,
    /// Gateway port and the port really bound, e.g. 80=8080
    #[arg(long, value_name = "PORT=PORT", value_parser = node::gateway_port, requires = "gateway")]
    port: Vec<(u16, u16)>,
    /// Where the proxy is: region/zone/subzone
    #[arg(long)]
    locality: Option<String>,
    /// Where /ready, /metrics and the like are served [default: 127.0.0.1:15000]
    #[arg(long, value_name = "ADDRESS")]
    admin_bind: Option<SocketAddr>,
    /// Folder of the last good configuration; without it nothing is kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// File with the join token by which the proxy gets its identity, for the first time
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// Token of the platform in place of a join token: kubernetes:FILE, nomad:FILE or consul:FILE
    #[arg(long, value_name = "KIND:FILE")]
    proof: Option<String>,
    /// PEM file with the root by which the control plane is known [default: the hash in the join token]
    #[arg(long, value_name = "FILE")]
    control_ca_file: Option<PathBuf>,
    /// Unix socket on which applications learn who they are (SPIFFE Workload API)
    #[arg(long, value_name = "PATH")]
    workload_socket: Option<PathBuf>,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// How long connections are still taken on at shutdown, with /ready failing [default: 0s]
    #[arg(long, value_name = "TIME")]
    drain_grace: Option<String>,
    /// How long open requests may take to finish at shutdown [default: 30s]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<String>,
}

/// Runs the proxy until SIGTERM, Ctrl-C or a drain asked for over its admin address, and drains it.
pub fn run(args: ProxyArgs) -> Result<Exit, Failure> {
    app::run(args.settings()?).map(|()| Exit::Yes).map_err(|error| {
        Failure::new(
            Exit::No,
            "the proxy cannot start",
            error.to_string(),
            "free what it needs, or choose others; see `weft proxy --help`",
        )
    })
}

impl ProxyArgs {
    fn settings(self) -> Result<Settings, Failure> {
        let path = |path: Option<PathBuf>| path.map(|path| path.to_string_lossy().into_owned());
        let texts = [
            ("join_token_file", path(self.join_token_file)),
            ("proof", self.proof),
            ("control_ca_file", path(self.control_ca_file)),
            ("workload_socket", path(self.workload_socket)),
            ("data_dir", path(self.data_dir)),
            ("control", (!self.control.is_empty()).then(|| self.control.join(","))),
            ("node", self.id),
            ("namespace", self.namespace),
            ("workload", self.workload.or_else(|| self.service.clone())),
            ("version", self.app_version),
            ("capture", self.capture.then(|| "true".to_owned())),
            ("role", self.gateway.then(|| "gateway".to_owned())),
            ("locality", self.locality),
            ("workers", self.workers.map(|workers| workers.to_string())),
            ("drain_grace", self.drain_grace),
            ("drain_timeout", self.drain_timeout),
        ];
        let flags: Vec<(String, String)> =
            texts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let mut settings = Settings::load(self.config.as_deref(), &flags).map_err(unusable)?;
        let metadata = &mut settings.metadata;
        metadata.labels.extend(self.label);
        metadata.gateway_ports.extend(self.port);
        if !self.upstream.is_empty() {
            metadata.upstreams = self.upstream;
        }
        if !self.inbound.is_empty() {
            metadata.inbound = named(self.inbound, self.service.as_deref())?;
        }
        metadata.outbound_http = self.outbound_http.or(metadata.outbound_http);
        metadata.gateway_bind = self.bind.or(metadata.gateway_bind);
        settings.admin = self.admin_bind.unwrap_or(settings.admin);
        debug_assert!(!self.gateway || settings.metadata.role == Role::Gateway, "the flag sets the role");
        Ok(settings)
    }
}

/// Inbound ports without a service belong to the workload's own.
fn named(inbound: Vec<Inbound>, service: Option<&str>) -> Result<Vec<Inbound>, Failure> {
    let own = |mut port: Inbound| {
        if port.service.is_empty() {
            port.service = service.map(str::to_owned).ok_or_else(|| {
                unusable(format!(
                    "--inbound {}: it is not said which service it serves; add --service NAME",
                    port.app
                ))
            })?;
        }
        Ok(port)
    };
    inbound.into_iter().map(own).collect()
}

fn unusable(why: impl std::fmt::Display) -> Failure {
    Failure::usage("cannot use the settings of the proxy", why.to_string(), SETTINGS_HINT)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ProxyArgs,
    }

    fn settings(line: &str) -> Result<Settings, Failure> {
        Line::try_parse_from(line.split_whitespace()).unwrap().args.settings()
    }

    #[test]
    fn flags_become_node_metadata() {
        let found = settings(
            "x --service web --label version=v1 --upstream 127.0.0.1:9001=api:80 \
             --inbound 127.0.0.1:9002=127.0.0.1:8080/http --workers 1 --admin-bind 127.0.0.1:9003",
        )
        .unwrap();
        assert_eq!(found.metadata.workload, "web");
        assert_eq!(found.metadata.inbound[0].service, "web");
        assert_eq!(found.metadata.upstreams[0].service, "api");
        assert_eq!(found.metadata.labels["version"], "v1");
        assert_eq!((found.workers, found.admin.port()), (1, 9003));
    }

    #[test]
    fn a_gateway_maps_its_ports() {
        let found = settings("x --gateway --bind 127.0.0.1 --port 80=8080 --id edge").unwrap();
        assert_eq!(found.metadata.role, Role::Gateway);
        assert_eq!(found.metadata.gateway_ports[&80], 8080);
        assert_eq!(found.node_id, "edge");
    }

    #[test]
    fn an_inbound_port_needs_a_service() {
        let failure = settings("x --inbound 127.0.0.1:9002=127.0.0.1:8080/http").unwrap_err();
        assert!(failure.why.contains("--service"), "{}", failure.why);
    }
}
