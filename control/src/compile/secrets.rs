//! Which secrets a proxy may have, under which names, and what is in them.
//!
//! A document of Istio's names a secret by its name alone, and means that of the proxy's own namespace: `credentialName`
//! of a Gateway that the proxy serves, or of a DestinationRule. A gateway of the Gateway API refers to one of its own
//! namespace, or of one that grants it; it is sent to the proxies that serve the gateway and are of its namespace, or of
//! the root namespace. Nobody else receives it, whatever names a proxy asks for: a proxy is sent nothing that is not in
//! its scope.

use std::sync::Arc;

use prost::Message;
use weft_proto::node::{NodeMetadata, Role};

use super::{
    encode,
    ir::{Secret, SecretContent, version},
};
use crate::{
    documents::{
        self, Document, DocumentSet, ROOT_NAMESPACE, attach::Believed, gateway_api::ObjectRef, secret::beside,
    },
    resource::{Kind, Resource},
};

/// Whether a proxy may have the secrets of a namespace: a gateway those of its own, others none.
pub(crate) fn may_read(node: &NodeMetadata, namespace: &str) -> bool {
    node.role == Role::Gateway && node.namespace == namespace
}

/// Whether a proxy may have what a gateway of the Gateway API refers to. Any workload may call itself a gateway, but not
/// one of another namespace.
pub(crate) fn may_have(node: &NodeMetadata, gateway: &Document) -> bool {
    may_read(node, &gateway.namespace) || may_read(node, ROOT_NAMESPACE)
}

/// How a secret is called that a gateway refers to; no secret of a namespace alone is called so.
pub(crate) fn referred_name(gateway: &Document, to: &ObjectRef) -> String {
    format!("{}/{}", to.namespace.as_ref().unwrap_or(&gateway.namespace), to.name.text)
}

/// The certificate of a secret that is referred to by a name, and the authorities that are beside it.
pub(crate) fn of_reference<'a>(
    documents: &'a DocumentSet,
    (document, secret): (&'a Arc<Document>, &'a documents::Secret),
    name: &str,
) -> (Option<Arc<Resource>>, Option<Arc<Resource>>) {
    let place = (&*document.namespace, &*document.name);
    let authorities = authorities(documents, Some((document, secret)), place, authorities_name(name));
    (certificate(document, secret, certificate_name(name)), authorities)
}

/// The authorities that a listener refers to, and the name under which they are delivered.
pub(crate) fn of_authorities(believed: Believed<'_>) -> (Arc<str>, Arc<Resource>) {
    let Believed { document, authorities, revocations } = believed;
    let name = authorities_name(&document.key());
    let content = SecretContent::Authorities(authorities, revocations);
    (name.clone(), resource(document, &Secret { name, content }))
}

/// The name under which a certificate is delivered.
pub(crate) fn certificate_name(credential: &str) -> Arc<str> {
    format!("certificate|{credential}").into()
}

/// The name under which the authorities of a credential are delivered.
pub(crate) fn authorities_name(credential: &str) -> Arc<str> {
    format!("authorities|{credential}").into()
}

/// The name in place of another one that nothing is delivered under: who loses a secret does not keep the old one.
pub(crate) fn missing(name: &str) -> Arc<str> {
    format!("{name}|missing").into()
}

/// The secret of such a name, where it exists and the proxy may have it.
pub(crate) fn find(documents: &DocumentSet, node: &NodeMetadata, name: &Arc<str>) -> Option<Arc<Resource>> {
    if !may_read(node, &node.namespace) {
        return None;
    }
    let (kind, credential) = name.split_once('|')?;
    let own = documents.secret(&node.namespace, credential);
    match kind {
        "certificate" => own.and_then(|(document, secret)| certificate(document, secret, name.clone())),
        "authorities" => authorities(documents, own, (&node.namespace, credential), name.clone()),
        _ => None,
    }
}

fn certificate(
    document: &Arc<Document>,
    secret: &documents::Secret,
    name: Arc<str>,
) -> Option<Arc<Resource>> {
    let (chain, key) = secret.certificate.clone()?;
    Some(resource(document, &Secret { name, content: SecretContent::Certificate(chain, key) }))
}

/// Those of a secret, else of the one beside it.
fn authorities<'a>(
    documents: &'a DocumentSet,
    own: Option<(&'a Arc<Document>, &'a documents::Secret)>,
    (namespace, credential): (&str, &str),
    name: Arc<str>,
) -> Option<Arc<Resource>> {
    let held = |(document, secret): (_, &documents::Secret)| {
        let content = SecretContent::Authorities(secret.authorities.clone()?, secret.revocations.clone());
        Some((document, content))
    };
    let other = || documents.secret(namespace, &beside(credential));
    let (document, content) = own.and_then(held).or_else(|| other().and_then(held))?;
    Some(resource(document, &Secret { name, content }))
}

fn resource(document: &Arc<Document>, secret: &Secret) -> Arc<Resource> {
    // The key belongs to its certificate, so that the version need not tell anything of it.
    let version = match &secret.content {
        SecretContent::Certificate(chain, _) => version(&(&secret.name, chain)),
        SecretContent::Authorities(authorities, lists) => version(&(&secret.name, authorities, lists)),
    };
    let message = encode::tls::secret(secret).encode_to_vec();
    let documents = Arc::from([document.key()]);
    Arc::new(Resource::new(Kind::Secret, secret.name.clone(), version, message, documents))
}
