//! What the demo runs: every process with its arguments, and the facts that the files adapter reads. Pure.
//!
//! ```text
//! you -> ingress -> web -> api v1 | api v2 -> db
//! ```
//! Every arrow passes the caller's proxy and the called one's.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

/// One worker a proxy: five proxies share this machine.
const WORKERS: &str = "--workers=1";

/// One process of the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name: that of its log file, and of its proxy.
    pub name: String,
    /// Arguments of the weft program.
    pub arguments: Vec<String>,
}

/// Where a workload and its proxy listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Workload {
    name: &'static str,
    version: &'static str,
    /// What is spoken to it.
    protocol: &'static str,
    /// The port that clients of its service use.
    service_port: u16,
    /// The service that it calls through its proxy, with its port.
    calls: Option<(&'static str, u16)>,
    app: u16,
    inbound: u16,
    outbound: u16,
    admin: u16,
}

/// Every port of the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    control_xds: u16,
    control_admin: u16,
    ingress: u16,
    ingress_admin: u16,
    workloads: [Workload; 4],
}

impl Plan {
    /// How many ports a plan takes.
    pub const PORTS: usize = 20;

    /// Hands out the ports.
    pub fn new(ports: [u16; Self::PORTS]) -> Self {
        let [control_xds, control_admin, ingress, ingress_admin, rest @ ..] = ports;
        let workload = |index: usize, name, version, protocol, service_port, calls| Workload {
            name,
            version,
            protocol,
            service_port,
            calls,
            app: rest[index * 4],
            inbound: rest[index * 4 + 1],
            outbound: rest[index * 4 + 2],
            admin: rest[index * 4 + 3],
        };
        let db = Some(("db", 5432));
        let workloads = [
            workload(0, "db", "v1", "tcp", 5432, None),
            workload(1, "api", "v1", "http", 80, db),
            workload(2, "api", "v2", "http", 80, db),
            workload(3, "web", "v1", "http", 80, Some(("api", 80))),
        ];
        Self { control_xds, control_admin, ingress, ingress_admin, workloads }
    }

    /// Where the mesh is entered.
    pub fn ingress(&self) -> SocketAddr {
        local(self.ingress)
    }

    /// Where the control plane serves people.
    pub fn admin_url(&self) -> String {
        format!("http://{}", local(self.control_admin))
    }

    /// Where the ingress proxy tells about itself.
    pub fn ingress_admin_url(&self) -> String {
        format!("http://{}", local(self.ingress_admin))
    }

    /// How many proxies run.
    pub fn proxies(&self) -> usize {
        self.workloads.len() + 1
    }

    /// The control plane.
    pub fn control(&self, directory: &Path) -> Part {
        part(
            "control",
            [
                "control".to_owned(),
                "--insecure-loopback".to_owned(),
                format!("--xds-bind={}", local(self.control_xds)),
                format!("--admin-bind={}", local(self.control_admin)),
                format!("--data-dir={}", directory.join("control").display()),
            ],
        )
    }

    /// Everything else, in the order to start it.
    pub fn parts(&self, directory: &Path) -> Vec<Part> {
        let control = format!("--control=http://{}", local(self.control_xds));
        let mut parts = vec![part(
            "adapter",
            [
                "adapter".to_owned(),
                "files".to_owned(),
                control.clone(),
                format!("--dir={}", directory.join("facts").display()),
                "--name=files/demo".to_owned(),
            ],
        )];
        for workload in &self.workloads {
            parts.push(workload.application());
            parts.push(workload.proxy(&control, directory));
        }
        parts.push(part(
            "ingress",
            [
                "proxy".to_owned(),
                control,
                "--id=ingress".to_owned(),
                "--gateway".to_owned(),
                WORKERS.to_owned(),
                "--label=istio=ingressgateway".to_owned(),
                "--bind=127.0.0.1".to_owned(),
                format!("--port=80={}", self.ingress),
                format!("--admin-bind={}", local(self.ingress_admin)),
                format!("--data-dir={}", directory.join("ingress").display()),
            ],
        ));
        parts
    }

