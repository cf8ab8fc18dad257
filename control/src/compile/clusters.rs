//! A service and its destination rules become clusters, one for each port and subset, and their endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weft_proto::node::cluster_name;

use super::{
    encode,
    ir::{
        Authorities, Certificate, ClientTls, Cluster, Discovery, Endpoint, Endpoints, HttpVersion, Servers,
        ServiceName,
    },
    locality::{Arrangement, Vantage},
    peers::{self, Policies, Workload},
    secrets,
};
use crate::{
    documents::{
        self, ClientMode, Credentials, DestinationRule, EndpointPolicy, HashKey, HealthCheckPolicy,
        LoadBalancer, LocalityLb, MtlsMode, NameForm, OutlierDetection, Statistics, Subset, TrafficPolicy,
    },
    model::{self, Port, Protocol, Resolution, Service},
};

/// Where most hosts keep the authorities that they trust. A proxy of ours looks elsewhere where there is no such file.
const HOST_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a service's clusters are made of.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    pub(crate) service: &'a Service,
    /// The rules of its host. Of several the first wins where both say something.
    pub(crate) rules: Vec<&'a DestinationRule>,
    /// How its endpoints are checked.
    pub(crate) checks: Option<&'a HealthCheckPolicy>,
    /// How they are chosen and judged where the rules have no word for it.
    pub(crate) endpoint_policy: Option<&'a EndpointPolicy>,
    /// Whether it is for proxies that can balance by latency.
    pub(crate) by_latency: bool,
    /// How load goes by locality where no rule says.
    pub(crate) locality: &'a LocalityLb,
    /// Trust domains of the mesh.
    pub(crate) domains: &'a Arc<[Arc<str>]>,
    /// What workloads take, where any might take plain text alone.
    pub(crate) takes: &'a Policies,
    /// Whether it is for clients that have an identity: they speak mutual TLS to endpoints that take it.
    pub(crate) mutual: bool,
}

/// One cluster.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) cluster: Cluster,
    /// Its endpoints, where they come over the stream.
    pub(crate) endpoints: Option<Endpoints>,
    /// The labels of a proxy that count; none where it is the same for every proxy.
    pub(crate) looks_at: Option<Vec<Arc<str>>>,
}

