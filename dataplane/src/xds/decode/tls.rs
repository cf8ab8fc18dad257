//! TLS contexts: of the proxy as server, and as client.

use std::{collections::BTreeMap, mem::take, path::Path, sync::Arc, time::Duration};

use rustls::{
    CipherSuite, NamedGroup, ProtocolVersion, SupportedProtocolVersion, crypto::CryptoProvider,
    pki_types::ServerName, version,
};
use sha2::{Digest, Sha256};
use weft_proto::{
    node::{AGENT_CLUSTER, OWN_AUTHORITIES, OWN_CERTIFICATE},
    xds::{
        envoy::{
            config::cluster::v3::cluster::TransportSocketMatch,
            config::core::v3::{
                ConfigSource, DataSource, GrpcService, TransportSocket, api_config_source::ApiType,
                config_source::ConfigSourceSpecifier, data_source::Specifier, grpc_service::TargetSpecifier,
                transport_socket::ConfigType,
            },
            extensions::transport_sockets::{
                raw_buffer::v3::RawBuffer,
                tls::v3::{
                    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, TlsParameters,
                    UpstreamTlsContext, common_tls_context::ValidationContextType,
                    downstream_tls_context::SessionTicketKeysType, tls_parameters::TlsProtocol,
                },
            },
        },
        google::protobuf::{Any, Duration as ProtoDuration, value::Kind},
    },
};

use super::{
    At, Refusal, cluster::ads_only, is, nothing_left, optional_duration, pass_over, required, secret,
    unknown_type, unpack,
};
use crate::{
    spec::{
        Data, DownstreamTls, SecretName, SecretRef, Sni, TlsCommon, TlsMatch, UpstreamTls, ValidationRef,
    },
    tls::provider,
};

/// Time for a handshake where the control plane gives none, so that no client holds a connection for nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's default of `max_session_keys`.
const SESSIONS_MAX: usize = 1;

/// OpenSSL's names of the TLS 1.2 suites that there are here. Those of TLS 1.3 are always on, as in Envoy.
const SUITES: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];
/// Suites without forward secrecy or with CBC, which are left out of a list that has others: a list says what may be
/// used.
const WEAK_SUITES: [&str; 10] = [
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
];
const GROUPS: [(&str, NamedGroup); 4] = [
    ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
    ("X25519", NamedGroup::X25519),
    ("P-256", NamedGroup::secp256r1),
    ("P-384", NamedGroup::secp384r1),
];

/// The TLS that ends at a filter chain; none is plain text.
pub(super) fn downstream(
    socket: Option<TransportSocket>,
    handshake_timeout: Option<ProtoDuration>,
) -> Result<Option<Arc<DownstreamTls>>, Refusal> {
    let timeout = optional_duration(handshake_timeout, "transport_socket_connect_timeout")?;
    let Some(any) = typed_config(socket)? else { return Ok(None) };
    let digest = Sha256::digest(&any.value).into();
    let decoded = unpack(&any).and_then(|raw| downstream_context(raw, timeout, digest));
    decoded.map(|tls| Some(Arc::new(tls))).at("transport_socket.typed_config")
}

/// The TLS that a cluster's connections begin with; none is plain text.
pub(super) fn upstream(socket: Option<TransportSocket>) -> Result<Option<Arc<UpstreamTls>>, Refusal> {
    let Some(any) = typed_config(socket)? else { return Ok(None) };
    let digest = Sha256::digest(&any.value).into();
    let decoded = unpack(&any).and_then(|raw| upstream_context(raw, digest));
    decoded.map(|tls| Some(Arc::new(tls))).at("transport_socket.typed_config")
}

