//! What can only be seen with all documents and the mesh before one: missing subsets, unknown hosts, conflicts.
//!
//! Where two documents claim the same, the older one has it (`documents` has the rules), and the other is told so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    AccessAction, Destination, DestinationRule, Document, DocumentSet, DocumentSpec, EntryEndpoint,
    EntryResolution, FromNamespace, HttpAction, HttpRoute, Located, MESH_GATEWAY, Mirror, Problem,
    ServiceEntry, Severity, VirtualService, delegate,
    hosts::{Hosts, host_matches},
};
use crate::model::{Mesh, ServiceKey};

pub(super) mod gateways;
pub(super) mod providers;

/// Problems of Istio's kinds, kind by kind, the oldest document first.
pub(super) fn problems(view: &View<'_>, documents: &DocumentSet) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (document, rule) in documents.destination_rules() {
        view.check_rule(document, rule, &mut problems);
    }
    view.check_sidecars(documents, &mut problems);
    check_access(documents, &mut problems);
    let mut claimed = BTreeMap::new();
    for (document, policy) in documents.health_check_policies() {
        view.check_policy(document, &policy.host, &mut claimed, &mut problems);
    }
    let mut claimed = BTreeMap::new();
    for (document, policy) in documents.endpoint_policies() {
        view.check_policy(document, &policy.host, &mut claimed, &mut problems);
    }
    let mut claimed = BTreeMap::new();
    for (document, entry) in documents.service_entries() {
        view.check_entry(document, entry, &mut claimed, &mut problems);
    }
    for (document, workload) in documents.workload_entries() {
        check_workload(document, workload, documents, &mut problems);
    }
    delegate::check(documents, &mut problems);
    let mut claimed = BTreeMap::new();
    for (document, service) in documents.virtual_services() {
        view.check_claims(document, service, &mut claimed, &mut problems);
        view.check_gateways(document, service, &mut problems);
        for route in &service.http {
            view.check_route(document, route, &mut problems);
        }
        let tls = service.tls.iter().flat_map(|rule| &rule.route);
        let tcp = service.tcp.iter().flat_map(|rule| &rule.route);
        for Destination { host, subset, port, .. } in tls.chain(tcp) {
            view.check_destination(document, host, subset.as_ref(), *port, &mut problems);
        }
    }
    problems
}

pub(super) struct View<'a> {
    mesh: &'a Mesh,
    hosts: Hosts,
    /// Hosts that service entries add.
    entries: BTreeSet<Arc<str>>,
    /// Subset names by canonical host.
    subsets: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// The rules of every canonical host, the oldest first.
    rules: BTreeMap<Arc<str>, Vec<Arc<Document>>>,
    /// `namespace/name` of every gateway.
    gateways: BTreeSet<String>,
}

impl<'a> View<'a> {
    pub(super) fn new(documents: &DocumentSet, mesh: &'a Mesh) -> Self {
        let hosts = Hosts::of_mesh(mesh);
        let entries = documents.service_entries().flat_map(|(_, entry)| &entry.hosts);
        let entries: BTreeSet<Arc<str>> = entries.map(|host| host.text.clone()).collect();
        let mut subsets: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
        let mut rules = BTreeMap::new();
        for (document, rule) in documents.destination_rules() {
            let host = canonical(&hosts, &entries, &rule.host.text, &document.namespace);
            let names = rule.subsets.iter().map(|subset| subset.name.text.clone());
            subsets.entry(host.clone()).or_default().extend(names);
            rules.entry(host).or_insert_with(Vec::new).push(document.clone());
        }
        let name = |document: &Document| format!("{}/{}", document.namespace, document.name);
        let gateways = documents.gateways().map(|(document, _)| name(document)).collect();
        Self { mesh, hosts, entries, subsets, rules, gateways }
    }

    pub(super) fn canonical(&self, host: &str, namespace: &str) -> Arc<str> {
        canonical(&self.hosts, &self.entries, host, namespace)
    }

