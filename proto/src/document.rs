//! The contract of documents' names: what adapters, the control plane and people call a document of which kind.

/// The kind of a document in its key: the kind as written, with its group where Istio has a kind of the same name, as
/// `kubectl` writes it (`Gateway.gateway.networking.k8s.io`).
pub fn kind_in_keys(api_version: &str, kind: &str) -> String {
    match (api_version.split_once('/'), kind) {
        (Some((group @ GATEWAY_API, _)), "Gateway") => format!("{kind}.{group}"),
        _ => kind.to_owned(),
    }
}

/// Group of the Gateway API.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_gateways_have_two_names() {
        for (api_version, kind, expected) in [
            ("networking.istio.io/v1", "Gateway", "Gateway"),
            ("gateway.networking.k8s.io/v1", "Gateway", "Gateway.gateway.networking.k8s.io"),
            ("gateway.networking.k8s.io/v1", "HTTPRoute", "HTTPRoute"),
            ("v1", "Namespace", "Namespace"),
        ] {
            assert_eq!(kind_in_keys(api_version, kind), expected, "{api_version} {kind}");
        }
    }
}
