//! The kinds of documents: how they are written, how keys name them, and who reads them.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    DocumentSpec, authorization, config_map, destination_rule, endpoint_policy, gateway, gateway_api,
    health_check, peer_authentication,
    problem::Report,
    rate_limit,
    reader::{At, Located, Object, nearest},
    request_authentication, secret, service_entry, sidecar, telemetry, virtual_service, workload_group,
};

/// One kind.
pub(super) struct Kind {
    /// API group.
    group: &'static str,
    /// As documents write it.
    name: &'static str,
    /// As keys name it: with its group where another group has a kind of the same name
    /// (`weft_proto::document::kind_in_keys`).
    pub(super) key: &'static str,
    /// Whether its documents belong to a namespace.
    pub(super) namespaced: bool,
    /// What its meaning is read from.
    pub(super) read: Read,
}

/// What the meaning of a document is read from.
pub(super) enum Read {
    /// Its `spec`.
    Spec(fn(&At<'_>, &mut Report) -> Option<DocumentSpec>),
    /// What is beside `metadata`.
    Fields(fn(&mut Object<'_>, &mut Report) -> Option<DocumentSpec>),
    /// Its `spec` and annotations.
    Annotated(AnnotatedRead),
    /// Its labels.
    Labels(fn(&BTreeMap<Arc<str>, Arc<str>>) -> DocumentSpec),
}

/// Reads a `spec` with the annotations that stand beside it.
type AnnotatedRead = fn(&At<'_>, &BTreeMap<Arc<str>, Located>, &mut Report) -> Option<DocumentSpec>;

impl Kind {
    /// A kind whose key is its name and whose documents belong to namespaces.
    const fn plain(
        group: &'static str,
        name: &'static str,
        read: fn(&At<'_>, &mut Report) -> Option<DocumentSpec>,
    ) -> Self {
        Self { group, name, key: name, namespaced: true, read: Read::Spec(read) }
    }
}

/// A group, and the versions in which its kinds are written; they all mean the same.
type Group = (&'static str, &'static [&'static str]);

const ISTIO_NETWORKING: &str = "networking.istio.io";

const ISTIO_SECURITY: &str = "security.istio.io";

const ISTIO_TELEMETRY: &str = "telemetry.istio.io";

/// Kubernetes' own.
const CORE: &str = "";

/// Our own.
const WEFT: &str = "weft.dev";

const GROUPS: [Group; 6] = [
    (ISTIO_NETWORKING, &["v1", "v1beta1", "v1alpha3"]),
    (ISTIO_SECURITY, &["v1", "v1beta1"]),
    (ISTIO_TELEMETRY, &["v1", "v1alpha1"]),
    (gateway_api::GROUP, &["v1", "v1beta1", "v1alpha3", "v1alpha2"]),
    (CORE, &["v1"]),
    (WEFT, &["v1"]),
];

const KINDS: [Kind; 24] = [
    Kind::plain(ISTIO_NETWORKING, "VirtualService", |at, report| {
        virtual_service::read(at, report).map(DocumentSpec::VirtualService)
    }),
    Kind::plain(ISTIO_NETWORKING, "DestinationRule", |at, report| {
        destination_rule::read(at, report).map(Box::new).map(DocumentSpec::DestinationRule)
    }),
    Kind::plain(ISTIO_NETWORKING, "ServiceEntry", |at, report| {
        service_entry::read(at, report).map(DocumentSpec::ServiceEntry)
    }),
    Kind::plain(ISTIO_NETWORKING, "WorkloadEntry", |at, report| {
        workload_group::read_entry(at, report).map(DocumentSpec::WorkloadEntry)
    }),
    Kind::plain(ISTIO_NETWORKING, "WorkloadGroup", |at, report| {
        workload_group::read_group(at, report).map(DocumentSpec::WorkloadGroup)
    }),
    Kind::plain(ISTIO_NETWORKING, "Sidecar", |at, report| {
        sidecar::read(at, report).map(DocumentSpec::Sidecar)
    }),
    Kind::plain(ISTIO_NETWORKING, "Gateway", |at, report| {
        gateway::read(at, report).map(DocumentSpec::Gateway)
    }),
    Kind::plain(ISTIO_SECURITY, "PeerAuthentication", |at, report| {
        peer_authentication::read(at, report).map(DocumentSpec::PeerAuthentication)
    }),
    Kind::plain(ISTIO_SECURITY, "RequestAuthentication", |at, report| {
        request_authentication::read(at, report).map(DocumentSpec::RequestAuthentication)
    }),
    Kind {
        group: ISTIO_SECURITY,
        name: "AuthorizationPolicy",
        key: "AuthorizationPolicy",
        namespaced: true,
        read: Read::Annotated(|at, annotations, report| {
            authorization::read(at, annotations, report).map(DocumentSpec::AuthorizationPolicy)
        }),
    },
    Kind::plain(ISTIO_TELEMETRY, "Telemetry", |at, report| {
        telemetry::read(at, report).map(DocumentSpec::Telemetry)
    }),
    Kind {
        namespaced: false,
        ..Kind::plain(gateway_api::GROUP, "GatewayClass", |at, report| {
            gateway_api::gateway::read_class(at, report).map(DocumentSpec::GatewayClass)
        })
    },
    Kind {
        key: gateway_api::GATEWAY_KEY,
        ..Kind::plain(gateway_api::GROUP, "Gateway", |at, report| {
            gateway_api::gateway::read(at, report).map(DocumentSpec::EdgeGateway)
        })
    },
    Kind::plain(gateway_api::GROUP, "HTTPRoute", |at, report| {
        gateway_api::http_route::read(at, report).map(Box::new).map(DocumentSpec::Route)
    }),
    Kind::plain(gateway_api::GROUP, "GRPCRoute", |at, report| {
        gateway_api::grpc_route::read(at, report).map(Box::new).map(DocumentSpec::Route)
    }),
    Kind::plain(gateway_api::GROUP, "TLSRoute", |at, report| {
        gateway_api::stream_route::read_tls(at, report).map(Box::new).map(DocumentSpec::Route)
    }),
    Kind::plain(gateway_api::GROUP, "TCPRoute", |at, report| {
        gateway_api::stream_route::read_tcp(at, report).map(Box::new).map(DocumentSpec::Route)
    }),
    Kind::plain(gateway_api::GROUP, "ReferenceGrant", |at, report| {
        gateway_api::grant::read(at, report).map(DocumentSpec::ReferenceGrant)
    }),
    Kind {
        group: CORE,
        name: "Namespace",
        key: "Namespace",
        namespaced: false,
        read: Read::Labels(|labels| {
            DocumentSpec::Namespace(gateway_api::Namespace { labels: labels.clone() })
        }),
    },
    Kind {
        group: CORE,
        name: "Secret",
        key: secret::KIND,
        namespaced: true,
        read: Read::Fields(|object, report| secret::read(object, report).map(DocumentSpec::Secret)),
    },
    Kind {
        group: CORE,
        name: "ConfigMap",
        key: config_map::KIND,
        namespaced: true,
        read: Read::Fields(|object, report| config_map::read(object, report).map(DocumentSpec::ConfigMap)),
    },
    Kind::plain(WEFT, "EndpointPolicy", |at, report| {
        endpoint_policy::read(at, report).map(DocumentSpec::EndpointPolicy)
    }),
    Kind::plain(WEFT, "HealthCheckPolicy", |at, report| {
        health_check::read(at, report).map(DocumentSpec::HealthCheckPolicy)
    }),
    Kind::plain(WEFT, "RateLimitPolicy", |at, report| {
        rate_limit::read(at, report).map(DocumentSpec::RateLimitPolicy)
    }),
];

/// The kind that a document says it is.
pub(super) fn find(api_version: &Located, kind: &Located, report: &mut Report) -> Option<&'static Kind> {
    let (group, version) = api_version.text.split_once('/').unwrap_or((CORE, &api_version.text));
    let unknown = |report: &mut Report| {
        let message = format!("kind {} {} is not supported", api_version.text, kind.text);
        report.error(kind.place, "kind", message, format!("{} are", all()));
    };
    let Some((_, versions)) = GROUPS.iter().find(|(known, _)| *known == group) else {
        unknown(report);
        return None;
    };
    if !versions.contains(&version) {
        let message = format!("version {version:?} is not known");
        report.error(api_version.place, "apiVersion", message, format!("known are {}", versions.join(", ")));
        return None;
    }
    let found = KINDS.iter().find(|known| known.group == group && known.name == &*kind.text);
    match found {
        // Kubernetes has many kinds, and this one is hardly a slip of the pen.
        None if group == CORE => unknown(report),
        None => {
            let hint = nearest(&kind.text, &names(group));
            report.error(kind.place, "kind", format!("kind {} is not supported", kind.text), hint);
        }
        Some(_) => {}
    }
    found
}

/// Every kind, group by group.
fn all() -> String {
    let group = |(group, _): &Group| {
        let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
        format!("{version} {}", names(group).join(", "))
    };
    GROUPS.iter().map(group).collect::<Vec<_>>().join("; ")
}

fn names(group: &str) -> Vec<&'static str> {
    KINDS.iter().filter(|kind| kind.group == group).map(|kind| kind.name).collect()
}
