//! Who may refer to objects of another namespace: what `ReferenceGrant` documents there allow.

use std::{collections::BTreeMap, sync::Arc};

use crate::documents::{
    Document, DocumentSet, Secret, Sensitive,
    gateway_api::{GROUP, ObjectRef, ReferenceGrant},
};

/// Who may refer to what.
#[derive(Debug, Default, PartialEq)]
pub struct Grants {
    /// By the namespace that grants.
    by_namespace: BTreeMap<Arc<str>, Vec<ReferenceGrant>>,
}

/// Authorities that something refers to.
#[derive(Clone, Debug)]
pub struct Believed<'a> {
    /// What holds them.
    pub document: &'a Arc<Document>,
    /// PEM.
    pub authorities: Sensitive,
    /// Revocation lists, PEM.
    pub revocations: Option<Sensitive>,
}

/// A group and a kind, and the namespace of the object.
pub type From<'a> = (&'a str, &'a str, &'a str);

impl Grants {
    /// Of all documents.
    pub(super) fn of(documents: &DocumentSet) -> Self {
        let mut by_namespace: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (document, grant) in documents.reference_grants() {
            by_namespace.entry(document.namespace.clone()).or_default().push(grant.clone());
        }
        Self { by_namespace }
    }

    /// Whether an object may refer to another: within its namespace, or where that one's allows it.
    pub fn permit(&self, from: From<'_>, to: From<'_>, name: &str) -> bool {
        if from.2 == to.2 {
            return true;
        }
        let grants = self.by_namespace.get(to.2).map(Vec::as_slice).unwrap_or_default();
        grants.iter().any(|grant| {
            grant.from.iter().any(|it| (&*it.group, &*it.kind, &*it.namespace) == from)
                && grant.to.iter().any(|it| {
                    (&*it.group, &*it.kind) == (to.0, to.1)
                        && it.name.as_deref().is_none_or(|only| only == name)
                })
        })
    }
    /// The authorities by which a listener verifies its clients, with their revocation lists; else why there are none.
    pub fn authorities<'a>(
        &self,
        gateway: &Document,
        to: &ObjectRef,
        documents: &'a DocumentSet,
    ) -> Result<Believed<'a>, (&'static str, String)> {
        let (kind, name) = (&*to.kind, &to.name.text);
        if !to.group.is_empty() || !matches!(kind, "ConfigMap" | "Secret") {
            let message = format!("authorities {name:?} are neither ConfigMap nor Secret");
            return Err(("InvalidCACertificateKind", message));
        }
        let namespace = to.namespace.as_ref().unwrap_or(&gateway.namespace);
        if !self.permit((GROUP, "Gateway", &*gateway.namespace), ("", kind, namespace), name) {
            let message = format!("namespace {namespace} does not permit the use of {kind} {name:?}");
            return Err(("RefNotPermitted", message));
        }
        let found = match kind {
            "ConfigMap" => documents
                .config_map(namespace, name)
                .map(|(document, map)| (document, &map.authorities, &map.revocations)),
            _ => documents
                .secret(namespace, name)
                .map(|(document, secret)| (document, &secret.authorities, &secret.revocations)),
        };
        match found {
            Some((document, Some(authorities), revocations)) => {
                let (authorities, revocations) = (authorities.clone(), revocations.clone());
                Ok(Believed { document, authorities, revocations })
            }
            Some((_, None, _)) => {
                Err(("InvalidCACertificateRef", format!("{kind} {namespace}/{name} holds no ca.crt")))
            }
            None => Err(("InvalidCACertificateRef", format!("there is no {kind} {namespace}/{name}"))),
        }
    }

    /// The Secret with the certificate that a gateway refers to; else why there is none, in a word of the Gateway API and
    /// for people.
    pub fn certificate<'a>(
        &self,
        gateway: &Document,
        to: &ObjectRef,
        documents: &'a DocumentSet,
    ) -> Result<(&'a Arc<Document>, &'a Secret), (&'static str, String)> {
        let name = &to.name.text;
        let invalid = |message| Err(("InvalidCertificateRef", message));
        if (&*to.group, &*to.kind) != ("", "Secret") {
            return invalid(format!("certificate {name:?} is no Secret"));
        }
        let namespace = to.namespace.as_ref().unwrap_or(&gateway.namespace);
        if !self.permit((GROUP, "Gateway", &*gateway.namespace), ("", "Secret", namespace), name) {
            let message = format!("namespace {namespace} does not permit the use of Secret {name:?}");
            return Err(("RefNotPermitted", message));
        }
        match documents.secret(namespace, name) {
            None => invalid(format!("there is no Secret {namespace}/{name}")),
            Some((_, secret)) if secret.certificate.is_none() => {
                invalid(format!("Secret {namespace}/{name} holds no certificate"))
            }
            Some(found) => Ok(found),
        }
    }
}
