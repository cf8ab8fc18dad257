//! What a peer of the port for proxies and adapters may do, by what it proved. Pure.

use std::time::SystemTime;

use weft_proto::{
    node::NodeMetadata,
    spiffe::{Principal, SpiffeId},
};

/// Who a peer proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody, on a port that asks for no proof: plaintext on loopback.
    Unasked,
    /// Nobody yet, on a port that asks for proof.
    Unproven,
    /// This one, until its certificate ends.
    Proven {
        /// Its id.
        id: SpiffeId,
        /// When its certificate ends.
        expires: SystemTime,
    },
}

/// Why a peer may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It proved nothing.
    Unauthenticated,
    /// It is someone else: what it asked for, and who may.
    Forbidden(String),
}

impl From<Denied> for tonic::Status {
    fn from(denied: Denied) -> Self {
        metrics::counter!("weft_access_denied_total").increment(1);
        match denied {
            Denied::Unauthenticated => {
                Self::unauthenticated("no certificate was shown; get one by weft.identity.v1 first")
            }
            Denied::Forbidden(why) => Self::permission_denied(why),
        }
    }
}

impl Caller {
    /// The id that was proven; none where none is asked for.
    pub fn proven(&self) -> Result<Option<&SpiffeId>, Denied> {
        match self {
            Self::Unasked => Ok(None),
            Self::Unproven => Err(Denied::Unauthenticated),
            Self::Proven { id, .. } => Ok(Some(id)),
        }
    }

    /// Whether it may have what a proxy with this metadata has: all that the metadata claims is its own identity. What
    /// they leave open, its certificate says.
    pub fn claim(&self, node: &mut NodeMetadata) -> Result<(), Denied> {
        let Some(id) = self.proven()? else { return Ok(()) };
        let Some((namespace, account)) = id.workload_parts() else {
            return Err(Denied::Forbidden(format!("{id} is no workload, so no proxy's")));
        };
        let differs = |field: &str, given: &str, own: &str| {
            let why = format!("node metadata {field} is {given:?}, and the certificate says {own:?}");
            Err(Denied::Forbidden(why))
        };
        if node.namespace != namespace {
            return differs("NAMESPACE", &node.namespace, namespace);
        }
        node.mtls = true;
        if node.service_account.is_empty() {
            account.clone_into(&mut node.service_account);
        } else if node.service_account != account {
            return differs("SERVICE_ACCOUNT", &node.service_account, account);
        }
        for (i, workload) in node.workloads.iter().enumerate() {
            if !workload.namespace.is_empty() && workload.namespace != namespace {
                return differs(&format!("WORKLOADS[{i}].namespace"), &workload.namespace, namespace);
            }
            if !workload.service_account.is_empty() && workload.service_account != account {
                return differs(
                    &format!("WORKLOADS[{i}].service_account"),
                    &workload.service_account,
                    account,
                );
            }
        }
        Ok(())
    }

    /// Whether it may speak for a source.
    pub fn speak_for(&self, source: &str) -> Result<(), Denied> {
        match self.proven()? {
            None => Ok(()),
            Some(id) if id.principal() == Principal::Adapter(source) => Ok(()),
            Some(id) => Err(Denied::Forbidden(format!("{id} may not speak for the source {source:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven(text: &str) -> Caller {
        Caller::Proven { id: text.parse().unwrap(), expires: SystemTime::UNIX_EPOCH }
    }

    fn node(namespace: &str, account: &str) -> NodeMetadata {
        let (namespace, service_account) = (namespace.to_owned(), account.to_owned());
        NodeMetadata { namespace, service_account, ..NodeMetadata::default() }
    }

    #[test]
    fn a_proxy_claims_no_more_than_its_certificate_says() {
        let web = proven("spiffe://td/ns/shop/sa/web");
        let mut open = node("shop", "");
        web.claim(&mut open).unwrap();
        assert_eq!(open.service_account, "web");
        assert!(web.claim(&mut node("shop", "web")).is_ok());
        assert!(Caller::Unasked.claim(&mut node("any", "other")).is_ok());
        assert_eq!(Caller::Unproven.claim(&mut node("shop", "web")), Err(Denied::Unauthenticated));
        let mut shared = node("shop", "web");
        shared.workloads =
            vec![weft_proto::node::LocalWorkload { namespace: "bank".to_owned(), ..Default::default() }];
        for (caller, mut claimed) in [
            (&web, node("bank", "")),
            (&web, node("shop", "db")),
            (&web, node("sho", "web")),
            (&web, shared),
            (&proven("spiffe://td/weft/control-plane"), node("default", "")),
            (&proven("spiffe://td/weft/adapter/files"), node("default", "")),
        ] {
            assert!(
                matches!(caller.claim(&mut claimed), Err(Denied::Forbidden(_))),
                "{caller:?} {claimed:?}"
            );
        }
    }

    #[test]
    fn an_adapter_speaks_for_its_own_source_alone() {
        let adapter = proven("spiffe://td/weft/adapter/consul/dc1");
        assert!(adapter.speak_for("consul/dc1").is_ok() && Caller::Unasked.speak_for("any").is_ok());
        for (caller, source) in [
            (&adapter, "consul/dc"),
            (&adapter, "consul/dc10"),
            (&adapter, "dc1"),
            (&proven("spiffe://td/ns/a/sa/b"), "consul/dc1"),
            (&Caller::Unproven, "consul/dc1"),
        ] {
            assert!(caller.speak_for(source).is_err(), "{caller:?} {source}");
        }
    }
}
