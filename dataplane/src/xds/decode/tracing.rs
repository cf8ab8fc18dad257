//! `HttpConnectionManager.tracing`: Envoy's OpenTelemetry tracer.

use std::{mem::take, sync::Arc, time::Duration};

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, Uri, uri::PathAndQuery};
use weft_proto::xds::envoy::{
    config::{
        core::v3::{
            GrpcService, HeaderValueOption, HttpService, grpc_service::TargetSpecifier,
            http_uri::HttpUpstreamType,
        },
        trace::v3::{OpenTelemetryConfig, tracing::http::ConfigType},
    },
    extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing as RawTracing,
    r#type::{
        tracing::v3::{CustomTag, custom_tag},
        v3::Percent,
    },
};

use super::{At, Refusal, is, nothing_left, optional_duration, pass_over, required, unknown_type, unpack};
use crate::{
    spec::{Collector, HeaderTag, Tracing},
    trace::otlp,
};

/// Where collectors take spans over gRPC.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Time for one request over gRPC, where nobody says.
const GRPC_TIMEOUT: Duration = Duration::from_secs(10);
/// Envoy's `max_path_tag_length`.
const PATH_BYTES_MAX: u32 = 256;
/// Most tags.
const TAGS_MAX: usize = 64;
/// Envoy's default for who tells.
const SERVICE: &str = "unknown_service:weft";

/// How requests are traced; none where no one takes the spans.
pub(super) fn tracing(mut raw: RawTracing) -> Result<Option<Arc<Tracing>>, Refusal> {
    let Some(provider) = raw.provider.take() else {
        return Err(Refusal::new("provider", "missing: this proxy has no tracer of its bootstrap"));
    };
    let Some(ConfigType::TypedConfig(any)) = provider.config_type else {
        return Err(Refusal::new("provider.typed_config", "missing"));
    };
    if !is::<OpenTelemetryConfig>(&any) {
        return Err(unknown_type(&any)).at("provider.typed_config");
    }
    let collector = unpack::<OpenTelemetryConfig>(&any).and_then(collector).at("provider.typed_config")?;
    let sampling_ppm = share(raw.random_sampling.take()).at("random_sampling")?;
    let overall = share(raw.overall_sampling.take()).at("overall_sampling")?;
    let path_bytes_max = raw.max_path_tag_length.take().map_or(PATH_BYTES_MAX, |max| max.value) as usize;
    let (mut fixed_tags, mut header_tags) = (BytesMut::new(), Vec::new());
    otlp::text("component", "proxy", &mut fixed_tags);
    let tags = take(&mut raw.custom_tags);
    if tags.len() > TAGS_MAX {
        return Err(Refusal::new("custom_tags", format!("more than {TAGS_MAX} tags")));
    }
    for (i, tag) in tags.into_iter().enumerate() {
        custom_tag(tag, &mut fixed_tags, &mut header_tags).at_index("custom_tags", i)?;
    }
    if take(&mut raw.no_context_propagation) {
        return Err(Refusal::new("no_context_propagation", "not supported by this proxy"));
    }
    // Clients cannot force a trace; spans are named by method and host, and one span stands for a request with its tries.
    pass_over!(raw: client_sampling, operation, upstream_operation, verbose, spawn_upstream_span);
    nothing_left(&raw)?;
    Ok(Some(Arc::new(Tracing {
        collector: Arc::new(collector),
        sampling_ppm: sampling_ppm.min(overall),
        path_bytes_max,
        fixed_tags: fixed_tags.freeze(),
        header_tags,
    })))
}

/// A share in millionths; all where nobody says.
fn share(raw: Option<Percent>) -> Result<u32, Refusal> {
    let percent = raw.map_or(100.0, |percent| percent.value);
    if (0.0..=100.0).contains(&percent) {
        Ok((percent * 10_000.0).round() as u32)
    } else {
        Err(Refusal::new("value", format!("{percent} is not between 0 and 100")))
    }
}

fn collector(mut raw: OpenTelemetryConfig) -> Result<Collector, Refusal> {
    let service = match take(&mut raw.service_name) {
        none if none.is_empty() => SERVICE.into(),
        name => name.into(),
    };
    let collector = match (raw.grpc_service.take(), raw.http_service.take()) {
        (Some(grpc), None) => grpc_collector(grpc, service).at("grpc_service")?,
        (None, Some(http)) => http_collector(http, service).at("http_service")?,
        _ => return Err(Refusal::new("grpc_service", "one of grpc_service, http_service is wanted")),
    };
    // What the process says of itself, and how much Envoy keeps: we have our own limits.
    pass_over!(raw: max_cache_size, set_telemetry_sdk_resource_attributes, set_service_name_resource_attribute,
        set_instrumentation_scope);
    nothing_left(&raw)?;
    Ok(collector)
}

