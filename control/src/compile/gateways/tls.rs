//! TLS that ends at a gateway: which certificates are shown, and how clients are verified.

use std::sync::Arc;

use weft_proto::node::NodeMetadata;

use super::{Of, chains::Chains};
use crate::{
    compile::{
        World,
        edge::Served,
        ir::{Authorities, Certificate, Clients, ServerTls},
        secrets,
    },
    documents::{self, Credentials, ServerMode, gateway_api::ListenerTls},
    resource::Resource,
};

impl Chains {
    /// Of a server of Istio's.
    pub(super) fn server_tls(&mut self, of: &Of<'_>, tls: &documents::ServerTls, http: bool) -> ServerTls {
        let mut delivered = |name: Arc<str>| {
            let found = secrets::find(&of.world.documents, of.node, &name);
            self.delivered(name, found)
        };
        let (certificates, authorities) = match &tls.credentials {
            Credentials::Secrets(names) => {
                let certificate = |name| Certificate::Secret(delivered(secrets::certificate_name(name)));
                let certificates = names.iter().map(|name| &**name).map(certificate).collect();
                let first = names.first().map_or("", |name| name);
                let authorities = tls
                    .verifies_clients()
                    .then(|| Authorities::Secret(delivered(secrets::authorities_name(first))));
                (certificates, authorities)
            }
            Credentials::Files { certificates, authorities, revocations } => {
                let pair =
                    |(chain, key): &(Arc<str>, Arc<str>)| Certificate::Files(chain.clone(), key.clone());
                let authorities =
                    authorities.clone().map(|path| Authorities::Files(path, revocations.clone()));
                (certificates.iter().map(pair).collect(), authorities)
            }
            // The proxy's own; no other mode is without.
            Credentials::None => (vec![Certificate::Own], Some(Authorities::Own)),
        };
        let clients = authorities.filter(|_| tls.verifies_clients()).map(|authorities| Clients {
            required: matches!(tls.mode, ServerMode::Mutual | ServerMode::Mesh),
            domains: match authorities {
                Authorities::Own if tls.names.is_empty() => of.world.domains.clone(),
                _ => Arc::from([]),
            },
            authorities,
            names: tls.names.clone(),
            key_pins: tls.key_pins.clone(),
            certificate_pins: tls.certificate_pins.clone(),
        });
        ServerTls { certificates, clients, http, min: tls.min, max: tls.max, suites: tls.suites.clone() }
    }

    /// Of a listener of the Gateway API. Where none of its certificates may be shown, its clients are refused.
    pub(super) fn listener_tls(
        &mut self,
        world: &World,
        node: &NodeMetadata,
        served: &Served<'_>,
        tls: &ListenerTls,
        http: bool,
    ) -> ServerTls {
        let grants = &world.verdict.attachments.grants;
        let verifies = tls.verifies_clients();
        let (mut good, mut bad, mut authorities) = (Vec::new(), Vec::new(), None);
        for to in &tls.certificates {
            let name = secrets::referred_name(served.gateway, to);
            let found = grants.certificate(served.gateway, to, &world.documents).ok();
            let found = found.filter(|_| secrets::may_have(node, served.gateway));
            let Some(found) = found else {
                bad.push(Certificate::Secret(secrets::missing(&secrets::certificate_name(&name))));
                continue;
            };
            let (certificate, believed) = secrets::of_reference(&world.documents, found, &name);
            good.push(Certificate::Secret(self.delivered(secrets::certificate_name(&name), certificate)));
            if verifies && authorities.is_none() && tls.authorities.is_none() {
                let beside = self.delivered(secrets::authorities_name(&name), believed);
                authorities = Some(Authorities::Secret(beside));
            }
        }
        if let Some(to) = &tls.authorities {
            let found = grants.authorities(served.gateway, to, &world.documents).ok();
            let found = found.filter(|_| secrets::may_have(node, served.gateway));
            authorities = found.map(|found| {
                let (name, resource) = secrets::of_authorities(found);
                Authorities::Secret(self.delivered(name, Some(resource)))
            });
        }
        // Whoever has no authorities to believe believes nobody.
        let nobody = || Authorities::Secret(secrets::missing(&secrets::authorities_name("none")));
        let clients = verifies.then(|| Clients {
            required: tls.mode == ServerMode::Mutual,
            authorities: authorities.unwrap_or_else(nobody),
            names: Vec::new(),
            domains: Arc::from([]),
            key_pins: Vec::new(),
            certificate_pins: Vec::new(),
        });
        let certificates = if good.is_empty() { bad } else { good };
        ServerTls { certificates, clients, http, min: tls.min, max: tls.max, suites: tls.suites.clone() }
    }

    /// The name by which a secret is asked for: another one, that nothing is delivered under, where there is none.
    fn delivered(&mut self, name: Arc<str>, found: Option<Arc<Resource>>) -> Arc<str> {
        match found {
            None => secrets::missing(&name),
            Some(resource) => {
                self.secrets.insert(name.clone(), resource);
                name
            }
        }
    }
}
