//! The TLS of the port for proxies and adapters: our own certificate, renewed by ourselves, and clients that may show
//! theirs. Who shows none can ask for one and do nothing else.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use futures::{Stream, stream};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use weft_proto::spiffe::SpiffeId;
use x509_parser::extensions::GeneralName;

use super::{Identity, access::Caller, issue, keyring::Keyring, request::PublicKey};
use crate::peer::{Peer, Places, accept};

/// Handshakes at once; who comes later waits.
pub const HANDSHAKES_MAX: usize = 128;
/// Time for a handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that wait to be served after their handshake.
const WAITING_MAX: usize = 64;
/// Life of our own certificate.
const OWN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long to wait after a certificate could not be made.
const RETRY: Duration = Duration::from_secs(5);

/// The TLS that is in force.
pub struct Door {
    identity: Arc<Identity>,
    config: ArcSwap<ServerConfig>,
    renew_at: ArcSwap<SystemTime>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Our own certificate.
    #[error("{0}")]
    Issue(#[from] issue::IssueError),
    /// The library refuses what it is given.
    #[error("{0}")]
    Tls(String),
}

impl Door {
    /// With a first certificate of our own.
    pub fn new(identity: Arc<Identity>, now: SystemTime) -> Result<Arc<Self>, DoorError> {
        let (config, renew_at) = context(&identity, now)?;
        let (config, renew_at) = (ArcSwap::from_pointee(config), ArcSwap::from_pointee(renew_at));
        Ok(Arc::new(Self { identity, config, renew_at }))
    }

    /// Renews the certificate at half of its life, and follows changes of who is trusted, until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.identity.watch();
        loop {
            let due = self.renew_at.load().duration_since(SystemTime::now()).unwrap_or(RETRY);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(due) => {}
            }
            match context(&self.identity, SystemTime::now()) {
                Ok((config, renew_at)) => {
                    self.config.store(Arc::new(config));
                    self.renew_at.store(Arc::new(renew_at));
                }
                Err(error) => {
                    tracing::error!(%error, "the control plane's own certificate cannot be renewed")
                }
            }
        }
    }

    /// The connections that come in and pass their handshake, until stopped.
    pub fn incoming(
        self: Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> impl Stream<Item = io::Result<Peer<TlsStream<TcpStream>>>> + Send {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let (places, handshakes) = (Places::default(), Arc::new(Semaphore::new(HANDSHAKES_MAX)));
            loop {
                let (stream, address) = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = accept(&listener) => accepted,
                };
                let Ok(place) = handshakes.clone().acquire_owned().await else { return };
                let (door, places, sender) = (self.clone(), places.clone(), sender.clone());
                tokio::spawn(async move {
                    let shaken = timeout(HANDSHAKE_TIMEOUT, door.shake(stream)).await;
                    drop(place);
                    let (stream, caller) = match shaken {
                        Ok(Ok(shaken)) => shaken,
                        Ok(Err(error)) => return refuse(&error.to_string()),
                        Err(_) => return refuse("no handshake in time"),
                    };
                    if let Some(peer) = places.admit(stream, Some(address), caller) {
                        let _ = sender.send(Ok(peer)).await;
                    }
                });
            }
        });
        stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
    }

    async fn shake(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Caller)> {
        let stream = TlsAcceptor::from(self.config.load_full()).accept(stream).await?;
        let caller = match stream.get_ref().1.peer_certificates() {
            None => Caller::Unproven,
            Some(chain) => {
                let found = chain.first().and_then(|leaf| named(leaf));
                let known = found.filter(|(id, _)| id.trust_domain() == self.identity.trust_domain());
                let (id, expires) = known.ok_or_else(|| io::Error::other("no SPIFFE id of this mesh"))?;
                Caller::Proven { id, expires }
            }
        };
        Ok((stream, caller))
    }
}

fn refuse(why: &str) {
    metrics::counter!("weft_control_handshakes_refused_total").increment(1);
    tracing::debug!(why, "handshake refused");
}

/// The one id of a leaf, and when it ends.
fn named(leaf: &CertificateDer<'_>) -> Option<(SpiffeId, SystemTime)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let id = uris.next()?.parse().ok()?;
    let (_, expires) = issue::validity(leaf)?;
    (uris.next().is_none() && !parsed.is_ca()).then_some((id, expires))
}

/// A new certificate of our own with a new key, whom to believe, and when to do so again.
fn context(identity: &Identity, now: SystemTime) -> Result<(ServerConfig, SystemTime), DoorError> {
    let tls = |error: &dyn std::fmt::Display| DoorError::Tls(error.to_string());
    let keyring = identity.keyring();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| tls(&error))?;
    let public = PublicKey::of_key(&key).map_err(|error| tls(&error))?;
    let id = SpiffeId::control_plane(identity.trust_domain()).map_err(|error| tls(&error))?;
    let leaf = keyring.signer().leaf(&public, &id, now, OWN_LIFE)?;
    let expires = issue::validity(&leaf).map_or(now, |(_, expires)| expires);
    // Who joins knows us by the hash of the root alone, so the root comes too.
    let above = keyring.intermediates().iter().chain([keyring.root()]).cloned();
    let chain = [leaf].into_iter().chain(above).collect();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| tls(&error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&keyring)?), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| tls(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls(&error))?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(|error| tls(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would not be verified again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let life = expires.duration_since(now).unwrap_or_default();
    Ok((config, now + life / 2))
}

fn roots(keyring: &Keyring) -> Result<RootCertStore, DoorError> {
    let mut roots = RootCertStore::empty();
    for root in keyring.trusted() {
        roots.add(root.clone()).map_err(|error| DoorError::Tls(error.to_string()))?;
    }
    Ok(roots)
}
