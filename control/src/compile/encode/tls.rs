//! TLS contexts and secrets.

use std::sync::Arc;

use prost::Name;
use weft_proto::{
    node::{AGENT_CLUSTER, OWN_AUTHORITIES, OWN_CERTIFICATE},
    xds::envoy::{
        config::core::v3::{
            ApiConfigSource, ApiVersion, ConfigSource, DataSource, GrpcService, TransportSocket,
            api_config_source::ApiType,
            config_source::ConfigSourceSpecifier,
            data_source::Specifier,
            grpc_service::{EnvoyGrpc, TargetSpecifier},
            transport_socket::ConfigType,
        },
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
            Secret as Encoded, SubjectAltNameMatcher, TlsCertificate, TlsParameters, UpstreamTlsContext,
            common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
            secret::Type,
            subject_alt_name_matcher::SanType,
            tls_parameters::TlsProtocol,
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
};

use super::{ads, any, flag};
use crate::{
    compile::ir::{Authorities, Certificate, ClientTls, Secret, SecretContent, ServerTls, Servers},
    documents::{NameForm, Sensitive, TlsVersion},
};

/// What proxies of the mesh offer over mutual TLS, by which a port that also takes plain text knows them; Istio's word.
pub(crate) const MESH: &str = "istio";
const TLS: &str = "envoy.transport_sockets.tls";

/// TLS of a filter chain.
pub(crate) fn downstream(tls: &ServerTls) -> TransportSocket {
    let mut common = CommonTlsContext {
        tls_params: Some(TlsParameters {
            // Below 1.2 only where somebody asks for it.
            tls_minimum_protocol_version: protocol(Some(tls.min.unwrap_or(TlsVersion::V12))).into(),
            tls_maximum_protocol_version: protocol(tls.max).into(),
            cipher_suites: tls.suites.iter().map(|suite| suite.to_string()).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mesh = tls.certificates.contains(&Certificate::Own);
    if mesh && !tls.http {
        common.alpn_protocols = vec![MESH.to_owned()];
    }
    if tls.http {
        common.alpn_protocols = ["h2", "http/1.1"].map(str::to_owned).into();
    }
    tls.certificates.iter().for_each(|certificate| show(&mut common, certificate));
    let required = tls.clients.as_ref().is_some_and(|clients| clients.required);
    common.validation_context_type = tls.clients.as_ref().map(|clients| {
        let conditions = CertificateValidationContext {
            match_typed_subject_alt_names: names(&clients.names, &clients.domains),
            verify_certificate_spki: clients.key_pins.iter().map(|pin| pin.to_string()).collect(),
            verify_certificate_hash: clients.certificate_pins.iter().map(|pin| pin.to_string()).collect(),
            ..Default::default()
        };
        validation(&clients.authorities, conditions)
    });
    let context = DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: flag(required),
        ..Default::default()
    };
    socket(any(&DownstreamTlsContext::full_name(), &context))
}

/// TLS of a cluster.
pub(crate) fn upstream(tls: &ClientTls) -> TransportSocket {
    let mut common = CommonTlsContext::default();
    tls.certificate.iter().for_each(|certificate| show(&mut common, certificate));
    if tls.certificate == Some(Certificate::Own) {
        // As a client Envoy speaks no more than 1.2 unless it is told.
        common.tls_params = Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            ..Default::default()
        });
    }
    common.validation_context_type = tls.servers.as_ref().map(|servers| {
        let conditions = CertificateValidationContext {
            match_typed_subject_alt_names: names(&servers.names, &servers.domains),
            ..Default::default()
        };
        validation(&servers.authorities, conditions)
    });
    common.alpn_protocols = tls.applications.iter().map(|&one| one.to_owned()).collect();
    let nameless = |servers: &Servers| servers.names.is_empty() && servers.domains.is_empty();
    let by_sni = tls.sni.is_some() && tls.servers.as_ref().is_some_and(nameless);
    let context = UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: tls.sni.as_deref().unwrap_or_default().to_owned(),
        auto_sni_san_validation: by_sni,
        ..Default::default()
    };
    socket(any(&UpstreamTlsContext::full_name(), &context))
}

