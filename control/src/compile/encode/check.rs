//! Health checks.

use std::time::Duration;

use weft_proto::xds::envoy::{
    config::core::v3::{
        HeaderValue, HeaderValueOption, HealthCheck as Encoded,
        header_value_option::HeaderAppendAction,
        health_check::{GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck},
    },
    r#type::v3::{CodecClientType, Int64Range},
};

use super::{duration, number};
use crate::{
    compile::ir::{Cluster, HttpVersion},
    documents::{HealthCheck, Probe},
};

/// Proxies that started together drift apart by this, where nobody says by what.
const JITTER_PERCENT: u32 = 10;

/// The check of a cluster.
pub(crate) fn health_check(check: &HealthCheck, cluster: &Cluster) -> Encoded {
    let host = || cluster.service.as_ref().map(|service| service.host.to_string()).unwrap_or_default();
    let checker = match &check.probe {
        Probe::Http { path, host: given, headers, expected } => {
            HealthChecker::HttpHealthCheck(HttpHealthCheck {
                host: given.as_ref().map_or_else(host, ToString::to_string),
                path: path.to_string(),
                request_headers_to_add: headers.iter().map(|(name, value)| header(name, value)).collect(),
                expected_statuses: expected.iter().map(|(start, end)| statuses(*start, *end)).collect(),
                // Any other answer counts towards the threshold; without this one would be enough.
                retriable_statuses: vec![statuses(100, 600)],
                codec_client_type: match cluster.http {
                    Some(HttpVersion::Http2) if check.port.is_none() => CodecClientType::Http2,
                    _ => CodecClientType::Http1,
                }
                .into(),
                ..Default::default()
            })
        }
        Probe::Tcp => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
        Probe::Grpc { service } => HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
            service_name: service.to_string(),
            authority: host(),
            ..Default::default()
        }),
    };
    let time = |time: Option<Duration>| time.and_then(duration);
    Encoded {
        timeout: duration(check.timeout),
        interval: duration(check.interval),
        unhealthy_interval: time(check.unhealthy_interval),
        no_traffic_interval: time(check.no_traffic_interval),
        initial_jitter: time(check.initial_jitter),
        interval_jitter: time(check.interval_jitter),
        interval_jitter_percent: if check.interval_jitter.is_some() { 0 } else { JITTER_PERCENT },
        healthy_threshold: number(check.healthy_threshold),
        unhealthy_threshold: number(check.unhealthy_threshold),
        health_checker: Some(checker),
        ..Default::default()
    }
}

fn header(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        // A percent sign begins a command in Envoy's values.
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.replace('%', "%%"),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    }
}

fn statuses(start: u16, end: u16) -> Int64Range {
    Int64Range { start: start.into(), end: end.into() }
}
