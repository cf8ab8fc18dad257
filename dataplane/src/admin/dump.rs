//! The running configuration as JSON, for people. It holds no secrets.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use serde_json::{Map, Value, json};

use crate::{
    cluster::{dns, vital::Vitals},
    spec::{
        Chain, Cluster, Discovery, EndpointSet, ListenAddress, Listener, ListenerProtocol, RouteAction,
        RouteConfig, RouteSource, Spec, WeightedCluster,
    },
    worker::Shared,
};

/// Everything by name.
pub(super) fn config(spec: &Spec) -> Value {
    let listeners: Map<_, _> =
        spec.listeners.iter().map(|(name, of)| (name.to_string(), listener(of))).collect();
    let routes: Map<_, _> = spec.routes.iter().map(|(name, of)| (name.to_string(), routes(of))).collect();
    let clusters: Map<_, _> =
        spec.clusters.iter().map(|(name, of)| (name.to_string(), cluster(of))).collect();
    let endpoints: Map<_, _> =
        spec.endpoints.iter().map(|(name, of)| (name.to_string(), endpoints(of, None))).collect();
    json!({ "listeners": listeners, "routes": routes, "clusters": clusters, "endpoints": endpoints })
}

/// Clusters with their endpoints and what is under way.
pub(super) fn clusters(shared: &Shared) -> Value {
    let spec = shared.spec.borrow().clone();
    let show = |of: &Cluster| {
        let answers = shared.answers.borrow();
        let set = match &of.discovery {
            Discovery::Dns { endpoints, .. } => dns::endpoints(&spec, &answers, of).or(Some(endpoints)),
            Discovery::Eds(_) | Discovery::Static(_) | Discovery::OriginalDestination => {
                dns::endpoints(&spec, &answers, of)
            }
        };
        let counters = shared.counters(&of.name);
        let watched = |set: &Arc<EndpointSet>| endpoints(set, Some(&counters.vitals));
        json!({
            "connections": counters.connections.load(Relaxed),
            "requests_active": counters.requests.load(Relaxed),
            "retries_active": counters.retries.load(Relaxed),
            "endpoints": set.map_or_else(|| json!([]), watched),
        })
    };
    Value::Object(spec.clusters.iter().map(|(name, of)| (name.to_string(), show(of))).collect())
}

fn listener(of: &Listener) -> Value {
    let address = match &of.address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => path.display().to_string(),
    };
    let chains: Vec<_> = of.chains.all().iter().map(|of| chain(of)).collect();
    json!({
        "address": address,
        "direction": format!("{:?}", of.direction).to_lowercase(),
        "inspection": format!("{:?}", of.inspection),
        "original_destination": of.original_destination,
        "hands_over": of.hands_over,
        "has_socket": of.has_socket,
        "chains": chains,
    })
}

fn chain(of: &Chain) -> Value {
    let mut shown = match &of.protocol {
        ListenerProtocol::Http(http) => json!({
            "protocol": "http",
            "routes": match &http.routes {
                RouteSource::Named(name) => json!(&**name),
                RouteSource::Inline(table) => routes(table),
            },
        }),
        ListenerProtocol::Tcp(tcp) => json!({ "protocol": "tcp", "clusters": weighted(&tcp.clusters) }),
    };
    shown["match"] = json!(format!("{:?}", of.matches));
    shown["tls"] = json!(of.tls.is_some());
    shown
}

fn routes(of: &RouteConfig) -> Value {
    let hosts = of.virtual_hosts.iter().map(|host| {
        let routes = host.routes.iter().map(|route| {
            let action = match &route.action {
                RouteAction::Forward(forward) => json!({
                    "clusters": weighted(&forward.clusters),
                    "timeout": forward.timeout.map(|timeout| format!("{timeout:?}")),
                    "retries": forward.retry.as_ref().map_or(0, |retry| retry.retries_max),
                }),
                RouteAction::Redirect(redirect) => json!({ "redirect": redirect.status.as_u16() }),
                RouteAction::Direct(direct) => json!({ "answer": direct.status.as_u16() }),
            };
            json!({ "name": &*route.name, "match": format!("{:?}", route.matches), "action": action })
        });
        json!({ "name": &*host.name, "domains": host.domains, "routes": routes.collect::<Vec<_>>() })
    });
    Value::Array(hosts.collect())
}

fn weighted(clusters: &[WeightedCluster]) -> Value {
    Value::Object(clusters.iter().map(|cluster| (cluster.name.to_string(), json!(cluster.weight))).collect())
}

fn cluster(of: &Cluster) -> Value {
    let discovery = match &of.discovery {
        Discovery::OriginalDestination => json!("original destination"),
        Discovery::Eds(name) => json!({ "eds": &**name }),
        Discovery::Static(set) => json!({ "static": endpoints(set, None) }),
        Discovery::Dns { endpoints: set, refresh, .. } => {
            json!({ "dns": endpoints(set, None), "refresh": format!("{refresh:?}") })
        }
    };
    json!({
        "discovery": discovery,
        "balancing": format!("{:?}", of.balancing),
        "outlier_detection": of.outlier.as_ref().map(|outlier| format!("{outlier:?}")),
        "health_check": of.check.as_ref().map(|check| format!("{check:?}")),
        "protocol": format!("{:?}", of.protocol),
        "connect_timeout": format!("{:?}", of.connect_timeout),
        "limits": format!("{:?}", of.limits),
        "destination": &*of.destination.host,
    })
}

/// With what the process finds of their health, where that is asked for.
fn endpoints(set: &EndpointSet, vitals: Option<&Vitals>) -> Value {
    let all = set.localities.iter().flat_map(|locality| {
        locality.endpoints.iter().map(|endpoint| {
            let mut shown = json!({
                "address": endpoint.address.to_string(),
                "health": format!("{:?}", endpoint.health).to_lowercase(),
                "weight": endpoint.weight,
                "priority": locality.priority,
                "locality": &*locality.locality,
                "workload": &*endpoint.workload.name,
            });
            if let Some(vital) = vitals.and_then(|vitals| vitals.find(&endpoint.address)) {
                shown["ejected"] = json!(vital.ejected());
                shown["failing_checks"] = json!(vital.failing());
            }
            shown
        })
    });
    Value::Array(all.collect())
}
