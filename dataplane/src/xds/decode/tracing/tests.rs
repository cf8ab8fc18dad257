//! What of a tracer is taken, and what is refused by name.

use prost::Message;
use weft_proto::xds::{
    envoy::config::{
        core::v3::{HeaderValue as RawHeader, HttpUri, grpc_service::EnvoyGrpc},
        trace::v3::tracing::Http,
    },
    google::protobuf::Any,
};

use super::*;

fn grpc() -> OpenTelemetryConfig {
    let envoy = EnvoyGrpc { cluster_name: "outbound|4317||otel".to_owned(), ..Default::default() };
    let target_specifier = Some(TargetSpecifier::EnvoyGrpc(envoy));
    let grpc_service = Some(GrpcService { target_specifier, ..Default::default() });
    OpenTelemetryConfig { grpc_service, service_name: "web.shop".to_owned(), ..Default::default() }
}

fn http() -> OpenTelemetryConfig {
    let http_uri = Some(HttpUri {
        uri: "http://otel:4318/v1/traces".to_owned(),
        http_upstream_type: Some(HttpUpstreamType::Cluster("outbound|4318||otel".to_owned())),
        ..Default::default()
    });
    let header = RawHeader { key: "x-tenant".to_owned(), value: "a".to_owned(), ..Default::default() };
    let header = HeaderValueOption { header: Some(header), ..Default::default() };
    let http_service =
        Some(HttpService { http_uri, request_headers_to_add: vec![header], ..Default::default() });
    OpenTelemetryConfig { http_service, ..Default::default() }
}

fn with(config: &OpenTelemetryConfig) -> RawTracing {
    let any = Any {
        type_url: "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig".to_owned(),
        value: config.encode_to_vec(),
    };
    let provider = Some(Http { name: "otel".to_owned(), config_type: Some(ConfigType::TypedConfig(any)) });
    RawTracing { provider, ..Default::default() }
}

#[test]
fn collectors_are_clusters_over_grpc_or_http() {
    let read = |config| tracing(with(&config)).unwrap().unwrap();
    let of_grpc = read(grpc());
    assert_eq!(of_grpc.collector.path, GRPC_PATH);
    assert_eq!(
        (&*of_grpc.collector.cluster, &*of_grpc.collector.service),
        ("outbound|4317||otel", "web.shop")
    );
    assert_eq!((of_grpc.sampling_ppm, of_grpc.path_bytes_max), (1_000_000, 256));
    let of_http = read(http());
    assert!(of_grpc.collector.grpc && !of_http.collector.grpc);
    assert_eq!(
        (of_http.collector.authority.as_bytes(), of_http.collector.path.as_str()),
        (&b"otel:4318"[..], "/v1/traces")
    );
    assert_eq!(of_http.collector.headers.len(), 1);
}

#[test]
fn the_smaller_share_holds() {
    let percent = |value| Some(Percent { value });
    let raw = RawTracing { random_sampling: percent(12.5), overall_sampling: percent(10.0), ..with(&grpc()) };
    assert_eq!(tracing(raw).unwrap().unwrap().sampling_ppm, 100_000);
}

#[test]
fn tags_are_fixed_or_of_headers() {
    let tag = |tag: &str, of| CustomTag { tag: tag.to_owned(), r#type: Some(of) };
    let header = custom_tag::Header { name: "X-User".to_owned(), default_value: String::new() };
    let custom_tags = vec![
        tag("a", custom_tag::Type::Literal(custom_tag::Literal { value: "b".to_owned() })),
        tag("user", custom_tag::Type::RequestHeader(header)),
    ];
    let read = tracing(RawTracing { custom_tags, ..with(&grpc()) }).unwrap().unwrap();
    let mut expected = BytesMut::new();
    otlp::text("component", "proxy", &mut expected);
    otlp::text("a", "b", &mut expected);
    assert_eq!(read.fixed_tags, expected);
    let found: Vec<_> = read.header_tags.iter().map(|tag| (&*tag.name, tag.header.as_str())).collect();
    assert_eq!(found, [("user", "x-user")]);
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let refused = |raw| tracing(raw).unwrap_err().to_string();
    let percent = Some(Percent { value: 101.0 });
    for (raw, expected) in [
        (RawTracing::default(), "provider: missing"),
        (with(&OpenTelemetryConfig::default()), "provider.typed_config.grpc_service: one of"),
        (with(&OpenTelemetryConfig { sampler: Some(Default::default()), ..grpc() }), "provider.typed_config"),
        (RawTracing { random_sampling: percent, ..with(&grpc()) }, "random_sampling.value: 101"),
        (RawTracing { no_context_propagation: true, ..with(&grpc()) }, "no_context_propagation"),
        (RawTracing { custom_tags: vec![CustomTag::default()], ..with(&grpc()) }, "custom_tags[0].tag"),
    ] {
        let found = refused(raw);
        assert!(found.starts_with(expected), "{found}");
    }
}
