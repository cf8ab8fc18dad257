//! The proxy as TLS server: one context of a filter chain, and handshakes with it.

use std::sync::{Arc, LazyLock};

use rustls::{
    ServerConfig, SignatureAlgorithm,
    server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{
    Outcome,
    peer::{Peer, Secured},
    secret::Certificate,
    store::{Material, Missing},
    verify::Clients,
};
use crate::{spec::DownstreamTls, stream::Stream};

/// Keys of session tickets: one set for the process, so that any worker can resume a session; they change by themselves.
static TICKETS: LazyLock<Option<Arc<dyn ProducesTickets>>> =
    LazyLock::new(|| rustls::crypto::aws_lc_rs::Ticketer::new().ok());

/// What handshakes need.
#[derive(Debug)]
pub struct ServerContext {
    config: Arc<ServerConfig>,
    material: Material,
    own: Option<Arc<str>>,
}

/// A connection after its handshake.
pub struct Accepted {
    /// Carries the plain text.
    pub stream: Stream,
    /// Who is at both ends.
    pub secured: Secured,
}

impl ServerContext {
    /// A context of what is configured and the secrets that it names.
    pub fn new(tls: &DownstreamTls, material: Material) -> Result<Self, Missing> {
        let common = &tls.common;
        let config = ServerConfig::builder_with_provider(common.provider.clone())
            .with_protocol_versions(&common.versions)
            .map_err(|error| Missing(format!("no usable TLS parameters: {error}")))?;
        let asks = material.trust.is_some();
        let config = match &material.trust {
            None => config.with_no_client_auth(),
            Some(trust) => config.with_client_cert_verifier(Arc::new(Clients::new(
                trust.clone(),
                tls.require_client_certificate,
                &common.provider,
            ))),
        };
        let shown = Shown { certificates: material.certificates.clone(), require_sni: tls.require_sni };
        let mut config = config.with_cert_resolver(Arc::new(shown));
        config.alpn_protocols.clone_from(&common.alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match &*TICKETS {
            // A resumed session is not verified again, so sessions that were verified are not resumed.
            Some(tickets) if tls.resumption && !asks => config.ticketer = tickets.clone(),
            _ => config.send_tls13_tickets = 0,
        }
        let own = material.certificates.first().and_then(|first| first.names.principal()).map(Arc::from);
        Ok(Self { config: Arc::new(config), material, own })
    }

    /// What it was made of.
    pub fn material(&self) -> &Material {
        &self.material
    }

    /// The identity that it shows.
    pub fn own(&self) -> Option<&Arc<str>> {
        self.own.as_ref()
    }

    /// Shakes hands. The caller limits the time.
    pub async fn accept(&self, stream: Stream) -> Result<Accepted, Outcome> {
        let stream = TlsAcceptor::from(self.config.clone())
            .accept(stream)
            .await
            .map_err(|error| Outcome::of(&error))?;
        let (_, connection) = stream.get_ref();
        let server_name = connection.server_name().map(|name| name.to_ascii_lowercase().into());
        let verified = self.material.trust.as_ref().is_some_and(|trust| trust.proves());
        let peer = match connection.peer_certificates() {
            None => None,
            Some(chain) => Some(Peer::new(chain, verified).ok_or(Outcome::BadCertificate)?),
        };
        let secured = Secured::new(peer, self.own.clone(), server_name);
        Ok(Accepted { stream: Stream::tls(TlsStream::Server(stream)), secured })
    }
}

/// Chooses among certificates.
#[derive(Debug)]
struct Shown {
    certificates: Vec<Arc<Certificate>>,
    require_sni: bool,
}

/// How well a certificate fits the name that was asked for; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Exact,
    Wildcard,
    /// Not at all: of these the first is the default.
    Default,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        if name.is_none() && self.require_sni {
            return None;
        }
        let schemes = hello.signature_schemes();
        let usable = self.certificates.iter().filter(|one| one.key.key.choose_scheme(schemes).is_some());
        // Among equals elliptic curves come first, being cheaper for us, then the order of configuration.
        let best = usable.min_by_key(|one| {
            let rsa = one.key.key.algorithm() == SignatureAlgorithm::RSA;
            (name.map_or(Fit::Default, |name| fit(one, name)), rsa)
        });
        best.map(|certificate| certificate.key.clone())
    }
}

fn fit(certificate: &Certificate, name: &str) -> Fit {
    let dns = &certificate.names.dns;
    if dns.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Fit::Exact;
    }
    let rest = name.split_once('.').map(|(_, rest)| rest);
    let covers =
        |own: &String| own.strip_prefix("*.").zip(rest).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
    if dns.iter().any(covers) { Fit::Wildcard } else { Fit::Default }
}
