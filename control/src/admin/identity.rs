//! Join tokens and the certificate authority, as people ask for them.

use std::time::{Duration, SystemTime};

use tonic::Status;
use weft_proto::{
    admin::v1::{self as wire, create_token_request::Bearer},
    spiffe::SpiffeId,
};

use super::Admin;
use crate::identity::{
    Identity,
    token::{LIFE_DEFAULT, LIFE_MAX},
};

impl Admin {
    /// Makes a join token.
    pub(super) async fn create_token(
        &self,
        request: wire::CreateTokenRequest,
    ) -> Result<wire::CreateTokenResponse, Status> {
        let identity = self.authority()?.clone();
        let id = bearer(&identity, request.bearer)?;
        let life = match request.ttl_seconds {
            0 => LIFE_DEFAULT,
            seconds => Duration::from_secs(seconds.into()),
        };
        if life > LIFE_MAX {
            return Err(Status::invalid_argument(format!("ttl_seconds: at most {}", LIFE_MAX.as_secs())));
        }
        let bearer = id.clone();
        let created =
            tokio::task::spawn_blocking(move || identity.create_token(bearer, life, SystemTime::now())).await;
        let created = created.map_err(|_| Status::internal("the task failed"))?;
        let (token, expires) = created.map_err(Status::resource_exhausted)?;
        tracing::info!(target: "audit", %id, "join token created");
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(wire::CreateTokenResponse {
            token,
            identity: id.to_string(),
            expires_at_seconds: i64::try_from(expires).unwrap_or(i64::MAX),
        })
    }

    /// Begins to replace the root authority.
    pub(super) async fn rotate_authority(&self) -> Result<wire::RotateAuthorityResponse, Status> {
        if self.settings.identity.supplied.is_some() {
            let why = "the authority is the operator's own: put a new one into its folder and restart";
            return Err(Status::failed_precondition(why));
        }
        let identity = self.authority()?.clone();
        let rotated = tokio::task::spawn_blocking(move || identity.rotate(SystemTime::now())).await;
        let rotated = rotated.map_err(|_| Status::internal("the task failed"))?;
        let bundle_version = rotated.map_err(|error| Status::internal(error.to_string()))?;
        tracing::info!(target: "audit", bundle_version, "rotation of the root authority began");
        Ok(wire::RotateAuthorityResponse { bundle_version })
    }

    fn authority(&self) -> Result<&std::sync::Arc<Identity>, Status> {
        let why =
            "there are no identities: this control plane serves in plaintext alone; start it with --tls-bind";
        self.identity.as_ref().ok_or_else(|| Status::failed_precondition(why))
    }
}

fn bearer(identity: &Identity, bearer: Option<Bearer>) -> Result<SpiffeId, Status> {
    let domain = identity.trust_domain();
    let id = match bearer {
        Some(Bearer::Workload(wire::WorkloadIdentity { namespace, service_account })) => {
            SpiffeId::workload(domain, &namespace, &service_account)
        }
        Some(Bearer::Adapter(source)) => SpiffeId::adapter(domain, &source),
        None => return Err(Status::invalid_argument("bearer: missing")),
    };
    id.map_err(|error| Status::invalid_argument(error.to_string()))
}
