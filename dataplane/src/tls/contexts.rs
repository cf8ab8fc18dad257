//! The TLS contexts of a configuration, made of it and of the secrets in force. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    client::ClientContext,
    server::ServerContext,
    store::{FileKey, Material, Missing, Secrets, context_files, secret_files},
};
use crate::spec::{DownstreamTls, Spec, UpstreamTls};

type Digest = [u8; 32];

/// Contexts by the digests of what they were made of; what lacks a secret says so.
#[derive(Debug, Default)]
pub struct Contexts {
    servers: HashMap<Digest, Result<Arc<ServerContext>, Missing>>,
    clients: HashMap<Digest, Result<Arc<ClientContext>, Missing>>,
}

impl Contexts {
    /// The contexts after these. What would be the same is the same, and so keeps its sessions.
    pub fn next(&self, spec: &Spec, secrets: &Secrets) -> Self {
        let mut next = Self::default();
        for tls in servers(spec) {
            next.servers.entry(tls.digest).or_insert_with(|| {
                let material = Material::resolve(&tls.common, secrets)?;
                match self.servers.get(&tls.digest) {
                    Some(Ok(old)) if old.material().same(&material) => Ok(old.clone()),
                    _ => ServerContext::new(tls, material).map(Arc::new),
                }
            });
        }
        for tls in clients(spec) {
            next.clients.entry(tls.digest).or_insert_with(|| {
                let material = Material::resolve(&tls.common, secrets)?;
                match self.clients.get(&tls.digest) {
                    Some(Ok(old)) if old.material().same(&material) => Ok(old.clone()),
                    _ => ClientContext::new(tls, material).map(Arc::new),
                }
            });
        }
        next
    }

    /// The context of a filter chain; none while a secret of it is missing.
    pub fn server(&self, tls: &DownstreamTls) -> Option<&Arc<ServerContext>> {
        self.servers.get(&tls.digest)?.as_ref().ok()
    }

    /// The context of a cluster; none while a secret of it is missing.
    pub fn client(&self, tls: &UpstreamTls) -> Option<&Arc<ClientContext>> {
        self.clients.get(&tls.digest)?.as_ref().ok()
    }

    /// What contexts lack.
    pub fn missing(&self) -> impl Iterator<Item = &Missing> {
        let servers = self.servers.values().filter_map(|context| context.as_ref().err());
        servers.chain(self.clients.values().filter_map(|context| context.as_ref().err()))
    }

    /// Whether they are the very same.
    pub fn same(&self, other: &Self) -> bool {
        fn same<T>(
            a: &HashMap<Digest, Result<Arc<T>, Missing>>,
            b: &HashMap<Digest, Result<Arc<T>, Missing>>,
        ) -> bool {
            let one = |(digest, context): (&Digest, &Result<Arc<T>, Missing>)| match (context, b.get(digest))
            {
                (Ok(a), Some(Ok(b))) => Arc::ptr_eq(a, b),
                (Err(a), Some(Err(b))) => a == b,
                _ => false,
            };
            a.len() == b.len() && a.iter().all(one)
        }
        same(&self.servers, &other.servers) && same(&self.clients, &other.clients)
    }
}

/// The files that a configuration needs.
pub fn files(spec: &Spec) -> BTreeSet<FileKey> {
    let mut files = BTreeSet::new();
    servers(spec).for_each(|tls| context_files(&tls.common, &mut files));
    clients(spec).for_each(|tls| context_files(&tls.common, &mut files));
    spec.secrets.values().for_each(|secret| secret_files(secret, &mut files));
    files
}

/// Whether a configuration has anything to do with TLS.
pub fn any(spec: &Spec) -> bool {
    !spec.secrets.is_empty() || servers(spec).next().is_some() || clients(spec).next().is_some()
}

fn servers(spec: &Spec) -> impl Iterator<Item = &Arc<DownstreamTls>> {
    spec.listeners.values().flat_map(|listener| listener.chains.all()).filter_map(|chain| chain.tls.as_ref())
}

fn clients(spec: &Spec) -> impl Iterator<Item = &Arc<UpstreamTls>> {
    spec.clusters.values().flat_map(|cluster| cluster.all_tls())
}
