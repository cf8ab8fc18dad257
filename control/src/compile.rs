//! Compile: services and documents become what proxies receive. Pure: no socket, task or clock.
//!
//! ```text
//!  Mesh + DocumentSet --update--> World --resources(node)--> ResourceSet
//!     services --clusters--> ir --encode--> bytes      (again only for services that changed)
//!     documents -- tables --> ir --encode--> bytes     (again only for the hosts of documents that changed)
//!     what a node names ----------------> one scope    (again only when more than endpoints changed)
//! ```
//!
//! Where two documents claim the same host, the older one has it; `documents::check` tells the other.
//!
//! An endpoint that comes or goes costs one compiled service, and one exchanged resource in each scope that has it: no
//! table, no listener. What did not change is told apart by comparing pointers.
//!
//! Where load goes by locality, a service's endpoints are arranged and encoded once more for each place from which a
//! proxy that has the service asks, and shared by all proxies there: an endpoint change then costs as many compiled
//! services as there are such places. Other services are the same allocation for every proxy.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use weft_proto::node::NodeMetadata;

mod access;
mod capture;
mod clusters;
mod connections;
mod edge;
mod encode;
mod entries;
mod gateways;
mod grpc;
mod ir;
mod l4;
mod lens;
mod limits;
mod locality;
mod lookup;
mod names;
mod peers;
mod perspective;
mod reached;
mod routes;
mod rules;
mod scope;
mod scopes;
mod secrets;
mod services;
mod shared;
mod sight;
mod tables;
mod telemetry;
#[cfg(test)]
mod tests;
mod tokens;

pub use tables::OUTBOUND_HTTP;

use lens::Lens;
use peers::Policies;
use perspective::Perspectives;
use rules::Rules;
use scopes::{Exchanged, Scopes};
use services::{Compiled, HostPolicies, Services};
use sight::Sight;
use tables::{Same, Source, Tables};

use crate::{
    access_log::AccessLog,
    documents::{
        self, Document, DocumentSet, DocumentSpec, Labels, LocalityLb, Verdict, delegate::Resolved,
        hosts::Hosts,
    },
    model::{Mesh, OutboundPolicy, ServiceKey},
    providers::Providers,
    resource::{Asked, ResourceSet},
};

/// Compiles one world after another, and keeps what did not change.
#[derive(Debug, Default)]
pub struct Compiler {
    world: Arc<World>,
    resolved: Resolved,
    outbound_policy: OutboundPolicy,
    /// How load goes by locality where no document says.
    locality: Arc<LocalityLb>,
    domains: Arc<[Arc<str>]>,
    log: Option<AccessLog>,
    providers: Arc<Providers>,
    trust_domain: Option<Arc<str>>,
    keys: Arc<tokens::KeySets>,
}

/// What holds for the whole mesh.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What becomes of captured outbound traffic that no service claims.
    pub outbound_policy: OutboundPolicy,
    /// How load goes by locality where no document says.
    pub locality: LocalityLb,
    /// Trust domains whose identities are the mesh's, its own first.
    pub trust_domains: Vec<String>,
    /// What every proxy logs where no document says otherwise.
    pub log: Option<AccessLog>,
    /// What documents may name.
    pub providers: Providers,
    /// What identities of the mesh begin with; none is the mesh's domain.
    pub trust_domain: Option<Arc<str>>,
}

/// Everything compiled from one registry snapshot and one set of documents.
#[derive(Debug, Default)]
pub struct World {
    /// Rises with every update.
    pub revision: u64,
    outbound_policy: OutboundPolicy,
    domain: Arc<str>,
    domains: Arc<[Arc<str>]>,
    log: Option<AccessLog>,
    providers: Arc<Providers>,
    /// What is logged where only the mesh's documents count: of what goes out.
    mesh_logs: Arc<[AccessLog]>,
    trust_domain: Arc<str>,
    /// Keys of issuers of tokens, by their URLs.
    keys: Arc<tokens::KeySets>,
    services: Services,
    /// With every rule where it counts.
    documents: Arc<DocumentSet>,
    /// Sets of labels that rules ask of their clients.
    labels_asked: Arc<BTreeSet<Arc<Labels>>>,
    hosts: Arc<Hosts>,
    rules: Arc<Rules>,
    /// Policies of endpoints and their checks.
    checks: Arc<HostPolicies>,
    locality: Arc<LocalityLb>,
    /// What workloads take,
    peers: Arc<Policies>,
    /// the same where any might take plain text alone, else nothing: what counts for their callers.
    takes: Arc<Policies>,
    verdict: Arc<Verdict>,
    /// As a stranger sees them, to whom only what is exported everywhere counts;
    compiled: BTreeMap<ServiceKey, Arc<Compiled>>,
    tables: Arc<Tables>,
    /// and what others see otherwise.
    perspectives: Perspectives,
    scopes: Scopes,
    recompiled: Recompiled,
}

/// How much of a world was compiled anew, not taken over from the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recompiled {
    /// Services.
    pub services: usize,
    /// Route tables of ports and hosts.
    pub tables: usize,
    /// Scopes, so far: they are compiled when a proxy asks.
    pub scopes: usize,
}