/// The TLS to endpoints with some labels.
pub(super) fn matched(mut raw: TransportSocketMatch) -> Result<TlsMatch, Refusal> {
    let mut labels = BTreeMap::new();
    for (name, value) in raw.r#match.take().unwrap_or_default().fields {
        let Some(Kind::StringValue(text)) = value.kind else {
            return Err(Refusal::new(format!("match.{name}"), "only text is supported by this proxy"));
        };
        labels.insert(name, text);
    }
    let tls = upstream(raw.transport_socket.take())?;
    pass_over!(raw: name);
    nothing_left(&raw)?;
    Ok(TlsMatch { labels, tls })
}

/// What a transport socket is, unless it is the plain one.
fn typed_config(socket: Option<TransportSocket>) -> Result<Option<Any>, Refusal> {
    let Some(socket) = socket else { return Ok(None) };
    let Some(ConfigType::TypedConfig(any)) = socket.config_type else {
        return Err(Refusal::new("transport_socket.typed_config", "missing"));
    };
    if is::<RawBuffer>(&any) {
        return Ok(None);
    }
    if is::<DownstreamTlsContext>(&any) || is::<UpstreamTlsContext>(&any) {
        return Ok(Some(any));
    }
    Err(unknown_type(&any)).at("transport_socket.typed_config")
}

fn downstream_context(
    mut raw: DownstreamTlsContext,
    handshake_timeout: Option<Duration>,
    digest: [u8; 32],
) -> Result<DownstreamTls, Refusal> {
    let common = common(raw.common_tls_context.take().unwrap_or_default()).at("common_tls_context")?;
    if common.certificates.is_empty() {
        return Err(Refusal::new("common_tls_context", "a server needs a certificate"));
    }
    let on = |flag: Option<weft_proto::xds::google::protobuf::BoolValue>| flag.is_some_and(|flag| flag.value);
    let require_client_certificate = on(raw.require_client_certificate.take());
    if require_client_certificate && common.validation.is_none() {
        let problem = "needs a validation context to verify clients with";
        return Err(Refusal::new("require_client_certificate", problem));
    }
    let resumption = match raw.session_ticket_keys_type.take() {
        None => true,
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(disabled)) => !disabled,
        Some(_) => return Err(Refusal::new("session_ticket_keys", "not supported by this proxy")),
    };
    let require_sni = on(raw.require_sni.take());
    // Tickets are the only sessions here, and their keys change by themselves.
    pass_over!(raw: disable_stateful_session_resumption, session_timeout, full_scan_certs_on_sni_mismatch,
        prefer_client_ciphers);
    nothing_left(&raw)?;
    let handshake_timeout =
        handshake_timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(HANDSHAKE_TIMEOUT);
    Ok(DownstreamTls {
        common,
        require_client_certificate,
        require_sni,
        resumption,
        handshake_timeout,
        digest,
    })
}

fn upstream_context(mut raw: UpstreamTlsContext, digest: [u8; 32]) -> Result<UpstreamTls, Refusal> {
    let common = common(raw.common_tls_context.take().unwrap_or_default()).at("common_tls_context")?;
    if common.certificates.len() > 1 {
        return Err(Refusal::new("common_tls_context", "a client has at most one certificate"));
    }
    let name = take(&mut raw.sni);
    let sni = match (take(&mut raw.auto_host_sni), name.as_str()) {
        (true, _) => Sni::Endpoint,
        (false, "") => Sni::Absent,
        (false, name) => {
            let parsed = ServerName::try_from(name.to_owned());
            Sni::Name(parsed.map_err(|_| Refusal::new("sni", format!("{name:?} is no name of a server")))?)
        }
    };
    let sessions_max = raw.max_session_keys.take().map_or(SESSIONS_MAX, |max| max.value as usize);
    let verify_sni = take(&mut raw.auto_sni_san_validation);
    pass_over!(raw: enforce_rsa_key_usage);
    nothing_left(&raw)?;
    Ok(UpstreamTls { common, sni, verify_sni, sessions_max, digest })
}