    fn check_entry(
        &self,
        document: &Arc<Document>,
        entry: &ServiceEntry,
        claimed: &mut Claims<Arc<str>>,
        problems: &mut Vec<Problem>,
    ) {
        for host in &entry.hosts {
            if let Some(key) = self.hosts.find(&host.text, &document.namespace) {
                let message =
                    format!("conflict: service {key} is registered as {:?}, and it wins", host.text);
                let winner = format!("service {key}").into();
                problems.push(conflict(document, host, &winner, message, "remove the host here"));
                continue;
            }
            if let Some(first) = claim(claimed, host.text.clone(), document) {
                let message = format!("conflict: {first} defines {:?} already, and it wins", host.text);
                problems.push(conflict(document, host, &first, message, "merge the two documents"));
            }
        }
    }

    fn check_rule(&self, document: &Document, rule: &DestinationRule, problems: &mut Vec<Problem>) {
        let host = &rule.host;
        let canonical = self.canonical(&host.text, &document.namespace);
        // One that selects clients goes before one that does not, and others do not concern them.
        let alike = |other: &Document| match &other.spec {
            DocumentSpec::DestinationRule(other) => other.selector == rule.selector,
            _ => false,
        };
        // Rules of several namespaces do not meet: one namespace decides.
        let near = |other: &&Arc<Document>| {
            other.namespace == document.namespace && alike(other) && meet(other, document)
        };
        let first = self.rules.get(&canonical).and_then(|rules| rules.iter().find(near));
        if let Some(first) = first.map(|first| first.key()).filter(|first| *first != document.key()) {
            let message = format!("{first} is for {:?} too; it wins where both say something", host.text);
            problems.push(conflict(document, host, &first, message, "merge the two"));
        }
        if !host.text.starts_with('*') && !self.known(&host.text, &document.namespace) {
            problems.push(unknown_host(document, host));
        }
    }

    fn check_policy(
        &self,
        document: &Document,
        host: &Located,
        claimed: &mut BTreeMap<Arc<str>, Arc<str>>,
        problems: &mut Vec<Problem>,
    ) {
        let canonical = self.canonical(&host.text, &document.namespace);
        let first = claimed.entry(canonical).or_insert_with(|| document.key());
        if *first != document.key() {
            let message = format!("conflict: {first} is for {:?} already, and it wins", host.text);
            problems.push(conflict(document, host, first, message, "merge the two documents"));
        }
        if !host.text.starts_with('*') && !self.known(&host.text, &document.namespace) {
            problems.push(unknown_host(document, host));
        }
    }

    fn check_claims(
        &self,
        document: &Arc<Document>,
        service: &VirtualService,
        claimed: &mut Claims<(Arc<str>, String, Layer)>,
        problems: &mut Vec<Problem>,
    ) {
        for host in &service.hosts {
            let canonical = self.canonical(&host.text, &document.namespace);
            let claims = claims_of(document, service);
            let firsts = claims.into_iter().map(|(gateway, layer)| (canonical.clone(), gateway, layer));
            if let Some(first) = firsts.filter_map(|what| claim(claimed, what, document)).next() {
                let message = format!("conflict: {first} routes {:?} already, and it wins", host.text);
                problems.push(conflict(document, host, &first, message, "merge the two documents"));
            }
            let outside = service.gateways.iter().any(|gateway| &*gateway.text != MESH_GATEWAY);
            let pattern = host.text.starts_with('*');
            if !outside && !pattern && !self.known(&host.text, &document.namespace) {
                problems.push(unknown_host(document, host));
            }
        }
    }

    /// Of two Sidecars of one namespace for the same workloads the older one counts.
    fn check_sidecars(&self, documents: &DocumentSet, problems: &mut Vec<Problem>) {
        let mut claimed: BTreeMap<_, Arc<str>> = BTreeMap::new();
        for (document, sidecar) in documents.sidecars() {
            let place = (document.namespace.clone(), sidecar.selector.clone());
            let first = claimed.entry(place).or_insert_with(|| document.key());
            if *first != document.key() {
                let message = format!("conflict: {first} is for the same workloads, and it wins");
                problems.push(whole(document, message, "merge the two, or select other workloads"));
            }
            let hosts = sidecar.egress.iter().flatten().flat_map(|entry| &entry.hosts);
            let named =
                hosts.filter(|of| !of.host.starts_with('*') && of.namespace != FromNamespace::Nowhere);
            for unknown in named.filter(|of| !self.known(&of.host, &document.namespace)) {
                problems.push(unknown_host(document, &unknown.written));
            }
        }
    }

