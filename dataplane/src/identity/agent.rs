//! Gets an identity and keeps it: makes a key, proves who we are, renews at half life with a new key, and follows the
//! bundle, telling the control plane which one is in force.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use weft_proto::identity::v1::{
    SignRequest, TrustRequest, identity_client::IdentityClient, sign_request::Credential,
};

use super::{Current, Svid, Trusted, connect, disk::Home, pace, pin::Pin, proof::Proof};

/// Time for a connection and for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle control plane is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(5)];
/// Pause before the bundle is followed again.
const FOLLOW_PAUSE: Duration = Duration::from_secs(2);

/// What an agent needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Control planes over TLS, tried in turn; at least one.
    pub control_planes: Vec<Endpoint>,
    /// What proves who we are the first time.
    pub join_token: Option<Token>,
    /// What proves it whenever there is no identity, where the platform gives such a thing.
    pub proof: Option<Proof>,
    /// How the control plane is known the first time; none is by the token.
    pub pin: Option<Pin>,
    /// Where the identity is kept; none is nowhere.
    pub home: Option<PathBuf>,
}

/// A join token, which nobody prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a join token, not shown")
    }
}

/// Why no agent can run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The folder.
    #[error("the identity's folder {0}: {1}")]
    Home(String, std::io::Error),
    /// Nothing to begin with.
    #[error(
        "there is no identity, and nothing to get one with; make a token with `weft token create` and give it by \
         join_token_file (or WEFT_JOIN_TOKEN_FILE), or name the platform's own by proof (or WEFT_PROOF)"
    )]
    NoCredential,
    /// Nothing by which to know the control plane.
    #[error(
        "nothing says which control plane to believe; give its root by control_ca_file, or a whole join token"
    )]
    NoPin,
}

/// Gets an identity and keeps it.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    home: Option<Home>,
    pin: Option<Pin>,
    current: watch::Sender<Option<Arc<Svid>>>,
}

impl Agent {
    /// With what was kept, where it can still be used at `now`.
    pub fn new(settings: Settings, now: SystemTime) -> Result<Self, AgentError> {
        let shown = |home: &PathBuf| home.display().to_string();
        let home =
            settings.home.as_ref().map(|home| Home::open(home).map_err(|e| AgentError::Home(shown(home), e)));
        let home = home.transpose()?;
        let kept = match home.as_ref().map(|home| home.load(now)) {
            Some(Ok(kept)) => kept.filter(|svid| now < svid.validity.1),
            Some(Err(error)) => {
                tracing::warn!(%error, "the identity that was kept cannot be used");
                None
            }
            None => None,
        };
        if kept.is_none() && settings.join_token.is_none() && settings.proof.is_none() {
            return Err(AgentError::NoCredential);
        }
        let of_token = || settings.join_token.as_ref().and_then(|token| Pin::of_token(&token.0));
        let pin = settings.pin.clone().or_else(of_token);
        if kept.is_none() && pin.is_none() {
            return Err(AgentError::NoPin);
        }
        let current = watch::Sender::new(kept.map(Arc::new));
        Ok(Self { settings, home, pin, current })
    }

    /// The identity, as it changes.
    pub fn current(&self) -> Current {
        self.current.subscribe()
    }

    /// Gets an identity now if there is none that is valid, from the first control plane that gives one. For who has a
    /// moment only; [`Agent::run`] tries for ever.
    pub async fn join(&self) -> Result<(), String> {
        let mut outcome = Ok(());
        for plane in &self.settings.control_planes {
            if self.current.borrow().as_ref().is_some_and(|svid| svid.is_valid(SystemTime::now())) {
                return Ok(());
            }
            outcome = self.renew(plane).await.map_err(|error| format!("{}: {error}", plane.uri()));
        }
        outcome
    }

