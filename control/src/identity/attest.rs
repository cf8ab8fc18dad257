//! What proves an identity. Every way is closed until it is configured, but join tokens, which an operator makes.

use std::{sync::Arc, time::SystemTime};

use futures::future::BoxFuture;
use weft_proto::{identity::v1::sign_request::Credential, spiffe::SpiffeId};

use super::token::{self, Tokens};

pub mod kubernetes;

/// What a credential is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// A one-use join token.
    JoinToken,
    /// A service account token of Kubernetes.
    Kubernetes,
    /// A workload identity token of Nomad.
    Nomad,
    /// An ACL token of Consul.
    Consul,
}

impl Method {
    /// Its word in logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::JoinToken => "join_token",
            Self::Kubernetes => "kubernetes",
            Self::Nomad => "nomad",
            Self::Consul => "consul",
        }
    }

    /// The method of a credential, and its secret.
    pub fn of(credential: &Credential) -> (Self, &str) {
        match credential {
            Credential::JoinToken(secret) => (Self::JoinToken, secret),
            Credential::KubernetesToken(secret) => (Self::Kubernetes, secret),
            Credential::NomadToken(secret) => (Self::Nomad, secret),
            Credential::ConsulToken(secret) => (Self::Consul, secret),
        }
    }
}

/// Why nothing is proven: for the log. The peer is told only that it is so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// One way to prove an identity.
pub trait Attestor: Send + Sync {
    /// Who has this secret.
    fn attest<'a>(&'a self, secret: &'a str, now: SystemTime) -> BoxFuture<'a, Result<SpiffeId, Refused>>;
}

/// Every way that is open.
pub struct Attestors {
    trust_domain: String,
    open: Vec<(Method, Arc<dyn Attestor>)>,
}

impl Attestors {
    /// Join tokens alone.
    pub fn new(trust_domain: String, tokens: Arc<Tokens>) -> Self {
        Self { trust_domain, open: vec![(Method::JoinToken, Arc::new(JoinTokens(tokens)))] }
    }

    /// Opens one more way.
    pub fn open(&mut self, method: Method, attestor: Arc<dyn Attestor>) {
        self.open.push((method, attestor));
    }

    /// Who has this credential. What is proven is of our own trust domain, whatever an attestor says.
    pub async fn attest(&self, method: Method, secret: &str, now: SystemTime) -> Result<SpiffeId, Refused> {
        let found = self.open.iter().find(|(open, _)| *open == method);
        let (_, attestor) = found.ok_or_else(|| Refused(format!("{} is not configured", method.word())))?;
        let id = attestor.attest(secret, now).await?;
        if id.trust_domain() != self.trust_domain {
            return Err(Refused(format!("{id} is of another trust domain")));
        }
        Ok(id)
    }
}

struct JoinTokens(Arc<Tokens>);

impl Attestor for JoinTokens {
    fn attest<'a>(&'a self, text: &'a str, now: SystemTime) -> BoxFuture<'a, Result<SpiffeId, Refused>> {
        Box::pin(async move {
            let secret = token::secret(text).ok_or_else(|| Refused("malformed join token".to_owned()))?;
            let tokens = self.0.clone();
            let consumed = tokio::task::spawn_blocking(move || tokens.consume(&secret, now)).await;
            let consumed = consumed.map_err(|_| Refused("the task failed".to_owned()))?;
            consumed.map_err(|error| Refused(error.to_string()))
        })
    }
}
