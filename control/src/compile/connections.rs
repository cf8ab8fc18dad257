//! Who routes connections to a port of a service from within the mesh, and the chains that come of it. As with requests the
//! oldest decides: a virtual service has them alone, routes of the Gateway API share them, each name the oldest that has it.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    World,
    ir::{Chain, ChainMatch, Serves},
    l4::{self, Taken},
    lens::Lens,
    routes::View,
};
use crate::{
    documents::{
        Document, Located, MESH_GATEWAY, VirtualService,
        attach::ServiceRoute,
        claims,
        gateway_api::{RouteKind, RouteRules},
    },
    model::{Service, ServiceKey},
};

/// The chains of a port, perhaps none, and the documents that shaped them; nothing where no document routes.
pub(crate) fn of_port(
    world: &World,
    client: &Lens,
    service: &Service,
    port: u16,
) -> Option<(Vec<Chain>, Vec<Arc<str>>)> {
    let attachments = &world.verdict.attachments;
    let (hosts, services, rules) = (&world.hosts, &world.services, &world.rules);
    let view =
        View { hosts, services, rules, grants: &attachments.grants, client, gateway: MESH_GATEWAY, port };
    let routes = attachments.connections(&service.key, port, &client.namespace);
    let is_for = |document: &Document, rule: &VirtualService| {
        let named = |name: &Located| world.hosts.canonical(&name.text, &document.namespace) == service.host;
        claims::routes_connections(document, rule)
            && document.is_visible_in(&client.namespace)
            && rule.hosts.iter().any(named)
    };
    let rule = world.documents.virtual_services().find(|(document, rule)| is_for(document, rule));
    match (routes.first(), rule) {
        (None, None) => None,
        (Some(route), Some((document, rule))) if document.is_older_than(&route.document) => {
            Some(of_rule(&view, document, rule))
        }
        (None, Some((document, rule))) => Some(of_rule(&view, document, rule)),
        (Some(_), _) => Some(of_routes(&view, &routes)),
    }
}

fn of_rule(view: &View<'_>, document: &Document, rule: &VirtualService) -> (Vec<Chain>, Vec<Arc<str>>) {
    let mut taken = Taken::default();
    let mut chains = l4::tls_chains(view, document, rule, |name| Some(name.clone()), &mut taken);
    chains.extend(l4::tcp_chains(view, document, rule, &[], &mut taken));
    (chains, document.keys().collect())
}

fn of_routes(view: &View<'_>, routes: &[&ServiceRoute]) -> (Vec<Chain>, Vec<Arc<str>>) {
    let (mut chains, mut documents, mut taken) = (Vec::new(), Vec::new(), Taken::default());
    for ServiceRoute { document, kind, .. } in routes {
        let Some(route) = document.route() else { continue };
        let RouteRules::Stream(backends) = &route.rules else { continue };
        let names = match kind {
            RouteKind::Tls => route.hostnames.iter().map(|name| name.text.clone()).collect(),
            RouteKind::Tcp | RouteKind::Http | RouteKind::Grpc => Vec::new(),
        };
        let Some(server_names) = taken.take(None, names) else { continue };
        let first = server_names.first().map_or("*", |name| name);
        chains.push(Chain {
            name: format!("{}/{}|{first}", document.namespace, document.name).into(),
            matches: ChainMatch { server_names, ..ChainMatch::default() },
            tls: None,
            serves: Serves::Tcp(view.stream(document, backends)),
        });
        documents.push(document.key());
    }
    (chains, documents)
}

/// Services whose connections any document routes.
pub(crate) fn routed(world: &World) -> BTreeSet<&ServiceKey> {
    let rules = world.documents.virtual_services();
    let rules = rules.filter(|(document, rule)| claims::routes_connections(document, rule));
    let by_rules = rules.flat_map(|(document, rule)| {
        rule.hosts.iter().filter_map(|host| world.hosts.find(&host.text, &document.namespace))
    });
    let by_routes = world.verdict.attachments.services();
    let by_routes = by_routes.filter(|(_, routes)| routes.iter().any(|route| !route.kind.is_http()));
    by_rules.chain(by_routes.map(|(key, _)| key)).collect()
}