fn grpc_collector(mut raw: GrpcService, service: Arc<str>) -> Result<Collector, Refusal> {
    let Some(TargetSpecifier::EnvoyGrpc(mut envoy)) = raw.target_specifier.take() else {
        return Err(Refusal::new("envoy_grpc", "missing: no other client is supported by this proxy"));
    };
    let cluster: Arc<str> = required(take(&mut envoy.cluster_name), "envoy_grpc.cluster_name")?.into();
    let authority = Some(take(&mut envoy.authority)).filter(|authority| !authority.is_empty());
    let authority = self::authority(authority.as_deref().unwrap_or(&cluster)).at("envoy_grpc.authority")?;
    nothing_left(&envoy).at("envoy_grpc")?;
    let timeout = optional_duration(raw.timeout.take(), "timeout")?.unwrap_or(GRPC_TIMEOUT);
    let mut headers = Vec::new();
    for (i, header) in take(&mut raw.initial_metadata).into_iter().enumerate() {
        headers.push(self::header(&header.key, &header.value).at_index("initial_metadata", i)?);
    }
    nothing_left(&raw)?;
    let path = PathAndQuery::from_static(GRPC_PATH);
    Ok(Collector { cluster, authority, path, grpc: true, timeout, headers, service })
}

fn http_collector(mut raw: HttpService, service: Arc<str>) -> Result<Collector, Refusal> {
    let mut uri = raw.http_uri.take().ok_or_else(|| Refusal::new("http_uri", "missing"))?;
    let Some(HttpUpstreamType::Cluster(cluster)) = uri.http_upstream_type.take() else {
        return Err(Refusal::new("http_uri.cluster", "missing"));
    };
    let timeout = optional_duration(uri.timeout.take(), "http_uri.timeout")?.unwrap_or(GRPC_TIMEOUT);
    let text = take(&mut uri.uri);
    let parts = text.parse::<Uri>().map(Uri::into_parts);
    let parts = parts.map_err(|_| Refusal::new("http_uri.uri", format!("{text:?} is no address")))?;
    let authority = parts.authority.as_ref().map(|authority| authority.as_str());
    let authority = self::authority(authority.unwrap_or(&cluster)).at("http_uri.uri")?;
    let path = parts.path_and_query.unwrap_or(PathAndQuery::from_static("/"));
    let mut headers = Vec::new();
    for (i, option) in take(&mut raw.request_headers_to_add).into_iter().enumerate() {
        let HeaderValueOption { header: Some(header), .. } = option else {
            return Err(Refusal::new("header", "missing")).at_index("request_headers_to_add", i);
        };
        headers.push(self::header(&header.key, &header.value).at_index("request_headers_to_add", i)?);
    }
    nothing_left(&raw)?;
    let cluster = required(cluster, "http_uri.cluster")?.into();
    Ok(Collector { cluster, authority, path, grpc: false, timeout, headers, service })
}

fn authority(text: &str) -> Result<HeaderValue, Refusal> {
    // The names of clusters are no hosts, and Envoy sends them all the same.
    let legal = text.replace('|', "_");
    HeaderValue::from_str(&legal).map_err(|_| Refusal::new("", format!("{text:?} is no host")))
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Refusal> {
    let bad = || Refusal::new("", format!("{name:?} is no header, or its value is none"));
    let name = HeaderName::try_from(name).map_err(|_| bad())?;
    Ok((name, HeaderValue::from_str(value).map_err(|_| bad())?))
}

fn custom_tag(raw: CustomTag, fixed: &mut BytesMut, headers: &mut Vec<HeaderTag>) -> Result<(), Refusal> {
    let name = required(raw.tag, "tag")?;
    match raw.r#type {
        Some(custom_tag::Type::Literal(literal)) => otlp::text(&name, &literal.value, fixed),
        Some(custom_tag::Type::Environment(variable)) => {
            let value = std::env::var(&variable.name).unwrap_or(variable.default_value);
            if !value.is_empty() {
                otlp::text(&name, &value, fixed);
            }
        }
        Some(custom_tag::Type::RequestHeader(from)) => {
            let header = HeaderName::try_from(&from.name)
                .map_err(|_| Refusal::new("request_header.name", format!("{:?} is no header", from.name)))?;
            let otherwise = Some(from.default_value.into_boxed_str()).filter(|text| !text.is_empty());
            headers.push(HeaderTag { name: name.into(), header, otherwise });
        }
        Some(custom_tag::Type::Metadata(_)) => {
            return Err(Refusal::new("metadata", "not supported by this proxy"));
        }
        Some(custom_tag::Type::Value(_)) => return Err(Refusal::new("value", "not supported by this proxy")),
        None => return Err(Refusal::new("type", "missing")),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
