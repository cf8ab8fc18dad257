//! Traces: Envoy's OpenTelemetry tracer, by gRPC or HTTP.

use weft_proto::xds::{
    envoy::{
        config::{
            core::v3::{
                GrpcService, HeaderValue, HeaderValueOption, HttpService, HttpUri,
                grpc_service::{EnvoyGrpc, TargetSpecifier},
                header_value_option::HeaderAppendAction,
                http_uri::HttpUpstreamType,
            },
            trace::v3::{
                OpenTelemetryConfig,
                tracing::{Http, http::ConfigType},
            },
        },
        extensions::{
            filters::network::http_connection_manager::v3::{
                RequestIdExtension, http_connection_manager::Tracing as Encoded,
            },
            request_id::uuid::v3::UuidRequestIdConfig,
        },
        r#type::{
            tracing::v3::{CustomTag, custom_tag},
            v3::Percent,
        },
    },
    google::protobuf::BoolValue,
};

use super::{any, duration};
use crate::{compile::ir::Tracing, documents::Tag, providers::Transport};

const OTEL: &str = "envoy.tracers.opentelemetry";
const OTEL_TYPE: &str = "envoy.config.trace.v3.OpenTelemetryConfig";

const REQUEST_ID_TYPE: &str = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig";

/// What spans are called.
const OPERATION: &str = "%REQ(:METHOD)% %REQ(:AUTHORITY)%";

pub(super) fn tracing(tracing: &Tracing) -> Encoded {
    let percent = |milli: u32| Some(Percent { value: f64::from(milli) / 1000.0 });
    let config = OpenTelemetryConfig {
        service_name: tracing.service.to_string(),
        ..match &tracing.transport {
            Transport::Grpc => {
                OpenTelemetryConfig { grpc_service: Some(grpc(tracing)), ..Default::default() }
            }
            Transport::Http { .. } => {
                OpenTelemetryConfig { http_service: http(tracing), ..Default::default() }
            }
        }
    };
    let provider =
        Http { name: OTEL.to_owned(), config_type: Some(ConfigType::TypedConfig(any(OTEL_TYPE, &config))) };
    Encoded {
        random_sampling: percent(tracing.sampling_milli),
        custom_tags: tracing.tags.iter().map(|(name, tag)| custom_tag(name, tag)).collect(),
        provider: Some(provider),
        operation: OPERATION.to_owned(),
        ..Default::default()
    }
}

/// Ids of requests, which say nothing of their traces, so that a request has one id on all its hops.
pub(super) fn request_id() -> RequestIdExtension {
    let no = || Some(BoolValue { value: false });
    let uuid = UuidRequestIdConfig { pack_trace_reason: no(), use_request_id_for_trace_sampling: no() };
    RequestIdExtension { typed_config: Some(any(REQUEST_ID_TYPE, &uuid)) }
}

fn grpc(tracing: &Tracing) -> GrpcService {
    let envoy = EnvoyGrpc {
        cluster_name: tracing.cluster.to_string(),
        authority: tracing.authority.to_string(),
        ..Default::default()
    };
    GrpcService { target_specifier: Some(TargetSpecifier::EnvoyGrpc(envoy)), ..Default::default() }
}

fn http(tracing: &Tracing) -> Option<HttpService> {
    let Transport::Http { path, timeout, headers } = &tracing.transport else { return None };
    let header = |(name, value): &(std::sync::Arc<str>, std::sync::Arc<str>)| HeaderValueOption {
        header: Some(HeaderValue { key: name.to_string(), value: value.to_string(), ..Default::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    };
    let uri = HttpUri {
        uri: format!("http://{}{path}", tracing.authority),
        timeout: duration(*timeout),
        http_upstream_type: Some(HttpUpstreamType::Cluster(tracing.cluster.to_string())),
    };
    let request_headers_to_add = headers.iter().map(header).collect();
    Some(HttpService { http_uri: Some(uri), request_headers_to_add, ..Default::default() })
}

fn custom_tag(name: &str, tag: &Tag) -> CustomTag {
    use custom_tag::{Environment, Header, Literal, Type};
    let said = match tag {
        Tag::Literal(value) => Type::Literal(Literal { value: value.to_string() }),
        Tag::Environment(name, otherwise) => {
            Type::Environment(Environment { name: name.to_string(), default_value: otherwise.to_string() })
        }
        Tag::Header(name, otherwise) => {
            Type::RequestHeader(Header { name: name.to_string(), default_value: otherwise.to_string() })
        }
    };
    CustomTag { tag: name.to_owned(), r#type: Some(said) }
}
