//! The proxy as TLS client: one context of a cluster or of some of its endpoints, and handshakes with it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    ClientConfig,
    client::{ResolvesClientCert, Resumption},
    pki_types::ServerName,
    sign::CertifiedKey,
};
use tokio_rustls::{TlsConnector, TlsStream};

use super::{
    Outcome,
    peer::Peer,
    store::{Material, Missing},
    verify::Servers,
};
use crate::{
    spec::{EndpointAddress, Sni, UpstreamTls},
    stream::Stream,
};

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// What a connection is for; decides the ALPN where the context says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Bytes.
    Tcp,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Whichever of the two the endpoint prefers.
    Http,
}

/// What handshakes need.
#[derive(Debug)]
pub struct ClientContext {
    tcp: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    http: Arc<ClientConfig>,
    sni: Sni,
    material: Material,
    verified: bool,
    own: Option<Arc<str>>,
}

impl ClientContext {
    /// A context of what is configured and the secrets that it names.
    pub fn new(tls: &UpstreamTls, material: Material) -> Result<Self, Missing> {
        let common = &tls.common;
        let mut trust = material.trust.clone().unwrap_or_default();
        if tls.verify_sni {
            // Takes the place of other conditions on names, by definition of the field.
            trust.names = Vec::new();
        }
        let verified = trust.proves();
        let verifier = Servers::new(trust, tls.verify_sni, &common.provider);
        let config = ClientConfig::builder_with_provider(common.provider.clone())
            .with_protocol_versions(&common.versions)
            .map_err(|error| Missing(format!("no usable TLS parameters: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let own = material.certificates.first();
        let mut base = match own {
            None => config.with_no_client_auth(),
            Some(own) => config.with_client_cert_resolver(Arc::new(Shown(own.key.clone()))),
        };
        base.resumption = match tls.sessions_max {
            0 => Resumption::disabled(),
            max => Resumption::in_memory_sessions(max),
        };
        let own = own.and_then(|own| own.names.principal()).map(Arc::from);
        let speaking = |protocols: &[&[u8]]| {
            let mut config = base.clone();
            config.alpn_protocols = if common.alpn.is_empty() {
                protocols.iter().map(|protocol| protocol.to_vec()).collect()
            } else {
                common.alpn.clone()
            };
            Arc::new(config)
        };
        Ok(Self {
            tcp: speaking(&[]),
            http1: speaking(&[HTTP1]),
            http2: speaking(&[HTTP2]),
            http: speaking(&[HTTP2, HTTP1]),
            sni: tls.sni.clone(),
            material,
            verified,
            own,
        })
    }

    /// What it was made of.
    pub fn material(&self) -> &Material {
        &self.material
    }

    /// The identity that it shows.
    pub fn own(&self) -> Option<&Arc<str>> {
        self.own.as_ref()
    }

    /// Shakes hands with an endpoint that is asked for by `name`. The caller limits the time.
    pub async fn connect(
        &self,
        stream: Stream,
        name: ServerName<'static>,
        purpose: Purpose,
    ) -> Result<(Stream, Option<Peer>), Outcome> {
        let config = match purpose {
            Purpose::Tcp => &self.tcp,
            Purpose::Http1 => &self.http1,
            Purpose::Http2 => &self.http2,
            Purpose::Http => &self.http,
        };
        let stream = TlsConnector::from(config.clone())
            .connect(name, stream)
            .await
            .map_err(|error| Outcome::of(&error))?;
        let (_, connection) = stream.get_ref();
        let peer = match connection.peer_certificates() {
            None => None,
            Some(chain) => Some(Peer::new(chain, self.verified).ok_or(Outcome::BadCertificate)?),
        };
        // A resumed session was verified when it began; its certificate may have expired since.
        if self.verified && peer.as_ref().is_some_and(|peer| peer.names.expires < unix_now()) {
            return Err(Outcome::Expired);
        }
        match (purpose, connection.alpn_protocol()) {
            (Purpose::Http2, Some(HTTP1)) | (Purpose::Http1, Some(HTTP2)) => {
                return Err(Outcome::Incompatible);
            }
            _ => {}
        }
        Ok((Stream::tls(TlsStream::Client(stream)), peer))
    }

    /// The name to ask an endpoint for. An address stands for none: it is never sent.
    pub fn name(&self, address: &EndpointAddress, hostname: &str) -> ServerName<'static> {
        let none = || match address {
            EndpointAddress::Tcp(address) => ServerName::from(address.ip()),
            EndpointAddress::Unix(_) | EndpointAddress::Name(..) => {
                ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST))
            }
        };
        match &self.sni {
            Sni::Name(name) => name.clone(),
            Sni::Absent => none(),
            Sni::Endpoint => ServerName::try_from(hostname.to_owned()).unwrap_or_else(|_| none()),
        }
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Shows the one certificate to whoever asks: which authorities a server claims to trust does not matter, it will say.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes).map(|_| self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
