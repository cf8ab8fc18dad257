//! `weft.identity.v1.Identity`: certificates for whoever proves an identity, and whom to believe.

use std::{pin::Pin, sync::Arc, time::SystemTime};

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};
use weft_proto::{
    identity::v1::{self as wire, identity_server},
    spiffe::SpiffeId,
};

use super::{
    Believer, Identity,
    access::Caller,
    attest::{Method, Refused},
    request::PublicKey,
};
use crate::peer::PeerInfo;

/// Bytes of one message: a request and a token of any platform.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Credentials that are looked at, and certificates that are signed, at once.
pub const SIGNING_MAX: usize = 64;
/// Clients that are told of changes of the bundle at once.
pub const BELIEVERS_MAX: usize = 16_384;
/// Bundles that wait for one client; the newest is told once it reads.
const BUNDLES_MAX: usize = 1;

/// The service.
pub struct IdentityService {
    identity: Arc<Identity>,
    signing: Semaphore,
    places: Arc<Semaphore>,
    stop: CancellationToken,
    streams: TaskTracker,
}

impl IdentityService {
    /// The tonic service, with its limits.
    pub fn server(
        identity: Arc<Identity>,
        stop: CancellationToken,
        streams: TaskTracker,
    ) -> identity_server::IdentityServer<Self> {
        let (signing, places) = (Semaphore::new(SIGNING_MAX), Arc::new(Semaphore::new(BELIEVERS_MAX)));
        identity_server::IdentityServer::new(Self { identity, signing, places, stop, streams })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Who asks, by the credential or the certificate of the connection.
    async fn proven(
        &self,
        request: &wire::SignRequest,
        peer: &PeerInfo,
        now: SystemTime,
    ) -> Result<(SpiffeId, &'static str), Status> {
        let Some(credential) = &request.credential else {
            return match &peer.caller {
                // The connection may have outlived its certificate by a moment.
                Caller::Proven { id, expires } if *expires > now => Ok((id.clone(), "certificate")),
                _ => Err(Status::unauthenticated("neither a credential nor a certificate was shown")),
            };
        };
        let (method, secret) = Method::of(credential);
        match self.identity.attestors().attest(method, secret, now).await {
            Ok(id) => Ok((id, method.word())),
            Err(Refused(why)) => {
                metrics::counter!("weft_identity_refused_total", "method" => method.word()).increment(1);
                tracing::warn!(target: "audit", method = method.word(), peer = ?peer.address, %why, "credential refused");
                Err(Status::unauthenticated("the credential proves nothing here"))
            }
        }
    }
}

fn bundle(identity: &Identity) -> wire::Bundle {
    let keyring = identity.keyring();
    wire::Bundle {
        version: keyring.version(),
        trust_domain: identity.trust_domain().to_owned(),
        authorities: keyring.trusted().map(|root| root.to_vec()).collect(),
    }
}

fn peer_of<T>(request: &Request<T>) -> Result<PeerInfo, Status> {
    let peer = request.extensions().get::<PeerInfo>().cloned();
    peer.ok_or_else(|| Status::internal("the connection is not known"))
}

#[tonic::async_trait]
impl identity_server::Identity for IdentityService {
    type TrustStream = Pin<Box<dyn Stream<Item = Result<wire::Bundle, Status>> + Send>>;

    async fn sign(
        &self,
        request: Request<wire::SignRequest>,
    ) -> Result<Response<wire::SignResponse>, Status> {
        let peer = peer_of(&request)?;
        let request = request.into_inner();
        let _place = self.signing.acquire().await.map_err(|_| Status::unavailable("stopping"))?;
        let now = SystemTime::now();
        // A request that cannot be signed must not cost its bearer the one use of a token.
        let key = PublicKey::of_request(&request.csr)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (id, method) = self.proven(&request, &peer, now).await?;
        let issued = self.identity.issue(&key, &id, now).map_err(|error| {
            tracing::error!(%error, %id, "a certificate cannot be signed");
            Status::unavailable("certificates cannot be signed now")
        })?;
        metrics::counter!("weft_identity_issued_total", "method" => method).increment(1);
        tracing::info!(target: "audit", %id, method, peer = ?peer.address, "certificate issued");
        let chain = issued.chain.iter().map(|one| one.to_vec()).collect();
        Ok(Response::new(wire::SignResponse { chain, bundle: Some(bundle(&self.identity)) }))
    }

    async fn trust(
        &self,
        request: Request<Streaming<wire::TrustRequest>>,
    ) -> Result<Response<Self::TrustStream>, Status> {
        let peer = peer_of(&request)?;
        peer.caller.proven()?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{BELIEVERS_MAX} clients follow the bundle already"))
        })?;
        let (answers, receiver) = mpsc::channel(BUNDLES_MAX);
        let (identity, stop) = (self.identity.clone(), self.stop.clone());
        let mut requests = request.into_inner();
        self.streams.spawn(async move {
            let told = tokio::select! {
                told = tell(&identity, &mut requests, &answers) => told,
                () = stop.cancelled() => Err(Status::unavailable("the control plane is stopping")),
            };
            drop(place);
            if let Err(status) = told {
                // The peer may be gone already; then nobody is left to tell.
                let _ = answers.try_send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// One client, from its first word to its end.
async fn tell(
    identity: &Arc<Identity>,
    requests: &mut Streaming<wire::TrustRequest>,
    answers: &mpsc::Sender<Result<wire::Bundle, Status>>,
) -> Result<(), Status> {
    let Some(first) = requests.next().await.transpose()? else { return Ok(()) };
    let mut changes = identity.watch();
    let believer: Believer = identity.believer(first.version);
    let mut told = first.version;
    loop {
        changes.mark_unchanged();
        let bundle = bundle(identity);
        if bundle.version != told {
            told = bundle.version;
            if answers.send(Ok(bundle)).await.is_err() {
                return Ok(());
            }
        }
        tokio::select! {
            changed = changes.changed() => changed.map_err(|_| Status::unavailable("stopping"))?,
            request = requests.next() => match request.transpose()? {
                Some(request) => believer.believes(request.version),
                None => return Ok(()),
            },
        }
    }
}
