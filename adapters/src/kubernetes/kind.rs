//! The kinds of objects that are read, and where each is found.

/// What an object means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Meaning {
    /// A service.
    Service,
    /// Endpoints of a service.
    Slice,
    /// Where a node is.
    Node,
    /// Labels and account of an endpoint.
    Pod,
    /// A document of this kind.
    Document(&'static str),
}

/// One kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Group and version; `v1` is Kubernetes' own.
    pub(super) api: &'static str,
    /// As addresses name it.
    pub(super) plural: &'static str,
    /// Whether its objects belong to a namespace.
    pub(super) namespaced: bool,
    /// What it means.
    pub(super) meaning: Meaning,
}

impl Kind {
    /// Whether nothing can be told without it. The others may be missing, or not be readable.
    pub(super) fn is_needed(&self) -> bool {
        matches!(self.meaning, Meaning::Service | Meaning::Slice)
    }
}

const fn kind(api: &'static str, plural: &'static str, namespaced: bool, meaning: Meaning) -> Kind {
    Kind { api, plural, namespaced, meaning }
}

const fn istio(plural: &'static str, name: &'static str) -> Kind {
    kind("networking.istio.io/v1", plural, true, Meaning::Document(name))
}

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// Every kind. Those that a cluster does not have cost one question now and then.
pub(super) const KINDS: [Kind; 17] = [
    kind("v1", "services", true, Meaning::Service),
    kind("discovery.k8s.io/v1", "endpointslices", true, Meaning::Slice),
    kind("v1", "nodes", false, Meaning::Node),
    kind("v1", "pods", true, Meaning::Pod),
    istio("virtualservices", "VirtualService"),
    istio("destinationrules", "DestinationRule"),
    istio("serviceentries", "ServiceEntry"),
    istio("workloadentries", "WorkloadEntry"),
    istio("workloadgroups", "WorkloadGroup"),
    istio("gateways", "Gateway"),
    istio("sidecars", "Sidecar"),
    kind(GATEWAY_API, "gatewayclasses", false, Meaning::Document("GatewayClass")),
    kind(GATEWAY_API, "gateways", true, Meaning::Document("Gateway")),
    kind(GATEWAY_API, "httproutes", true, Meaning::Document("HTTPRoute")),
    kind(GATEWAY_API, "grpcroutes", true, Meaning::Document("GRPCRoute")),
    kind("gateway.networking.k8s.io/v1beta1", "referencegrants", true, Meaning::Document("ReferenceGrant")),
    kind("weft.dev/v1", "healthcheckpolicies", true, Meaning::Document("HealthCheckPolicy")),
];
