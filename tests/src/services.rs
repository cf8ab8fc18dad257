//! Services as the file adapter reads them.

use std::{fmt::Write, net::SocketAddr};

/// A service with its endpoints.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Name, in namespace `default`.
    pub name: String,
    /// `http`, `http2`, `grpc` or `tcp`.
    pub protocol: &'static str,
    /// Version label and address of each endpoint.
    pub endpoints: Vec<(String, SocketAddr)>,
}

/// The YAML of these services. HTTP services have port 80, TCP services 9000.
pub fn files_yaml(services: &[Registered]) -> String {
    let mut yaml = String::new();
    for service in services {
        let port = if service.protocol == "tcp" { 9000 } else { 80 };
        let (name, protocol) = (&service.name, service.protocol);
        let _ = write!(
            yaml,
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
             hosts: [{name}.default.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: {port}, name: {protocol}, protocol: {}}}]\n  endpoints:",
            protocol.to_uppercase()
        );
        yaml.push_str(if service.endpoints.is_empty() { " []\n" } else { "\n" });
        for (version, address) in &service.endpoints {
            let _ = writeln!(
                yaml,
                "  - {{address: {}, ports: {{{protocol}: {}}}, labels: {{version: {version}}}}}",
                address.ip(),
                address.port()
            );
        }
    }
    yaml
}
