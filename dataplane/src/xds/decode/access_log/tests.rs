//! Formats in, lines out: what Envoy and Istio write by default, and the operators one by one.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use prost::{Message, Name};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::time::Instant;
use weft_proto::xds::{
    envoy::{
        config::{
            accesslog::v3::{
                AccessLog as RawLog, AccessLogFilter, AndFilter, ComparisonFilter, OrFilter,
                ResponseFlagFilter, StatusCodeFilter, access_log, access_log_filter::FilterSpecifier,
            },
            core::v3::{
                DataSource, RuntimeUInt32, SubstitutionFormatString, data_source::Specifier,
                substitution_format_string::Format,
            },
        },
        extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
    },
    google::protobuf::{Any, Struct, Value, value::Kind},
};

use super::logs;
use crate::{
    access_log::{Facts, Notes, passes, render},
    fault::Flags,
    request::record::Target,
    spec::{AccessLogs, LogTarget},
};

const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

fn log(format: Format, omit_empty_values: bool, filter: Option<AccessLogFilter>) -> RawLog {
    let format = SubstitutionFormatString { format: Some(format), omit_empty_values, ..Default::default() };
    let file = FileAccessLog {
        path: "/dev/stdout".into(),
        access_log_format: Some(AccessLogFormat::LogFormat(format)),
    };
    RawLog {
        name: "l".into(),
        filter,
        config_type: Some(access_log::ConfigType::TypedConfig(Any {
            type_url: FileAccessLog::type_url(),
            value: file.encode_to_vec(),
        })),
    }
}

fn text(text: &str) -> Format {
    let specifier = Some(Specifier::InlineString(text.to_owned()));
    Format::TextFormatSource(DataSource { specifier, ..Default::default() })
}

fn string(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn facts(target: &Target) -> Facts<'_> {
    let began = Instant::now();
    Facts {
        began,
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        duration: Duration::from_millis(42),
        status: Some(503),
        details: Some("no_healthy_upstream"),
        flags: Flags::of("UH"),
        grpc_status: Some(4),
        bytes_received: 5,
        bytes_sent: 19,
        request_ended: Some(began),
        target,
        attempts: 2,
    }
}

