//! Service account tokens of Kubernetes, by the API server's own word (`TokenReview` of `authentication.k8s.io/v1`): it knows
//! which tokens it has taken back, and pods that are gone.
//!
//! A token counts if it is for our audience: one that a workload shows to others too would let those be the workload.

use std::{collections::BTreeMap, path::PathBuf, time::Duration, time::SystemTime};

use futures::future::BoxFuture;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, redirect::Policy};
use serde::Deserialize;
use serde_json::json;
use weft_proto::spiffe::SpiffeId;

use super::{Attestor, Refused};

/// Longest token, bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Largest answer, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest time for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What the name of a service account begins with.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// How an API server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its address, without a slash at its end.
    pub api: String,
    /// File with our own token, which may create token reviews; read anew for every question. None is a server that
    /// knows us otherwise, as behind `kubectl proxy`.
    pub token_file: Option<PathBuf>,
    /// PEM file with the CA of its certificate; none where it is not spoken to over TLS.
    pub ca_file: Option<PathBuf>,
    /// Audience that tokens must be for.
    pub audience: String,
    /// Service accounts (`namespace/name`) of adapters, and the source that each may speak for.
    pub adapters: BTreeMap<String, String>,
}

/// The attestor of one cluster.
pub struct Kubernetes {
    client: Client,
    options: Options,
    trust_domain: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Review {
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    error: String,
    audiences: Vec<String>,
    user: User,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
}

impl Kubernetes {
    /// An attestor; an error says what about the settings cannot be used. Reads the CA.
    pub fn new(options: Options, trust_domain: String) -> Result<Self, String> {
        let mut builder = Client::builder().timeout(ANSWER_MAX).redirect(Policy::none()).no_proxy();
        if let Some(file) = &options.ca_file {
            let shown = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
            let pem = std::fs::read(file).map_err(|error| shown(&error))?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(|error| shown(&error))?;
            builder = builder.tls_certs_only(roots);
        }
        let client = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { client, options, trust_domain })
    }

    async fn review(&self, token: &str) -> Result<Review, String> {
        let url = format!("{}/apis/authentication.k8s.io/v1/tokenreviews", self.options.api);
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self.options.audience]},
        });
        let request = self.signed(self.client.post(url).json(&question)).await?;
        // What reqwest says of a request may hold its body, so only the kind of trouble is passed on.
        let mut answer = request.send().await.map_err(|error| match error.is_timeout() {
            true => "the API server does not answer in time".to_owned(),
            false => "the API server cannot be reached".to_owned(),
        })?;
        if !matches!(answer.status(), StatusCode::OK | StatusCode::CREATED) {
            return Err(format!("the API server answers {} to a token review", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|_| "the answer breaks off".to_owned())? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err("the answer is too large".to_owned());
            }
            body.extend_from_slice(&piece);
        }
        serde_json::from_slice(&body).map_err(|_| "the answer is no token review".to_owned())
    }

    async fn signed(&self, request: RequestBuilder) -> Result<RequestBuilder, String> {
        let Some(file) = &self.options.token_file else { return Ok(request) };
        let own = tokio::fs::read_to_string(file).await;
        let own = own.map_err(|error| format!("our own token {}: {error}", file.display()))?;
        Ok(request.bearer_auth(own.trim()))
    }

    /// Whose a token is, of what the API server says about it.
    fn named(&self, review: &Review) -> Result<SpiffeId, String> {
        let Status { authenticated, error, audiences, user } = &review.status;
        if !authenticated || !error.is_empty() {
            return Err("the API server does not know the token".to_owned());
        }
        if !audiences.contains(&self.options.audience) {
            return Err(format!("the token is not for the audience {:?}", self.options.audience));
        }
        let account = user.username.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
        let Some((namespace, name)) = account else {
            return Err(format!("{:?} is no service account", user.username));
        };
        let id = match self.options.adapters.get(&format!("{namespace}/{name}")) {
            Some(source) => SpiffeId::adapter(&self.trust_domain, source),
            None => SpiffeId::workload(&self.trust_domain, namespace, name),
        };
        id.map_err(|error| error.to_string())
    }
}

impl Attestor for Kubernetes {
    fn attest<'a>(&'a self, token: &'a str, _now: SystemTime) -> BoxFuture<'a, Result<SpiffeId, Refused>> {
        Box::pin(async move {
            if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
                return Err(Refused("no service account token has this length".to_owned()));
            }
            let review = self.review(token).await.map_err(Refused)?;
            self.named(&review).map_err(Refused)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(status: &serde_json::Value) -> Result<String, String> {
        let options = Options {
            api: "http://127.0.0.1:1".to_owned(),
            token_file: None,
            ca_file: None,
            audience: "weft".to_owned(),
            adapters: [("mesh/adapter".to_owned(), "kubernetes/eu".to_owned())].into(),
        };
        let attestor = Kubernetes::new(options, "td".to_owned()).unwrap();
        let review = serde_json::from_value(json!({"kind": "TokenReview", "status": status})).unwrap();
        attestor.named(&review).map(|id| id.to_string())
    }

    fn status(username: &str, audiences: &[&str]) -> serde_json::Value {
        json!({"authenticated": true, "audiences": audiences, "user": {"username": username, "groups": []}})
    }

    #[test]
    fn a_service_account_is_a_workload_or_the_adapter_that_it_is_said_to_be() {
        let web = status("system:serviceaccount:shop:web", &["weft"]);
        assert_eq!(named(&web).unwrap(), "spiffe://td/ns/shop/sa/web");
        let adapter = status("system:serviceaccount:mesh:adapter", &["api", "weft"]);
        assert_eq!(named(&adapter).unwrap(), "spiffe://td/weft/adapter/kubernetes/eu");
    }

    #[test]
    fn what_is_not_said_in_full_proves_nothing() {
        let error = json!({"authenticated": true, "error": "expired", "audiences": ["weft"],
            "user": {"username": "system:serviceaccount:shop:web"}});
        for (status, why) in [
            (json!({}), "does not know"),
            (json!({"authenticated": false}), "does not know"),
            (error, "does not know"),
            (status("system:serviceaccount:shop:web", &["api"]), "audience"),
            (status("system:serviceaccount:shop:web", &[]), "audience"),
            (status("alice", &["weft"]), "no service account"),
            (status("system:serviceaccount:shop", &["weft"]), "no service account"),
            (status("system:serviceaccount:shop:a/b", &["weft"]), "no SPIFFE id"),
            (status("system:serviceaccount::web", &["weft"]), "no SPIFFE id"),
        ] {
            let found = named(&status).unwrap_err();
            assert!(found.contains(why), "{status}: {found}");
        }
    }
}