fn common(mut raw: CommonTlsContext) -> Result<TlsCommon, Refusal> {
    let (provider, versions) =
        raw.tls_params.take().map(parameters).transpose().at("tls_params")?.unwrap_or_else(defaults);
    let mut certificates = Vec::new();
    for (i, certificate) in take(&mut raw.tls_certificates).into_iter().enumerate() {
        let given = secret::certificate(certificate).at_index("tls_certificates", i)?;
        certificates.push(SecretRef::Given(given));
    }
    for (i, named) in take(&mut raw.tls_certificate_sds_secret_configs).into_iter().enumerate() {
        let name = secret_name(named, OWN_CERTIFICATE).at_index("tls_certificate_sds_secret_configs", i)?;
        certificates.push(SecretRef::Named(name));
    }
    let validation = match raw.validation_context_type.take() {
        None => None,
        Some(ValidationContextType::ValidationContext(context)) => {
            let given = secret::validation(context).at("validation_context")?;
            if given.authorities.is_none() && !given.names.is_empty() {
                let problem = "names prove nothing without trusted_ca";
                return Err(Refusal::new("validation_context.match_typed_subject_alt_names", problem));
            }
            Some(ValidationRef { given, named: None })
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => {
            let named = secret_name(config, OWN_AUTHORITIES).at("validation_context_sds_secret_config")?;
            Some(ValidationRef { given: Default::default(), named: Some(named) })
        }
        Some(ValidationContextType::CombinedValidationContext(mut combined)) => {
            let given = combined.default_validation_context.take().unwrap_or_default();
            let given =
                secret::validation(given).at("combined_validation_context.default_validation_context")?;
            let config = combined.validation_context_sds_secret_config.take().unwrap_or_default();
            let named = secret_name(config, OWN_AUTHORITIES)
                .at("combined_validation_context.validation_context_sds_secret_config")?;
            nothing_left(&combined).at("combined_validation_context")?;
            Some(ValidationRef { given, named: Some(named) })
        }
        Some(_) => return Err(Refusal::new("validation_context_type", "not supported by this proxy")),
    };
    let protocols = take(&mut raw.alpn_protocols);
    let protocols = protocols.iter().flat_map(|list| list.split(',')).filter(|one| !one.is_empty());
    let alpn = protocols.map(|one| one.as_bytes().to_vec()).collect();
    nothing_left(&raw)?;
    Ok(TlsCommon { provider, versions, certificates, validation, alpn })
}

/// A secret that comes over the stream that everything comes over, or one of the proxy's own, which Envoy asks its agent
/// for.
fn secret_name(raw: SdsSecretConfig, own: &str) -> Result<SecretName, Refusal> {
    let name = required(raw.name, "name")?;
    if !raw.sds_config.as_ref().is_some_and(is_agent) {
        ads_only(raw.sds_config).at("sds_config")?;
        return Ok(SecretName::Stream(name.into()));
    }
    match name == own {
        true => Ok(SecretName::Own),
        false => Err(Refusal::new("name", format!("{name:?} is not what the agent has; {own:?} is"))),
    }
}

/// Whether a secret is the agent's to deliver.
fn is_agent(source: &ConfigSource) -> bool {
    let Some(ConfigSourceSpecifier::ApiConfigSource(api)) = &source.config_source_specifier else {
        return false;
    };
    let Ok(ApiType::Grpc) = ApiType::try_from(api.api_type) else { return false };
    matches!(api.grpc_services.as_slice(), [GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(envoy)), ..
    }] if envoy.cluster_name == AGENT_CLUSTER)
}

