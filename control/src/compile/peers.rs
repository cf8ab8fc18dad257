//! Mutual TLS between workloads: what a workload takes, by `PeerAuthentication`, and how it is spoken to.
//!
//! Of documents the narrowest decides: for the port, for the workload, for its namespace, for the mesh; of equally narrow
//! ones the oldest. Where none says, a workload takes both, and who can speaks mutual TLS: to all but those that are told
//! to take plain text alone.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::ir::{
    Application, Authorities, Certificate, Chain, ChainMatch, ClientTls, Clients, ServerTls, Servers, Serves,
    Transport,
};
use crate::documents::{
    self, Document, DocumentSet, DocumentSpec, MtlsMode, PeerAuthentication, ROOT_NAMESPACE,
};

/// See [`patience`].
const PATIENCE: Duration = Duration::from_secs(1);

/// A workload, as documents select it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload<'a, Text> {
    pub(crate) namespace: &'a str,
    pub(crate) labels: &'a BTreeMap<Text, Text>,
}

/// What documents say of workloads, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Policies(Vec<Arc<Document>>);

impl Policies {
    /// Of all documents.
    pub(crate) fn of(documents: &DocumentSet) -> Self {
        Self(documents.peer_authentications().map(|(document, _)| document.clone()).collect())
    }

    fn all(&self) -> impl Iterator<Item = (&Arc<Document>, &PeerAuthentication)> {
        self.0.iter().filter_map(|document| match &document.spec {
            DocumentSpec::PeerAuthentication(spec) => Some((document, spec)),
            _ => None,
        })
    }

    /// Whether any workload might take plain text alone.
    pub(crate) fn disables(&self) -> bool {
        let off = |mode: &Option<MtlsMode>| *mode == Some(MtlsMode::Disable);
        self.all().any(|(_, spec)| off(&spec.mode) || spec.ports.values().any(off))
    }

    /// What a workload takes at one of its ports; none is at those that nobody declared.
    pub(crate) fn mode<Text>(&self, workload: Workload<'_, Text>, port: Option<u16>) -> MtlsMode
    where
        Text: Ord + Borrow<str>,
    {
        let of_namespace = |wanted: &str| {
            let wide = |(document, spec): &(&Arc<Document>, &PeerAuthentication)| {
                *document.namespace == *wanted && spec.selector.is_none()
            };
            self.all().find(wide).and_then(|(_, spec)| spec.mode)
        };
        let selects = |labels: &BTreeMap<Arc<str>, Arc<str>>| {
            let has = |(name, value): (&Arc<str>, &Arc<str>)| {
                workload.labels.get(&**name).is_some_and(|own| *own.borrow() == **value)
            };
            labels.iter().all(has)
        };
        let own = self.all().find(|(document, spec)| {
            *document.namespace == *workload.namespace && spec.selector.as_ref().is_some_and(selects)
        });
        let own = own.map(|(_, spec)| spec);
        let of_port = own.zip(port).and_then(|(spec, port)| spec.ports.get(&port).copied().flatten());
        of_port
            .or_else(|| own.and_then(|spec| spec.mode))
            .or_else(|| of_namespace(workload.namespace))
            .or_else(|| of_namespace(ROOT_NAMESPACE))
            .unwrap_or_default()
    }
}

/// A chain of a workload's port as the chains that its mode asks for. Who has no identity (`mutual` is false) cannot offer
/// mutual TLS, and takes nothing where that alone is taken.
pub(crate) fn doors(chain: Chain, mode: MtlsMode, mutual: bool, domains: &Arc<[Arc<str>]>) -> Vec<Chain> {
    let http = !matches!(chain.serves, Serves::Tcp(_));
    let secured = || Chain { tls: Some(server(domains, http)), ..chain.clone() };
    let matching = |transport, applications| ChainMatch {
        transport: Some(transport),
        applications,
        ..chain.matches.clone()
    };
    let named = |suffix: &str| match chain.name.as_ref() {
        "" => suffix.into(),
        name => format!("{name}|{suffix}").into(),
    };
    match mode {
        MtlsMode::Strict => vec![secured()],
        MtlsMode::Permissive if mutual => {
            let matches = matching(Transport::Tls, vec![Application::Mesh]);
            let mesh = Chain { name: named("mtls"), matches, ..secured() };
            // The workload's own TLS.
            let matches = matching(Transport::Tls, Vec::new());
            let through = Chain { name: named("tls"), matches, ..chain.clone() };
            let plain =
                Chain { matches: matching(Transport::Raw, Vec::new()), name: named("plain"), ..chain };
            [mesh].into_iter().chain((!http).then_some(through)).chain([plain]).collect()
        }
        MtlsMode::Permissive | MtlsMode::Disable => vec![chain],
    }
}

/// What the chains of captured ports have alike.
#[derive(Debug)]
pub(crate) struct Doors<'a> {
    /// Whether the proxy has an identity.
    pub(crate) mutual: bool,
    pub(crate) domains: &'a Arc<[Arc<str>]>,
    /// What ports take that nobody declared.
    pub(crate) rest: MtlsMode,
}

impl Doors<'_> {
    /// See [`doors`].
    pub(crate) fn of(&self, chain: Chain, mode: MtlsMode) -> Vec<Chain> {
        doors(chain, mode, self.mutual, self.domains)
    }
}

/// How long a client may say nothing before it counts as one that waits for its server to speak, where it matters whether
/// it speaks TLS; none where every client must say something.
pub(crate) fn patience(chains: &[Chain]) -> Option<Duration> {
    let waits = |chain: &Chain| {
        chain.matches.transport == Some(Transport::Raw) && matches!(chain.serves, Serves::Tcp(_))
    };
    chains.iter().any(waits).then_some(PATIENCE)
}

/// TLS of a server that shows its identity to clients that show theirs.
pub(crate) fn server(domains: &Arc<[Arc<str>]>, http: bool) -> ServerTls {
    let clients = Clients {
        required: true,
        authorities: Authorities::Own,
        names: Vec::new(),
        domains: domains.clone(),
        key_pins: Vec::new(),
        certificate_pins: Vec::new(),
    };
    let certificates = vec![Certificate::Own];
    ServerTls { certificates, clients: Some(clients), http, min: None, max: None, suites: Vec::new() }
}

/// TLS to a port of a service between identities: the server must be one of `identities`, or of the mesh where none are
/// known.
pub(crate) fn client(
    given: Option<&documents::ClientTls>,
    name: (u16, &str, &str),
    identities: BTreeSet<Arc<str>>,
    domains: &Arc<[Arc<str>]>,
    applications: &'static [&'static str],
) -> ClientTls {
    let (port, subset, host) = name;
    // The form by which gateways that pass mutual TLS through know where it leads; Istio's.
    let sni = || format!("outbound_.{port}_.{subset}_.{host}").into();
    let wanted = given.map(|tls| tls.names.clone()).filter(|names| !names.is_empty());
    let names = wanted.unwrap_or_else(|| identities.into_iter().collect());
    let domains = if names.is_empty() { domains.clone() } else { Arc::from([]) };
    ClientTls {
        sni: Some(given.and_then(|tls| tls.sni.clone()).unwrap_or_else(sni)),
        certificate: Some(Certificate::Own),
        servers: Some(Servers { authorities: Authorities::Own, names, domains }),
        applications,
    }
}
