//! `envoy.service.secret.v3.SecretDiscoveryService`, state of the world: the own certificate with its key, and the
//! authorities of the own trust domain.

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt, stream};
use prost::{Message, Name};
use rustls::pki_types::CertificateDer;
use tonic::{Request, Response, Status, Streaming};
use weft_proto::{
    node::{OWN_AUTHORITIES, OWN_CERTIFICATE},
    xds::{
        envoy::{
            config::core::v3::{DataSource, data_source::Specifier},
            extensions::transport_sockets::tls::v3::{
                CertificateValidationContext, Secret, TlsCertificate, secret::Type,
            },
            service::{
                discovery::v3::{
                    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
                },
                secret::v3::secret_discovery_service_server::{
                    SecretDiscoveryService, SecretDiscoveryServiceServer,
                },
            },
        },
        google::protobuf::Any,
    },
};

use super::{Answers, Asked, REQUEST_BYTES_MAX, STREAMS_MAX};
use crate::identity::Svid;

/// The service.
pub(super) fn server(asked: Asked) -> SecretDiscoveryServiceServer<Asked> {
    SecretDiscoveryServiceServer::new(asked).max_decoding_message_size(REQUEST_BYTES_MAX)
}

/// Lines of PEM have this many characters.
const PEM_LINE: usize = 64;

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(PEM_LINE) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

fn certificates<'a>(all: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Option<DataSource> {
    let text: String = all.into_iter().map(|one| pem("CERTIFICATE", one)).collect();
    Some(inline(text))
}

fn inline(text: String) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(text.into_bytes())), ..DataSource::default() }
}

/// What is delivered under a name; nothing under one that is not known.
fn secret(name: &str, svid: &Svid) -> Option<Secret> {
    let content = match name {
        OWN_CERTIFICATE => Type::TlsCertificate(TlsCertificate {
            certificate_chain: certificates(svid.chain()),
            private_key: Some(inline(pem("PRIVATE KEY", svid.reveal_key()))),
            ..TlsCertificate::default()
        }),
        OWN_AUTHORITIES => Type::ValidationContext(CertificateValidationContext {
            trusted_ca: certificates(&svid.trust.roots),
            ..CertificateValidationContext::default()
        }),
        _ => return None,
    };
    Some(Secret { name: name.to_owned(), r#type: Some(content) })
}

fn response(names: &[String], svid: &Svid, version: u64) -> DiscoveryResponse {
    let found = names.iter().filter_map(|name| secret(name, svid));
    let any = |secret: Secret| Any { type_url: Secret::type_url(), value: secret.encode_to_vec() };
    DiscoveryResponse {
        version_info: version.to_string(),
        nonce: version.to_string(),
        type_url: Secret::type_url(),
        resources: found.map(any).collect(),
        ..DiscoveryResponse::default()
    }
}

/// One stream.
struct Talk {
    requests: Streaming<DiscoveryRequest>,
    identity: crate::identity::Current,
    names: Vec<String>,
    version: u64,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl Talk {
    /// The next answer: to names that are asked for, and to an identity that changed.
    async fn next(&mut self) -> Option<Result<DiscoveryResponse, Status>> {
        loop {
            tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Some(refusal) = request.error_detail {
                            // The same again would be refused again.
                            tracing::warn!(reason = refusal.message, "Envoy refused a secret");
                            continue;
                        }
                        let acknowledges = !request.response_nonce.is_empty() && request.resource_names == self.names;
                        if acknowledges {
                            continue;
                        }
                        self.names = request.resource_names;
                    }
                    Ok(None) => return None,
                    Err(status) => return Some(Err(status)),
                },
                changed = self.identity.changed() => changed.ok()?,
            }
            let Some(svid) = self.identity.borrow_and_update().clone() else { continue };
            if !self.names.is_empty() {
                self.version += 1;
                return Some(Ok(response(&self.names, &svid, self.version)));
            }
        }
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Asked {
    type StreamSecretsStream = Answers<DiscoveryResponse>;
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let place = self
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted(format!("{STREAMS_MAX} streams are open already")))?;
        let (requests, identity) = (request.into_inner(), self.identity.clone());
        let talk = Talk { requests, identity, names: Vec::new(), version: 0, _place: place };
        let answers = stream::unfold(talk, async |mut talk| Some((talk.next().await?, talk)));
        Ok(Response::new(answers.boxed()))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("ask by StreamSecrets, api_type GRPC"))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let svid = self.identity.borrow().clone();
        let svid = svid.ok_or_else(|| Status::unavailable("there is no identity yet"))?;
        Ok(Response::new(response(&request.into_inner().resource_names, &svid, 1)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
    use weft_proto::identity::v1::Bundle;

    use super::*;
    use crate::tls::{
        provider,
        secret::Certificate,
        testing::{Ca, spiffe},
    };

    #[test]
    fn envoy_is_told_the_certificate_with_its_key_and_the_roots_and_nothing_else() {
        let ca = Ca::new("mesh");
        let issued = ca.issue(&spiffe("spiffe://td/ns/shop/sa/web"));
        let root = CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap();
        let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let bundle = Bundle { version: 1, trust_domain: "td".into(), authorities: vec![root.to_vec()] };
        let now = UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        let svid = Svid::new(chain, key.secret_der(), &bundle, now).unwrap();

        let names = ["default", "ROOTCA", "kubernetes://other"].map(str::to_owned);
        let told = response(&names, &svid, 7);
        assert_eq!((told.version_info.as_str(), told.resources.len()), ("7", 2));
        let Some(Type::TlsCertificate(own)) = secret("default", &svid).unwrap().r#type else { panic!() };
        let bytes = |source: Option<DataSource>| match source.unwrap().specifier {
            Some(Specifier::InlineBytes(bytes)) => bytes,
            other => panic!("{other:?}"),
        };
        let parsed = Certificate::parse(&bytes(own.certificate_chain), &bytes(own.private_key), provider());
        assert_eq!(parsed.unwrap(), *svid.certificate);
        let Some(Type::ValidationContext(roots)) = secret("ROOTCA", &svid).unwrap().r#type else { panic!() };
        assert_eq!(CertificateDer::from_pem_slice(&bytes(roots.trusted_ca)).unwrap(), root);
    }
}