impl Compiler {
    /// Nothing compiled yet, of a mesh for which `options` hold.
    pub fn new(options: Options) -> Self {
        let Options { outbound_policy, locality, trust_domains, log, providers, trust_domain } = options;
        let domains = trust_domains.iter().map(|domain| domain.as_str().into()).collect();
        let (locality, providers) = (Arc::new(locality), Arc::new(providers));
        let (world, resolved, keys) = (Arc::default(), Resolved::default(), Arc::default());
        Self { world, resolved, outbound_policy, locality, domains, log, providers, trust_domain, keys }
    }

    /// Takes the keys of issuers of tokens, by the URLs that documents give; the next update compiles them.
    pub fn learn(&mut self, keys: Arc<BTreeMap<Arc<str>, Arc<str>>>) {
        self.keys = keys;
    }

    /// Compiles what changed since the last update, and shares the rest.
    pub fn update(&mut self, mesh: Arc<Mesh>, written: Arc<DocumentSet>) -> Arc<World> {
        let previous = self.world.clone();
        self.resolved = self.resolved.following(&written);
        let documents = self.resolved.documents().clone();
        let services = services::all(&mesh, &documents, &previous.services);
        let same_shape =
            mesh.domain == previous.domain && services::same_shapes(&services, &previous.services);
        let hosts = match same_shape {
            true => previous.hosts.clone(),
            false => Arc::new(Hosts::of_services(services.values(), &mesh.domain)),
        };
        let before = &previous.documents;
        let same_rules = same_shape && same(documents.destination_rules(), before.destination_rules());
        // Routes name what is hashed, which destination rules say.
        let same_hashing = same_rules || !(hashes(&documents) || hashes(before));
        let same_grants = same(documents.reference_grants(), before.reference_grants());
        let same_virtual_services = same(documents.virtual_services(), before.virtual_services());
        let labels_asked = match same_virtual_services && same_rules {
            true => previous.labels_asked.clone(),
            false => Arc::new(lens::labels_asked(&documents)),
        };
        let same_routes = same_shape
            && same_hashing
            && same_grants
            && same_virtual_services
            && same(documents.routes(), before.routes());
        let same_peers = same(documents.peer_authentications(), before.peer_authentications());
        let peers = match same_peers {
            true => previous.peers.clone(),
            false => Arc::new(Policies::of(&documents)),
        };
        let takes = match (peers.disables(), previous.takes.disables()) {
            (true, _) => peers.clone(),
            (false, true) => Arc::default(),
            (false, false) => previous.takes.clone(),
        };
        let edge = |document: &&Arc<Document>| {
            matches!(document.spec, DocumentSpec::GatewayClass(_) | DocumentSpec::Namespace(_))
        };
        let same_rest = same(documents.service_entries(), before.service_entries())
            && same(documents.gateways(), before.gateways())
            && same(documents.workload_groups(), before.workload_groups())
            && same(documents.sidecars(), before.sidecars())
            && same(documents.telemetries(), before.telemetries())
            && same(documents.authorization_policies(), before.authorization_policies())
            && same(documents.request_authentications(), before.request_authentications())
            && self.keys == previous.keys
            && same(documents.rate_limit_policies(), before.rate_limit_policies())
            && same(documents.edge_gateways(), before.edge_gateways())
            && same(documents.secrets(), before.secrets())
            && same(documents.config_maps(), before.config_maps())
            && same_peers
            && documents.iter().filter(edge).map(Arc::as_ptr).eq(before.iter().filter(edge).map(Arc::as_ptr));
        let same_documents =
            same_shape && documents.iter().map(Arc::as_ptr).eq(before.iter().map(Arc::as_ptr));
        let verdict = match same_documents {
            true => previous.verdict.clone(),
            false => Arc::new(documents::judge(&written, &mesh, Some(&self.providers))),
        };
        let rules = match same_rules {
            true => previous.rules.clone(),
            false => Arc::new(Rules::new(&documents, &hosts)),
        };
        let same_checks = same_shape
            && same(documents.health_check_policies(), before.health_check_policies())
            && same(documents.endpoint_policies(), before.endpoint_policies());
        let checks = match same_checks {
            true => previous.checks.clone(),
            false => Arc::new(HostPolicies::new(&documents, &hosts)),
        };
        let telemetry = telemetry::Settings { log: self.log.as_ref(), providers: &self.providers };
        let mesh_logs = telemetry::of_mesh(telemetry, &documents, ir::Direction::Outbound).logs;
        let same_logs = *mesh_logs == *previous.mesh_logs;
        let mesh_logs = if same_logs { previous.mesh_logs.clone() } else { mesh_logs.into() };
        let mut compiled = BTreeMap::new();
        let mesh_wide = services::MeshWide {
            locality: &self.locality,
            domains: &self.domains,
            takes: &takes,
            logs: &mesh_logs,
        };
        let same_takes = Arc::ptr_eq(&takes, &previous.takes);
        let (mut changes, stranger) = (Vec::new(), Lens::default());
        for (key, service) in &services {
            let before = previous.compiled.get(key);
            let now = match before {
                Some(before)
                    if same_rules && same_checks && same_takes && same_logs && before.is_of(service) =>
                {
                    before.clone()
                }
                _ => {
                    let documents = services::documents(service, &stranger, &rules, &checks);
                    services::compile(service, documents, mesh_wide, before)
                }
            };
            if !before.is_some_and(|before| Arc::ptr_eq(before, &now)) {
                changes.push((before, now.clone()));
            }
            compiled.insert(key.clone(), now);
        }
        let mut recompiled = Recompiled { services: changes.len(), ..Recompiled::default() };
        let tables = match same_routes {
            true => previous.tables.clone(),
            false => {
                let same = Same { shape: same_shape, hashing: same_hashing, grants: same_grants };
                let lens = Lens::default();
                let source = Source {
                    services: &services,
                    documents: &documents,
                    hosts: &hosts,
                    destination_rules: &rules,
                    lens: &lens,
                    attachments: &verdict.attachments,
                };
                let tables = Tables::new(source, &previous.tables, same);
                recompiled.tables = tables.recompiled;
                Arc::new(tables)
            }
        };
        // With the same names everywhere, scopes differ in the contents of single resources alone.
        let same_names = same_rules && same_checks && same_routes && same_rest;
        let common = same_names.then(|| services::exchanged(&changes)).flatten();
        let used = previous.scopes.lenses();
        let (perspectives, exchanged) = match common {
            Some(common) => {
                let (perspectives, by_lens) =
                    Perspectives::following(&previous.perspectives, &used, &services, &common);
                (perspectives, Some(Exchanged { common, by_lens }))
            }
            None => {
                let special = perspective::special(&documents, &rules, &verdict.attachments);
                (Perspectives::anew(&previous.perspectives, &used, special), None)
            }
        };
        let scopes = Scopes::following(&previous.scopes, exchanged.as_ref());
        let revision = previous.revision + 1;
        let domain = mesh.domain.clone();
        self.world = Arc::new(World {
            revision,
            outbound_policy: self.outbound_policy,
            domain,
            domains: self.domains.clone(),
            log: self.log.clone(),
            providers: self.providers.clone(),
            mesh_logs,
            trust_domain: self.trust_domain.clone().unwrap_or_else(|| mesh.domain.clone()),
            keys: self.keys.clone(),
            services,
            documents,
            labels_asked,
            hosts,
            rules,
            checks,
            locality: self.locality.clone(),
            peers,
            takes,
            verdict,
            compiled,
            tables,
            perspectives,
            scopes,
            recompiled,
        });
        self.world.clone()
    }
}