    /// Runs until stopped.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.renew_for_ever() => {}
            () = self.follow_for_ever() => {}
        }
    }

    async fn renew_for_ever(&self) {
        let mut planes = self.settings.control_planes.iter().cycle();
        let mut pause = pace::RETRY_MIN;
        loop {
            self.until_due().await;
            let Some(plane) = planes.next() else { return };
            match self.renew(plane).await {
                Ok(()) => pause = pace::RETRY_MIN,
                Err(error) => {
                    metrics::counter!("weft_identity_renewals_failed_total").increment(1);
                    let left = self.left();
                    tracing::warn!(address = %plane.uri(), %error, ?left, "no certificate came");
                    let (now, next) = pace::retry(pause, left, rand::random());
                    pause = next;
                    tokio::time::sleep(now).await;
                }
            }
        }
    }

    /// How long the certificate is still good.
    fn left(&self) -> Duration {
        let current = self.current.borrow();
        let expires = current.as_ref().map(|svid| svid.validity.1);
        expires.and_then(|expires| expires.duration_since(SystemTime::now()).ok()).unwrap_or_default()
    }

    /// Waits until the certificate is to be renewed. The clock may be set meanwhile, so it is looked at now and then.
    async fn until_due(&self) {
        const LOOK: Duration = Duration::from_secs(30);
        let Some(svid) = self.current.borrow().clone() else { return };
        let due = pace::renewal(svid.came, svid.validity.1, rand::random());
        loop {
            let left = self.left();
            metrics::gauge!("weft_identity_expiry_seconds").set(left.as_secs_f64());
            let Ok(wait) = due.duration_since(SystemTime::now()) else { return };
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait.min(LOOK)).await;
        }
    }

    async fn renew(&self, plane: &Endpoint) -> Result<(), String> {
        let own = self.current.borrow().clone().filter(|svid| svid.is_valid(SystemTime::now()));
        let credential = match (&own, &self.settings.proof, &self.settings.join_token) {
            (Some(_), ..) => None,
            (None, Some(proof), _) => Some(proof.credential().await?),
            (None, None, Some(token)) => Some(Credential::JoinToken(token.0.trim().to_owned())),
            (None, None, None) => {
                return Err("the certificate has expired, and there is no join token".to_owned());
            }
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
        let request =
            CertificateParams::default().serialize_request(&key).map_err(|error| error.to_string())?;
        let channel = self.channel(plane, own).await?;
        let request = SignRequest { csr: request.der().to_vec(), credential };
        let signed = IdentityClient::new(channel).sign(request).await;
        let signed = signed.map_err(|status| status.message().to_owned())?.into_inner();
        let bundle = signed.bundle.ok_or("the answer has no bundle")?;
        let chain = signed.chain.into_iter().map(CertificateDer::from).collect();
        let svid = Svid::new(chain, &key.serialize_der(), &bundle, SystemTime::now())
            .map_err(|error| error.to_string())?;
        tracing::info!(id = %svid.id, expires_in = ?svid.validity.1.duration_since(SystemTime::now()), "certificate came");
        metrics::counter!("weft_identity_renewals_total").increment(1);
        self.put(|before| {
            Some(match before {
                Some(before) if before.trust.version > svid.trust.version => {
                    svid.trusting(before.trust.clone())
                }
                Some(before) => svid.trusting(svid.trust.clone().over(&before.trust)),
                None => svid,
            })
        })
        .await;
        Ok(())
    }

    async fn channel(&self, plane: &Endpoint, own: Option<Arc<Svid>>) -> Result<Channel, String> {
        let [interval, timeout] = KEEPALIVE;
        let endpoint = plane
            .clone()
            .connect_timeout(TIMEOUT)
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(true);
        let connected = connect::secure(endpoint, own, self.pin.clone());
        tokio::time::timeout(TIMEOUT, connected).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    /// Follows the bundle, over one connection after another.
    async fn follow_for_ever(&self) {
        let mut identity = self.current();
        for plane in self.settings.control_planes.iter().cycle() {
            let Ok(own) = identity.wait_for(Option::is_some).await.map(|own| own.clone()) else { return };
            if let Err(reason) = self.follow(plane, own).await {
                tracing::debug!(address = %plane.uri(), %reason, "the bundle is not followed");
            }
            tokio::time::sleep(FOLLOW_PAUSE).await;
        }
    }

    async fn follow(&self, plane: &Endpoint, own: Option<Arc<Svid>>) -> Result<(), String> {
        let version = || self.current.borrow().as_ref().map_or(0, |svid| svid.trust.version);
        let mut client = IdentityClient::new(self.channel(plane, own).await?);
        let (sender, receiver) = mpsc::channel(2);
        let full = |_| "the control plane does not read".to_owned();
        sender.try_send(TrustRequest { version: version() }).map_err(full)?;
        let answers = client.trust(ReceiverStream::new(receiver)).await;
        let mut answers = answers.map_err(|status| status.message().to_owned())?.into_inner();
        while let Some(bundle) = answers.message().await.map_err(|status| status.message().to_owned())? {
            let trust = Trusted::new(&bundle).map_err(|error| error.to_string())?;
            tracing::info!(
                version = trust.version,
                roots = trust.roots.len(),
                "the trusted authorities changed"
            );
            self.put(|before| before.map(|svid| svid.trusting(trust))).await;
            sender.try_send(TrustRequest { version: version() }).map_err(full)?;
        }
        Ok(())
    }

    /// Replaces the identity, and keeps it.
    async fn put(&self, next: impl FnOnce(Option<&Svid>) -> Option<Svid>) {
        self.current.send_modify(|current| *current = next(current.as_deref()).map(Arc::new));
        let (home, svid) = (self.home.clone(), self.current.borrow().clone());
        let (Some(home), Some(svid)) = (home, svid) else { return };
        let saved = tokio::task::spawn_blocking(move || home.save(&svid)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the identity cannot be kept; a restart would need to join anew");
        }
    }
}