fn notes(logs: &AccessLogs) -> Notes {
    let mut headers = HeaderMap::new();
    for (name, value) in [("user-agent", "a \"quoted\" agent"), ("x-request-id", "1-2-3")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let mut notes = Notes {
        method: Some(Method::GET),
        path: Some("/new?a=b".parse().unwrap()),
        original_path: Some("/old?a=b".parse().unwrap()),
        authority: Some(HeaderValue::from_static("api:80")),
        protocol: Some(Version::HTTP_11),
        ..Notes::default()
    };
    notes.ends.remote = Some("10.0.0.1:1234".parse().unwrap());
    notes.request_headers(logs, &headers);
    notes.response_headers(logs, &HeaderMap::new());
    notes
}

#[track_caller]
fn check(format: Format, omit_empty: bool, expected: &str) {
    let decoded = logs(vec![log(format, omit_empty, None)]).unwrap();
    assert_eq!(decoded.logs[0].target, LogTarget::Stdout);
    let mut line = String::new();
    render::line(&decoded.logs[0].format, &facts(&Target::None), &notes(&decoded), &mut line);
    assert_eq!(line, expected);
}

#[test]
fn istios_text_format_is_written_as_istio_does() {
    check(
        text(ISTIO),
        false,
        "[2023-11-14T22:13:20.123Z] \"GET /old?a=b HTTP/1.1\" 503 UH no_healthy_upstream - \"-\" 5 19 42 - \"-\" \
         \"a \"quoted\" agent\" \"1-2-3\" \"api:80\" \"-\" - - - 10.0.0.1:1234 - -\n",
    );
}

#[test]
fn json_has_numbers_strings_and_nulls() {
    let fields = [
        ("code", string("%RESPONSE_CODE%")),
        ("agent", string("%REQ(USER-AGENT)%")),
        ("both", string("%PROTOCOL% %ROUTE_NAME%")),
        ("none", string("%ROUTE_NAME%")),
        ("sure", Value { kind: Some(Kind::BoolValue(true)) }),
    ];
    let object = || Struct { fields: fields.clone().map(|(k, v)| (k.to_owned(), v)).into_iter().collect() };
    let agent = r#"{"agent":"a \"quoted\" agent","both":"HTTP/1.1 "#;
    check(
        Format::JsonFormat(object()),
        false,
        &format!("{agent}-\",\"code\":503,\"none\":null,\"sure\":true}}\n"),
    );
    check(Format::JsonFormat(object()), true, &format!("{agent}\",\"code\":503,\"sure\":true}}\n"));
}

#[test]
fn operators_take_alternatives_lengths_and_formats() {
    check(text("%REQ(X-NONE?USER-AGENT):3%|%REQ(X-NONE)%"), false, "a \"|-");
    check(text("%REQ(X-NONE)%|%REQ(:PATH)%"), true, "|/new?a=b");
    check(
        text("%START_TIME(%Y/%m/%dT%H:%M:%S%z %s.%6f)%"),
        false,
        "2023/11/14T22:13:20+0000 1700000000.123000",
    );
    check(
        text("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)%"),
        false,
        "DeadlineExceeded DEADLINE_EXCEEDED 4",
    );
    check(
        text("100%% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%"),
        false,
        "100% 10.0.0.1 1234",
    );
    check(text("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %REQUEST_DURATION%"), false, "2 0");
}

#[track_caller]
fn refused(text_format: &str, expected: &str) {
    let error = logs(vec![log(text(text_format), false, None)]).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(error.starts_with("access_log[0].typed_config.log_format"), "{error}");
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    refused("%FILTER_STATE(x)%", "%FILTER_STATE%");
    refused("%NONSENSE%", "%NONSENSE%");
    refused("%REQ(a b)%", "no header name");
    refused("%PROTOCOL", "closing");
    refused("%REQ(:PATH):x%", "no length");
    refused("%START_TIME(%Q)%", "%Q");
}

fn status(op: i32, value: u32) -> AccessLogFilter {
    let value = RuntimeUInt32 { default_value: value, runtime_key: "k".into() };
    let comparison = Some(ComparisonFilter { op, value: Some(value) });
    AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::StatusCodeFilter(StatusCodeFilter { comparison })),
    }
}

fn flagged(flags: &[&str]) -> AccessLogFilter {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags })),
    }
}

#[track_caller]
fn filtered(filter: AccessLogFilter, passes_filter: bool) {
    let decoded = logs(vec![log(text(""), false, Some(filter))]).unwrap();
    let mut rng = SmallRng::seed_from_u64(1);
    assert_eq!(passes(&decoded.logs[0].filter, &facts(&Target::None), &mut rng), passes_filter);
}

#[test]
fn filters_look_at_status_and_flags() {
    let (equal, at_least, at_most, not) = (0, 1, 2, 3);
    filtered(status(equal, StatusCode::SERVICE_UNAVAILABLE.as_u16().into()), true);
    filtered(status(at_least, 504), false);
    filtered(status(at_most, 503), true);
    filtered(status(not, 503), false);
    filtered(flagged(&[]), true);
    filtered(flagged(&["NR", "UH"]), true);
    filtered(flagged(&["NR"]), false);
    let both = || vec![status(at_least, 500), flagged(&["NR"])];
    let and = FilterSpecifier::AndFilter(AndFilter { filters: both() });
    let or = FilterSpecifier::OrFilter(OrFilter { filters: both() });
    filtered(AccessLogFilter { filter_specifier: Some(and) }, false);
    filtered(AccessLogFilter { filter_specifier: Some(or) }, true);
}

#[test]
fn an_extension_filter_is_refused_by_its_name() {
    let extension = weft_proto::xds::envoy::config::accesslog::v3::ExtensionFilter {
        name: "envoy.access_loggers.extension_filters.cel".into(),
        config_type: None,
    };
    let filter = AccessLogFilter { filter_specifier: Some(FilterSpecifier::ExtensionFilter(extension)) };
    let error = logs(vec![log(text(""), false, Some(filter))]).unwrap_err().to_string();
    assert!(error.contains("extension_filters.cel"), "{error}");
}