impl Inputs<'_> {
    /// The clusters of a service as they are seen from a vantage; none is anybody's.
    pub(crate) fn clusters(&self, vantage: Option<&Vantage>) -> Vec<Made> {
        let (base, subsets) = merged(&self.rules);
        let mut found = Vec::new();
        for port in &self.service.ports {
            found.push(self.cluster(port, None, &base, vantage));
            for subset in subsets.values() {
                found.push(self.cluster(port, Some(subset), &subset.policy.over(&base), vantage));
            }
        }
        found
    }

    fn cluster(
        &self,
        port: &Port,
        subset: Option<&Subset>,
        policy: &TrafficPolicy,
        vantage: Option<&Vantage>,
    ) -> Made {
        let service = self.service;
        let policy = policy.of_port(port.number);
        let subset_name = subset.map(|subset| &*subset.name.text).unwrap_or_default();
        let name: Arc<str> = cluster_name(port.number, subset_name, &service.host).into();
        let setting = policy.locality.as_ref().unwrap_or(self.locality);
        let check = self.checks.and_then(|checks| checks.of_port(port.number));
        let outlier = self.outlier(policy);
        let arrangement = Arrangement::of(setting, outlier.is_some() || check.is_some());
        let check_port = check.and_then(|check| check.port);
        let mesh = policy.tls.as_ref().filter(|tls| tls.mode == ClientMode::Mesh);
        let identities = self.identities(port, subset);
        let tls_where_taken = policy.tls.is_none() && self.mutual && !identities.is_empty();
        let mut found = endpoints(service, port, subset, check_port);
        for (endpoint, compiled) in &mut found {
            compiled.takes_tls = tls_where_taken && self.takes_mtls(endpoint, compiled.port);
        }
        let localities = arrangement.arrange(found, vantage);
        let endpoints = Endpoints { cluster: name.clone(), localities };
        let (discovery, streamed) = match service.resolution {
            Resolution::Client if service.is_pattern() => (Discovery::OriginalDestination, None),
            Resolution::Static => (Discovery::Eds, Some(endpoints)),
            Resolution::Dns | Resolution::Client => (Discovery::Dns(endpoints), None),
            Resolution::DnsFirst => (Discovery::DnsFirst(endpoints), None),
        };
        let upgraded = policy.http.upgrade == Some(true);
        // What a client speaks says nothing of what is spoken where only some endpoints take TLS.
        let as_client = policy.http.as_client == Some(true) && !tls_where_taken;
        let mutual = mesh.is_some() || tls_where_taken;
        let tls = policy.tls.as_ref().filter(|_| !mutual).and_then(|tls| client_tls(tls, service));
        let http = match port.protocol {
            // What a client speaks says nothing of what a server takes over TLS, which is asked.
            Protocol::Http | Protocol::Http2 | Protocol::Grpc if as_client && (mutual || tls.is_some()) => {
                Some(HttpVersion::Agreed)
            }
            Protocol::Http | Protocol::Http2 | Protocol::Grpc if as_client => Some(HttpVersion::Downstream),
            Protocol::Http if upgraded => Some(HttpVersion::Http2),
            Protocol::Http if tls.is_some() => Some(HttpVersion::Agreed),
            Protocol::Http => Some(HttpVersion::Http1),
            Protocol::Http2 | Protocol::Grpc => Some(HttpVersion::Http2),
            Protocol::Tcp | Protocol::Tls => None,
        };
        let name_of_server = (port.number, subset_name, &*service.host);
        let tls = match mutual {
            true => Some(peers::client(mesh, name_of_server, identities, self.domains, applications(http))),
            false => tls,
        };
        let cluster = Cluster {
            name,
            service: Some(ServiceName {
                host: service.host.clone(),
                name: service.key.name.clone(),
                namespace: service.key.namespace.clone(),
            }),
            discovery,
            source: None,
            balancer: policy
                .load_balancer
                .clone()
                .filter(|_| !service.is_pattern())
                .unwrap_or(LoadBalancer::LeastRequest),
            locality_weighted: arrangement.weighted(),
            warmup: policy.warmup.clone().filter(|_| !service.is_pattern()),
            peak_ewma: self
                .endpoint_policy
                .filter(|_| self.by_latency && !service.is_pattern())
                .and_then(|policy| policy.peak_ewma),
            outlier: outlier.clone(),
            check: check.filter(|_| !service.is_pattern()).cloned(),
            health_percent_min: match (&outlier, self.checks) {
                (Some(outlier), _) => Some(outlier.health_percent_min),
                (None, Some(checks)) => check.map(|_| checks.health_percent_min),
                (None, None) => None,
            },
            retry_budget: policy.retry_budget.clone(),
            tls,
            tls_where_taken,
            http,
            tcp: policy.tcp.clone(),
            pool: policy.http.clone(),
        };
        Made { cluster, endpoints: streamed, looks_at: arrangement.looks_at(service) }
    }

    /// What ejects endpoints: what the rules say, and what is judged over many requests.
    fn outlier(&self, policy: &TrafficPolicy) -> Option<OutlierDetection> {
        let statistics = self.endpoint_policy.map(|policy| &policy.statistics);
        match statistics.filter(|statistics| **statistics != Statistics::default()) {
            None => policy.outlier.clone(),
            Some(statistics) => {
                let counted = policy.outlier.clone().unwrap_or_else(OutlierDetection::quiet);
                Some(OutlierDetection { statistics: statistics.clone(), ..counted })
            }
        }
    }

    /// The identities of the endpoints that take mutual TLS.
    fn identities(&self, port: &Port, subset: Option<&Subset>) -> BTreeSet<Arc<str>> {
        let all = selected(self.service, port, subset);
        let taking = all.filter(|(endpoint, number)| self.takes_mtls(endpoint, *number));
        taking.map(|(endpoint, _)| endpoint.identity.clone()).collect()
    }

    /// Whether an endpoint takes mutual TLS at one of its ports: a proxy stands before it, and no document forbids it.
    fn takes_mtls(&self, endpoint: &model::Endpoint, port: u16) -> bool {
        let workload = Workload { namespace: &self.service.key.namespace, labels: &endpoint.labels };
        endpoint.takes_mtls() && self.takes.mode(workload, Some(port)) != MtlsMode::Disable
    }
}

/// What is offered over mutual TLS: the mesh's word, and what is spoken.
fn applications(http: Option<HttpVersion>) -> &'static [&'static str] {
    match http {
        None => &[encode::tls::MESH],
        Some(HttpVersion::Http2) => &[encode::tls::MESH, "h2"],
        Some(HttpVersion::Agreed) => &[encode::tls::MESH, "h2", "http/1.1"],
        Some(HttpVersion::Http1 | HttpVersion::Downstream) => &[encode::tls::MESH, "http/1.1"],
    }
}

