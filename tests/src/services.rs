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
            "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
             ports: [{{number: {port}, name: {protocol}, protocol: {protocol}}}]\n  endpoints:"
        );
        yaml.push_str(if service.endpoints.is_empty() { " []\n" } else { "\n" });
        for (version, address) in &service.endpoints {
            let (ip, at) = (address.ip(), address.port());
            let _ = writeln!(
                yaml,
                "  - {{address: {ip}, ports: {{{protocol}: {at}}}, labels: {{version: {version}}}}}"
            );
        }
    }
    yaml
}
