//! Which secrets a proxy may have, under which names, and what is in them.
//!
//! A document names a secret by its name alone, and means that of the proxy's own namespace: `credentialName` of a
//! Gateway that the proxy serves, or of a DestinationRule. Nobody else receives it, whatever names a proxy asks for: a
//! proxy is sent nothing that is not in its scope.

use std::sync::Arc;

use prost::Message;
use weft_proto::node::{NodeMetadata, Role};

use super::{
    encode,
    ir::{Secret, SecretContent, version},
};
use crate::{
    documents::{self, Document, DocumentSet},
    resource::{Kind, Resource},
};

/// Added to a secret's name for that of its authorities, as Istio does.
const AUTHORITIES_SUFFIX: &str = "-cacert";

/// Whether a proxy may have the secrets of a namespace: a gateway those of its own, others none.
pub(crate) fn may_read(node: &NodeMetadata, namespace: &str) -> bool {
    node.role == Role::Gateway && node.namespace == namespace
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
    let (document, content) = match kind {
        "certificate" => {
            let (document, secret) = own?;
            let (chain, key) = secret.certificate.clone()?;
            (document, SecretContent::Certificate(chain, key))
        }
        "authorities" => {
            let beside = format!("{credential}{AUTHORITIES_SUFFIX}");
            let held = |(document, secret): (_, &documents::Secret)| {
                Some((
                    document,
                    SecretContent::Authorities(secret.authorities.clone()?, secret.revocations.clone()),
                ))
            };
            own.and_then(held).or_else(|| documents.secret(&node.namespace, &beside).and_then(held))?
        }
        _ => return None,
    };
    Some(resource(document, &Secret { name: name.clone(), content }))
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
