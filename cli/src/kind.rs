//! The kinds that `get` and `delete` know, and the names that people type for them.

use std::fmt;

use clap::ValueEnum;

/// Everything that can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Documents of every kind.
    #[value(aliases = ["document", "docs", "all"])]
    Documents,
    /// VirtualService documents.
    #[value(aliases = ["virtualservice", "vs"])]
    Virtualservices,
    /// DestinationRule documents.
    #[value(aliases = ["destinationrule", "dr"])]
    Destinationrules,
    /// ServiceEntry documents.
    #[value(aliases = ["serviceentry", "se"])]
    Serviceentries,
    /// Gateway documents of Istio.
    #[value(aliases = ["gateway", "gw", "gateways.networking.istio.io", "gateway.networking.istio.io"])]
    Gateways,
    /// WorkloadEntry documents.
    #[value(aliases = ["workloadentry", "we"])]
    Workloadentries,
    /// WorkloadGroup documents.
    #[value(aliases = ["workloadgroup", "wg"])]
    Workloadgroups,
    /// EndpointPolicy documents.
    #[value(aliases = ["endpointpolicy", "epp"])]
    Endpointpolicies,
    /// HealthCheckPolicy documents.
    #[value(aliases = ["healthcheckpolicy", "hcp"])]
    Healthcheckpolicies,
    /// PeerAuthentication documents.
    #[value(aliases = ["peerauthentication", "pa"])]
    Peerauthentications,
    /// Sidecar documents.
    #[value(aliases = ["sidecar"])]
    Sidecars,
    /// Telemetry documents.
    #[value(aliases = ["telemetry"])]
    Telemetries,
    /// AuthorizationPolicy documents.
    #[value(aliases = ["authorizationpolicy", "ap"])]
    Authorizationpolicies,
    /// RequestAuthentication documents.
    #[value(aliases = ["requestauthentication", "ra"])]
    Requestauthentications,
    /// RateLimitPolicy documents.
    #[value(aliases = ["ratelimitpolicy", "rlp"])]
    Ratelimitpolicies,
    /// Gateway documents of the Gateway API.
    #[value(
        name = "gateways.gateway.networking.k8s.io",
        aliases = ["gateway.gateway.networking.k8s.io", "gtw"]
    )]
    EdgeGateways,
    /// GatewayClass documents.
    #[value(aliases = ["gatewayclass", "gc"])]
    Gatewayclasses,
    /// HTTPRoute documents.
    #[value(aliases = ["httproute"])]
    Httproutes,
    /// GRPCRoute documents.
    #[value(aliases = ["grpcroute"])]
    Grpcroutes,
    /// TLSRoute documents.
    #[value(aliases = ["tlsroute"])]
    Tlsroutes,
    /// TCPRoute documents.
    #[value(aliases = ["tcproute"])]
    Tcproutes,
    /// ReferenceGrant documents.
    #[value(aliases = ["referencegrant", "refgrant"])]
    Referencegrants,
    /// Namespace documents, for their labels.
    #[value(aliases = ["namespace", "ns"])]
    Namespaces,
    /// ConfigMap documents.
    #[value(aliases = ["configmap", "cm"])]
    Configmaps,
    /// Secret documents, without their values.
    #[value(aliases = ["secret"])]
    Secrets,
    /// Services of the registry, merged over all sources.
    #[value(aliases = ["service", "svc"])]
    Services,
    /// Addresses that serve the services.
    #[value(aliases = ["endpoint", "ep"])]
    Endpoints,
    /// Proxies that are connected.
    #[value(aliases = ["proxy", "px"])]
    Proxies,
    /// Sources that feed the registry.
    #[value(aliases = ["source"])]
    Sources,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Kind {
    /// Name of the document kind as the admin API spells it; empty is every kind, `None` is no document at all.
    pub fn document(self) -> Option<&'static str> {
        match self {
            Kind::Documents => Some(""),
            Kind::Virtualservices => Some("VirtualService"),
            Kind::Destinationrules => Some("DestinationRule"),
            Kind::Serviceentries => Some("ServiceEntry"),
            Kind::Gateways => Some("Gateway"),
            Kind::Workloadentries => Some("WorkloadEntry"),
            Kind::Workloadgroups => Some("WorkloadGroup"),
            Kind::Endpointpolicies => Some("EndpointPolicy"),
            Kind::Healthcheckpolicies => Some("HealthCheckPolicy"),
            Kind::Peerauthentications => Some("PeerAuthentication"),
            Kind::Sidecars => Some("Sidecar"),
            Kind::Telemetries => Some("Telemetry"),
            Kind::Authorizationpolicies => Some("AuthorizationPolicy"),
            Kind::Requestauthentications => Some("RequestAuthentication"),
            Kind::Ratelimitpolicies => Some("RateLimitPolicy"),
            Kind::EdgeGateways => Some("Gateway.gateway.networking.k8s.io"),
            Kind::Gatewayclasses => Some("GatewayClass"),
            Kind::Httproutes => Some("HTTPRoute"),
            Kind::Grpcroutes => Some("GRPCRoute"),
            Kind::Tlsroutes => Some("TLSRoute"),
            Kind::Tcproutes => Some("TCPRoute"),
            Kind::Referencegrants => Some("ReferenceGrant"),
            Kind::Namespaces => Some("Namespace"),
            Kind::Configmaps => Some("ConfigMap"),
            Kind::Secrets => Some("Secret"),
            Kind::Services | Kind::Endpoints | Kind::Proxies | Kind::Sources => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, expected: Kind) {
        assert_eq!(Kind::from_str(typed, true), Ok(expected), "{typed}");
    }

    #[test]
    fn the_two_kinds_of_gateways_are_told_apart_by_their_groups() {
        check("gateways", Kind::Gateways);
        check("gateway.networking.istio.io", Kind::Gateways);
        check("Gateway.gateway.networking.k8s.io", Kind::EdgeGateways);
        check("gtw", Kind::EdgeGateways);
        assert_eq!(Kind::EdgeGateways.to_string(), "gateways.gateway.networking.k8s.io");
        assert_eq!(Kind::Httproutes.to_string(), "httproutes");
    }

    #[test]
    fn a_kind_may_be_typed_short_singular_or_as_in_yaml() {
        check("vs", Kind::Virtualservices);
        check("VirtualService", Kind::Virtualservices);
        check("virtualservices", Kind::Virtualservices);
        check("dr", Kind::Destinationrules);
        check("gw", Kind::Gateways);
        check("Gateway", Kind::Gateways);
        check("svc", Kind::Services);
        check("ep", Kind::Endpoints);
        check("proxy", Kind::Proxies);
        check("source", Kind::Sources);
        assert!(Kind::from_str("pods", true).is_err());
    }
}