    fn check_gateways(&self, document: &Document, service: &VirtualService, problems: &mut Vec<Problem>) {
        for gateway in service.gateways.iter().filter(|gateway| &*gateway.text != MESH_GATEWAY) {
            let name = gateway_name(&gateway.text, &document.namespace);
            if !self.gateways.contains(&name) {
                let message = format!("there is no Gateway {name}");
                problems.push(warning(document, gateway, message, "apply it, or correct the name"));
            }
        }
    }

    fn check_route(&self, document: &Document, route: &HttpRoute, problems: &mut Vec<Problem>) {
        if let HttpAction::Route(destinations) = &route.action {
            for Destination { host, subset, port, .. } in destinations {
                self.check_destination(document, host, subset.as_ref(), *port, problems);
            }
        }
        for Mirror { host, subset, port, .. } in &route.mirrors {
            self.check_destination(document, host, subset.as_ref(), *port, problems);
        }
    }

    fn check_destination(
        &self,
        document: &Document,
        host: &Located,
        subset: Option<&Located>,
        port: Option<u16>,
        problems: &mut Vec<Problem>,
    ) {
        let canonical = self.canonical(&host.text, &document.namespace);
        if let Some(subset) = subset
            && !self.has_subset(&canonical, &subset.text)
        {
            let message = match self.subsets.get(&canonical) {
                Some(_) => {
                    format!("no DestinationRule of {:?} defines subset {:?}", host.text, subset.text)
                }
                None => format!("subset {:?} needs a DestinationRule of {:?}", subset.text, host.text),
            };
            let known: Vec<&str> = self.subsets.get(&canonical).into_iter().flatten().map(|s| &**s).collect();
            let hint = match known.as_slice() {
                [] => "apply one that defines it".to_owned(),
                known => super::reader::nearest(&subset.text, known),
            };
            problems.push(Problem { severity: Severity::Error, ..warning(document, subset, message, &hint) });
        }
        if !self.known(&host.text, &document.namespace) {
            problems.push(unknown_host(document, host));
        } else if let Some(port) = port
            && let Some(service) = self.service(&host.text, &document.namespace)
            && !service.ports.iter().any(|known| known.number == port)
        {
            let ports: Vec<String> = service.ports.iter().map(|port| port.number.to_string()).collect();
            let message = format!("{:?} has no port {port}", host.text);
            problems.push(warning(document, host, message, &format!("known are {}", ports.join(", "))));
        }
    }

    fn has_subset(&self, canonical: &str, subset: &str) -> bool {
        if let Some(names) = self.subsets.get(canonical) {
            return names.contains(subset);
        }
        let wide = |(host, names): (&Arc<str>, &BTreeSet<Arc<str>>)| {
            host.starts_with('*') && host_matches(host, canonical) && names.contains(subset)
        };
        self.subsets.iter().any(wide)
    }

    fn service(&self, host: &str, namespace: &str) -> Option<&Arc<crate::model::Service>> {
        let key: &ServiceKey = self.hosts.find(host, namespace)?;
        self.mesh.services.get(key)
    }

    fn known(&self, host: &str, namespace: &str) -> bool {
        self.hosts.find(host, namespace).is_some() || self.entries.contains(host)
    }
}

/// A policy that denies or notes needs a rule to do anything.
fn check_access(documents: &DocumentSet, problems: &mut Vec<Problem>) {
    for (document, policy) in documents.authorization_policies() {
        if policy.rules.is_empty() && policy.action != AccessAction::Allow {
            let message = "it has no rule, so it never does anything".to_owned();
            problems.push(whole(document, message, "add a rule; `- {}` is for everything"));
        }
    }
}