/// The TLS of a policy. The name that is asked for, and must be the certificate's unless others are given, is the
/// service's host; a service entry may give others.
fn client_tls(tls: &documents::ClientTls, service: &Service) -> Option<ClientTls> {
    let host = &service.host;
    if tls.mode == ClientMode::Disable {
        return None;
    }
    let named = !host.starts_with('*') && NameForm::of(host) == NameForm::Dns;
    let host = named.then(|| host.clone());
    let (certificate, authorities) = match &tls.credentials {
        Credentials::None => (None, None),
        Credentials::Secrets(names) => {
            let name = names.first()?;
            let shown = (tls.mode == ClientMode::Mutual)
                .then(|| Certificate::Secret(secrets::certificate_name(name)));
            (shown, Some(Authorities::Secret(secrets::authorities_name(name))))
        }
        Credentials::Files { certificates, authorities, revocations } => {
            let shown =
                certificates.first().map(|(chain, key)| Certificate::Files(chain.clone(), key.clone()));
            (shown, authorities.clone().map(|path| Authorities::Files(path, revocations.clone())))
        }
    };
    let of_host = || Authorities::Files(HOST_AUTHORITIES.into(), None);
    let names = if tls.names.is_empty() { &service.certificate_names } else { &tls.names };
    let servers = (!tls.skip_verify).then(|| Servers {
        authorities: authorities.unwrap_or_else(of_host),
        names: names.clone(),
        domains: Arc::from([]),
    });
    Some(ClientTls { sni: tls.sni.clone().or(host), certificate, servers, applications: &[] })
}

/// The policy of the host, and its subsets by name.
fn merged<'a>(rules: &[&'a DestinationRule]) -> (TrafficPolicy, BTreeMap<&'a str, &'a Subset>) {
    let mut base = TrafficPolicy::default();
    let mut subsets = BTreeMap::new();
    for rule in rules {
        base = base.over(&rule.policy);
        for subset in &rule.subsets {
            subsets.entry(&*subset.name.text).or_insert(subset);
        }
    }
    (base, subsets)
}

/// What requests to a port of a host, or to a subset of it, are hashed by.
pub(crate) fn hash_key(rules: &[&DestinationRule], subset: &str, port: u16) -> Option<HashKey> {
    let (base, subsets) = merged(rules);
    let policy = subsets.get(subset).map_or_else(|| base.clone(), |subset| subset.policy.over(&base));
    match &policy.of_port(port).load_balancer {
        Some(LoadBalancer::ConsistentHash(hash)) => Some(hash.key.clone()),
        _ => None,
    }
}

/// The endpoints of a port and subset.
fn endpoints<'a>(
    service: &'a Service,
    port: &Port,
    subset: Option<&Subset>,
    check_port: Option<u16>,
) -> Vec<(&'a model::Endpoint, Endpoint)> {
    let compiled = |(endpoint, number): (&'a model::Endpoint, u16)| {
        let found = Endpoint {
            address: endpoint.address.clone(),
            port: number,
            weight: endpoint.weight.max(1),
            health: endpoint.health,
            check_port,
            takes_tls: false,
            workload: workload(service, endpoint),
        };
        (endpoint, found)
    };
    selected(service, port, subset).map(compiled).collect()
}

/// The registered endpoints of a port and subset, with their ports.
fn selected<'a>(
    service: &'a Service,
    port: &Port,
    subset: Option<&Subset>,
) -> impl Iterator<Item = (&'a model::Endpoint, u16)> {
    let selected = move |endpoint: &&Arc<model::Endpoint>| {
        let has = |(name, value)| endpoint.labels.get(name) == Some(value);
        subset.is_none_or(|subset| subset.labels.iter().all(has))
    };
    let with_port =
        |endpoint: &'a Arc<model::Endpoint>| Some((&**endpoint, *endpoint.ports.get(&port.name)?));
    service.endpoints.values().filter(selected).filter_map(with_port)
}

/// A workload in Istio's form, `name;namespace;canonical-service;canonical-revision;cluster`.
fn workload(service: &Service, endpoint: &model::Endpoint) -> Arc<str> {
    let label = |names: [&str; 2]| names.into_iter().find_map(|name| endpoint.labels.get(name)).map(|s| &**s);
    let canonical = label(["service.istio.io/canonical-name", "app"]).unwrap_or(&service.key.name);
    let revision = label(["service.istio.io/canonical-revision", "version"]).unwrap_or("latest");
    let name = if endpoint.workload.is_empty() { canonical } else { &endpoint.workload };
    format!("{name};{};{canonical};{revision};{}", service.key.namespace, endpoint.cluster).into()
}