    /// What the files adapter reads: services, and their endpoints at the proxies' inbound ports.
    pub fn facts(&self) -> String {
        let mut text = String::new();
        for name in ["db", "api", "web"] {
            let of_service: Vec<&Workload> = self.workloads.iter().filter(|one| one.name == name).collect();
            let Some(first) = of_service.first() else { continue };
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n    \
                 - name: {protocol}\n      number: {port}\n      protocol: {protocol}\n  endpoints:\n",
                protocol = first.protocol,
                port = first.service_port,
            );
            for workload in of_service {
                let _ = write!(
                    text,
                    "    - id: {name}-{version}\n      address: 127.0.0.1\n      ports: {{{protocol}: {inbound}}}\n      \
                     labels: {{version: {version}}}\n      workload: {name}-{version}\n",
                    version = workload.version,
                    protocol = workload.protocol,
                    inbound = workload.inbound,
                );
            }
        }
        text
    }
}

impl Workload {
    fn title(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    fn application(&self) -> Part {
        let mut arguments = vec![
            "demo-service".to_owned(),
            format!("--name={}", self.name),
            format!("--app-version={}", self.version),
            format!("--listen={}", local(self.app)),
        ];
        match self.calls {
            None => arguments.push("--lines".to_owned()),
            Some(("db", _)) => arguments.push(format!("--database={}", local(self.outbound))),
            Some((host, _)) => {
                arguments.push(format!("--call={}", local(self.outbound)));
                arguments.push(format!("--call-host={host}"));
            }
        }
        part(&format!("{}-app", self.title()), arguments)
    }

    fn proxy(&self, control: &str, directory: &Path) -> Part {
        let mut arguments = vec![
            "proxy".to_owned(),
            control.to_owned(),
            format!("--id={}", self.title()),
            format!("--service={}", self.name),
            format!("--workload={}", self.title()),
            format!("--app-version={}", self.version),
            WORKERS.to_owned(),
            format!("--label=version={}", self.version),
            format!("--inbound={}={}/{}", local(self.inbound), local(self.app), self.protocol),
            format!("--admin-bind={}", local(self.admin)),
            format!("--data-dir={}", directory.join(self.title()).display()),
        ];
        if let Some((service, port)) = self.calls {
            arguments.push(format!("--upstream={}={service}:{port}", local(self.outbound)));
        }
        part(&self.title(), arguments)
    }
}

fn part(name: &str, arguments: impl IntoIterator<Item = String>) -> Part {
    Part { name: name.to_owned(), arguments: arguments.into_iter().collect() }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    fn plan() -> Plan {
        let mut ports = [0; Plan::PORTS];
        for (port, number) in ports.iter_mut().zip(1000..) {
            *port = number;
        }
        Plan::new(ports)
    }

    #[test]
    fn every_part_is_a_command_line_that_weft_takes() {
        let plan = plan();
        let directory = Path::new("/tmp/demo");
        for part in plan.parts(directory).into_iter().chain([plan.control(directory)]) {
            let line = std::iter::once("weft".to_owned()).chain(part.arguments.clone());
            if let Err(error) = Cli::try_parse_from(line) {
                panic!("{:?}: {error}", part.arguments);
            }
        }
    }

    #[test]
    fn every_workload_has_an_endpoint_at_its_proxy() {
        let facts = plan().facts();
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&facts).unwrap();
        let count = |at: usize| documents[at]["spec"]["endpoints"].as_array().unwrap().len();
        assert_eq!((documents.len(), count(0), count(1), count(2)), (3, 1, 2, 1));
        assert_eq!(documents[1]["spec"]["endpoints"][1]["ports"]["http"], 1013);
        assert_eq!(documents[1]["spec"]["endpoints"][1]["labels"]["version"], "v2");
    }
}