type Parameters = (Arc<CryptoProvider>, Vec<&'static SupportedProtocolVersion>);

fn defaults() -> Parameters {
    (provider().clone(), rustls::DEFAULT_VERSIONS.to_vec())
}

fn parameters(mut raw: TlsParameters) -> Result<Parameters, Refusal> {
    let mut chosen = CryptoProvider::clone(provider());
    let min = protocol(take(&mut raw.tls_minimum_protocol_version)).at("tls_minimum_protocol_version")?;
    let max = protocol(take(&mut raw.tls_maximum_protocol_version)).at("tls_maximum_protocol_version")?;
    // Versions below 1.2 are never spoken, whatever the least one allowed is.
    let spoken = |version: &&SupportedProtocolVersion| {
        min.is_none_or(|min| rank(version.version) >= rank(min))
            && max.is_none_or(|max| rank(version.version) <= rank(max))
    };
    let versions: Vec<_> = [&version::TLS13, &version::TLS12].into_iter().filter(spoken).collect();
    if versions.is_empty() {
        return Err(Refusal::new(
            "tls_maximum_protocol_version",
            "TLS 1.2 and 1.3 are supported by this proxy",
        ));
    }
    let suites = suites(&take(&mut raw.cipher_suites)).at("cipher_suites")?;
    if !suites.is_empty() {
        chosen.cipher_suites.retain(|suite| suite.tls13().is_some() || suites.contains(&suite.suite()));
    }
    let mut groups = Vec::new();
    for curve in take(&mut raw.ecdh_curves) {
        let found = GROUPS.iter().find(|(name, _)| *name == curve);
        let (_, group) = found.ok_or_else(|| {
            Refusal::new("ecdh_curves", format!("{curve:?} is not supported by this proxy"))
        })?;
        groups.extend(chosen.kx_groups.iter().copied().find(|known| known.name() == *group));
    }
    if !groups.is_empty() {
        chosen.kx_groups = groups;
    }
    nothing_left(&raw)?;
    Ok((Arc::new(chosen), versions))
}

/// None is the default.
fn protocol(raw: i32) -> Result<Option<ProtocolVersion>, Refusal> {
    match TlsProtocol::try_from(raw) {
        Ok(TlsProtocol::TlsAuto) => Ok(None),
        Ok(TlsProtocol::TlSv10) => Ok(Some(ProtocolVersion::TLSv1_0)),
        Ok(TlsProtocol::TlSv11) => Ok(Some(ProtocolVersion::TLSv1_1)),
        Ok(TlsProtocol::TlSv12) => Ok(Some(ProtocolVersion::TLSv1_2)),
        Ok(TlsProtocol::TlSv13) => Ok(Some(ProtocolVersion::TLSv1_3)),
        Err(_) => Err(Refusal::new("", "an unknown value")),
    }
}

fn rank(version: ProtocolVersion) -> u16 {
    u16::from(version)
}

/// The suites of a list in BoringSSL's words, where `[a|b]` are equals.
fn suites(given: &[String]) -> Result<Vec<CipherSuite>, Refusal> {
    let mut found = Vec::new();
    let words =
        given.iter().flat_map(|word| word.split(['[', ']', '|', ':'])).filter(|word| !word.is_empty());
    for word in words {
        match SUITES.iter().find(|(name, _)| *name == word) {
            Some((_, suite)) => found.push(*suite),
            None if WEAK_SUITES.contains(&word) => {}
            None => return Err(Refusal::new("", format!("{word:?} is not supported by this proxy"))),
        }
    }
    if found.is_empty() && !given.is_empty() {
        return Err(Refusal::new("", "none of these is supported by this proxy"));
    }
    Ok(found)
}

/// Bytes, or the file that holds them.
pub(super) fn data(raw: DataSource) -> Result<Data, Refusal> {
    match raw.specifier {
        Some(Specifier::Filename(path)) => Ok(Data::File(Path::new(&required(path, "filename")?).into())),
        Some(Specifier::InlineBytes(bytes)) => Ok(Data::Inline(bytes.into())),
        Some(Specifier::InlineString(text)) => Ok(Data::Inline(text.into_bytes().into())),
        Some(Specifier::EnvironmentVariable(_)) => {
            Err(Refusal::new("environment_variable", "not supported by this proxy"))
        }
        None => Err(Refusal::new("specifier", "missing")),
    }
}

#[cfg(test)]
mod tests;