/// A secret.
pub(crate) fn secret(secret: &Secret) -> Encoded {
    let inline = |bytes: &Sensitive| {
        Some(DataSource {
            specifier: Some(Specifier::InlineBytes(bytes.reveal().to_vec())),
            ..Default::default()
        })
    };
    let content = match &secret.content {
        SecretContent::Certificate(chain, key) => Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(chain),
            private_key: inline(key),
            ..Default::default()
        }),
        SecretContent::Authorities(authorities, lists) => {
            Type::ValidationContext(CertificateValidationContext {
                trusted_ca: inline(authorities),
                crl: lists.as_ref().and_then(inline),
                ..Default::default()
            })
        }
    };
    Encoded { name: secret.name.to_string(), r#type: Some(content) }
}

fn socket(config: weft_proto::xds::google::protobuf::Any) -> TransportSocket {
    TransportSocket { name: TLS.to_owned(), config_type: Some(ConfigType::TypedConfig(config)) }
}

fn show(common: &mut CommonTlsContext, certificate: &Certificate) {
    match certificate {
        Certificate::Secret(name) => common.tls_certificate_sds_secret_configs.push(sds(name)),
        Certificate::Own => common.tls_certificate_sds_secret_configs.push(of_agent(OWN_CERTIFICATE)),
        Certificate::Files(chain, key) => common.tls_certificates.push(TlsCertificate {
            certificate_chain: file(chain),
            private_key: file(key),
            ..Default::default()
        }),
    }
}

fn validation(
    authorities: &Authorities,
    mut conditions: CertificateValidationContext,
) -> ValidationContextType {
    match authorities {
        Authorities::Files(path, lists) => {
            conditions.trusted_ca = file(path);
            conditions.crl = lists.as_ref().and_then(file);
            ValidationContextType::ValidationContext(conditions)
        }
        Authorities::Secret(name) => combined(conditions, sds(name)),
        Authorities::Own => combined(conditions, of_agent(OWN_AUTHORITIES)),
    }
}

fn combined(conditions: CertificateValidationContext, named: SdsSecretConfig) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(conditions),
        validation_context_sds_secret_config: Some(named),
        ..Default::default()
    })
}

/// A secret that the proxy's agent delivers, over a socket of its host.
fn of_agent(name: &str) -> SdsSecretConfig {
    let envoy = EnvoyGrpc { cluster_name: AGENT_CLUSTER.to_owned(), ..Default::default() };
    let service =
        GrpcService { target_specifier: Some(TargetSpecifier::EnvoyGrpc(envoy)), ..Default::default() };
    let api = ApiConfigSource {
        api_type: ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![service],
        set_node_on_first_message_only: true,
        ..Default::default()
    };
    let source = ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(api)),
        resource_api_version: ApiVersion::V3.into(),
        ..Default::default()
    };
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(source) }
}

fn sds(name: &Arc<str>) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_string(), sds_config: ads() }
}

fn file(path: &Arc<str>) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::Filename(path.to_string())), ..Default::default() })
}

fn names(names: &[Arc<str>], domains: &[Arc<str>]) -> Vec<SubjectAltNameMatcher> {
    let of_domain = |domain: &Arc<str>| SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Prefix(format!("spiffe://{domain}/"))),
            ..Default::default()
        }),
        ..Default::default()
    };
    let matcher = |name: &Arc<str>| SubjectAltNameMatcher {
        san_type: match NameForm::of(name) {
            NameForm::Uri => SanType::Uri,
            NameForm::Ip => SanType::IpAddress,
            NameForm::Dns => SanType::Dns,
        }
        .into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(name.to_string())),
            ..Default::default()
        }),
        ..Default::default()
    };
    names.iter().map(matcher).chain(domains.iter().map(of_domain)).collect()
}

fn protocol(version: Option<TlsVersion>) -> TlsProtocol {
    match version {
        None => TlsProtocol::TlsAuto,
        Some(TlsVersion::V10) => TlsProtocol::TlSv10,
        Some(TlsVersion::V11) => TlsProtocol::TlSv11,
        Some(TlsVersion::V12) => TlsProtocol::TlSv12,
        Some(TlsVersion::V13) => TlsProtocol::TlSv13,
    }
}