/// A workload entry with a name for an address serves only where names are resolved.
fn check_workload(
    document: &Document,
    workload: &EntryEndpoint,
    documents: &DocumentSet,
    problems: &mut Vec<Problem>,
) {
    if workload.is_address() {
        return;
    }
    let takes_addresses = |(of, entry): &(&Arc<Document>, &ServiceEntry)| {
        let resolves = matches!(entry.resolution, EntryResolution::Dns | EntryResolution::DnsRoundRobin);
        of.namespace == document.namespace
            && !resolves
            && entry.selector.as_ref().is_some_and(|labels| workload.has(labels))
    };
    for (of, _) in documents.service_entries().filter(takes_addresses) {
        let message = format!("{:?} is a name, and {} takes addresses", workload.address.text, of.key());
        problems.push(warning(
            document,
            &workload.address,
            message,
            "give an IP address, or resolve it by DNS",
        ));
    }
}

/// One spelling for every name of a host, those of service entries included.
fn canonical(hosts: &Hosts, entries: &BTreeSet<Arc<str>>, host: &str, namespace: &str) -> Arc<str> {
    match (hosts.find(host, namespace), entries.get(host)) {
        (None, Some(entry)) => entry.clone(),
        _ => hosts.canonical(host, namespace),
    }
}

/// `namespace/name` of a gateway that a document names; `mesh` stays.
pub(crate) fn gateway_name(text: &str, namespace: &str) -> String {
    match text.contains('/') || text == MESH_GATEWAY {
        true => text.to_owned(),
        false => format!("{namespace}/{text}"),
    }
}

/// What of a host a virtual service routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// `http`.
    Requests,
    /// `tls` and `tcp`.
    Connections,
}

/// What a virtual service claims of each of its hosts, gateway by gateway.
pub(super) fn claims_of(document: &Document, service: &VirtualService) -> Vec<(String, Layer)> {
    let gateways = match service.gateways.as_slice() {
        [] => vec![MESH_GATEWAY.to_owned()],
        named => named.iter().map(|gateway| gateway_name(&gateway.text, &document.namespace)).collect(),
    };
    let requests = (!service.http.is_empty()).then_some(Layer::Requests);
    let connections = (!(service.tls.is_empty() && service.tcp.is_empty())).then_some(Layer::Connections);
    let of =
        |gateway: String| requests.into_iter().chain(connections).map(move |layer| (gateway.clone(), layer));
    gateways.into_iter().flat_map(of).collect()
}

/// Who claimed what first.
type Claims<What> = BTreeMap<What, Vec<Arc<Document>>>;

/// Claims something for a document; the key of one that has it already where both count.
fn claim<What: Ord>(claims: &mut Claims<What>, what: What, document: &Arc<Document>) -> Option<Arc<str>> {
    let claimed = claims.entry(what).or_default();
    let first = claimed.iter().find(|first| meet(first, document)).map(|first| first.key());
    claimed.push(document.clone());
    first.filter(|first| *first != document.key())
}

/// Whether there is a namespace in which both documents count.
fn meet(one: &Document, other: &Document) -> bool {
    match (one.export_to(), other.export_to()) {
        (Some(export), Some(others)) => export.overlaps(&one.namespace, others, &other.namespace),
        _ => true,
    }
}

/// A problem of a document as a whole.
pub(super) fn whole(document: &Document, message: String, hint: &str) -> Problem {
    Problem {
        origin: document.origin.clone(),
        line: document.line,
        column: 1,
        document: document.key(),
        field: String::new(),
        message,
        hint: hint.to_owned(),
        severity: Severity::Warning,
        conflict: None,
    }
}

fn unknown_host(document: &Document, host: &Located) -> Problem {
    warning(
        document,
        host,
        format!("no service {:?} is known", host.text),
        "it takes effect when one appears",
    )
}

/// What the loser of a claim is told.
pub(super) fn conflict(
    document: &Document,
    at: &Located,
    winner: &Arc<str>,
    message: String,
    hint: &str,
) -> Problem {
    Problem { conflict: Some(winner.clone()), ..warning(document, at, message, hint) }
}

pub(super) fn warning(document: &Document, at: &Located, message: String, hint: &str) -> Problem {
    Problem {
        origin: document.origin.clone(),
        line: at.place.line,
        column: at.place.column,
        document: document.key(),
        field: at.field.clone(),
        message,
        hint: hint.to_owned(),
        severity: Severity::Warning,
        conflict: None,
    }
}