/// Whether any destination rule picks by hash.
fn hashes(documents: &DocumentSet) -> bool {
    documents.destination_rules().any(|(_, rule)| rule.hashes())
}

/// Whether the documents of one kind are the very same, compared by their allocations.
fn same<'a, Spec: 'a>(
    now: impl Iterator<Item = (&'a Arc<Document>, &'a Spec)>,
    before: impl Iterator<Item = (&'a Arc<Document>, &'a Spec)>,
) -> bool {
    now.map(|(document, _)| Arc::as_ptr(document)).eq(before.map(|(document, _)| Arc::as_ptr(document)))
}

impl World {
    /// What a proxy receives that names nothing. Proxies with equal metadata share one set, and a set that did not change
    /// is that of the world before.
    pub fn resources(&self, node: &NodeMetadata) -> Arc<ResourceSet> {
        self.resources_asked(node, &Asked::default())
    }

    /// What a proxy receives, and what it names beyond. Proxies that are equal in both share one set.
    pub fn resources_asked(&self, node: &NodeMetadata, asked: &Asked) -> Arc<ResourceSet> {
        self.scopes.find_or_compile(node, asked, || {
            let sight = Sight::new(self, Lens::of(&self.documents, &self.labels_asked, node));
            let lens = sight.perspective().map(|of| of.lens.key());
            (lens, scope::resources(sight, node, asked))
        })
    }

    /// The document that an operator's key means, if it is a part of this world.
    pub fn document(&self, key: &str) -> Option<&Arc<Document>> {
        self.documents.get(key)
    }

    /// What documents are told. It is the same allocation as long as they, and the names and ports of services, are.
    pub fn verdict(&self) -> &Arc<Verdict> {
        &self.verdict
    }

    /// Where keys of issuers of tokens are, and how long a fetch may take.
    pub fn key_urls(&self) -> BTreeMap<Arc<str>, Duration> {
        tokens::urls(&self.documents)
    }

    /// How much of it was compiled anew.
    pub fn recompiled(&self) -> Recompiled {
        Recompiled { scopes: self.scopes.recompiled(), ..self.recompiled }
    }

    /// What the tables of a lens are compiled from.
    fn table_source<'a>(&'a self, lens: &'a Lens) -> Source<'a> {
        let Self { services, documents, hosts, rules: destination_rules, verdict, .. } = self;
        let attachments = &verdict.attachments;
        Source { services, documents, hosts, destination_rules, lens, attachments }
    }
}
