//! `Cluster.health_checks` and `Endpoint.health_check_config`.

use std::{mem::take, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use weft_proto::xds::envoy::{
    config::{
        core::v3::{
            HealthCheck, RequestMethod,
            health_check::{
                GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck, payload,
            },
        },
        endpoint::v3::endpoint::HealthCheckConfig,
    },
    r#type::v3::{CodecClientType, Int64Range},
};

use super::{At, Refusal, endpoint, headers, nothing_left, optional_duration, pass_over, required};
use crate::spec::{Check, EndpointAddress, EndpointCheck, GrpcProbe, HttpProbe, Probe, TcpProbe};

/// Envoy's default.
const NO_TRAFFIC_INTERVAL: Duration = Duration::from_secs(60);

/// The check of a cluster, of which there is at most one, as in Envoy. `name` is the cluster's.
pub(super) fn check(all: Vec<HealthCheck>, name: &str) -> Result<Option<Check>, Refusal> {
    if all.len() > 1 {
        return Err(Refusal::new("health_checks", "more than one is not supported"));
    }
    all.into_iter().next().map(|raw| one(raw, name).at_index("health_checks", 0)).transpose()
}

fn one(mut raw: HealthCheck, name: &str) -> Result<Check, Refusal> {
    let probe = match raw.health_checker.take() {
        Some(HealthChecker::HttpHealthCheck(raw)) => {
            Probe::Http(Box::new(http(raw, name).at("http_health_check")?))
        }
        Some(HealthChecker::TcpHealthCheck(raw)) => Probe::Tcp(tcp(raw).at("tcp_health_check")?),
        Some(HealthChecker::GrpcHealthCheck(raw)) => Probe::Grpc(grpc(raw, name).at("grpc_health_check")?),
        Some(HealthChecker::CustomHealthCheck(raw)) => {
            let problem = format!("{:?} is not supported by this proxy", raw.name);
            return Err(Refusal::new("custom_health_check", problem));
        }
        None => return Err(Refusal::new("health_checker", "missing")),
    };
    let time = |value: &mut Option<_>, field| -> Result<Option<Duration>, Refusal> {
        match optional_duration(take(value), field)? {
            Some(Duration::ZERO) => Err(Refusal::new(field, "must be above zero")),
            time => Ok(time),
        }
    };
    let missing = |field: &str| Refusal::new(field, "missing");
    let interval = time(&mut raw.interval, "interval")?.ok_or_else(|| missing("interval"))?;
    let unhealthy_interval = time(&mut raw.unhealthy_interval, "unhealthy_interval")?.unwrap_or(interval);
    let no_traffic = time(&mut raw.no_traffic_interval, "no_traffic_interval")?;
    let no_traffic_interval = no_traffic.unwrap_or(NO_TRAFFIC_INTERVAL);
    let no_traffic_healthy = time(&mut raw.no_traffic_healthy_interval, "no_traffic_healthy_interval")?;
    let unhealthy_edge = time(&mut raw.unhealthy_edge_interval, "unhealthy_edge_interval")?;
    let healthy_edge = time(&mut raw.healthy_edge_interval, "healthy_edge_interval")?;
    let timeout = time(&mut raw.timeout, "timeout")?.ok_or_else(|| missing("timeout"))?;
    let threshold = |value: Option<weft_proto::xds::google::protobuf::UInt32Value>, field| {
        value.map(|value| value.value.max(1)).ok_or_else(|| missing(field))
    };
    let check = Check {
        probe,
        timeout,
        interval,
        no_traffic_interval,
        no_traffic_healthy_interval: no_traffic_healthy.unwrap_or(no_traffic_interval),
        unhealthy_interval,
        unhealthy_edge_interval: unhealthy_edge.unwrap_or(unhealthy_interval),
        healthy_edge_interval: healthy_edge.unwrap_or(interval),
        initial_jitter: optional_duration(raw.initial_jitter.take(), "initial_jitter")?.unwrap_or_default(),
        jitter: optional_duration(raw.interval_jitter.take(), "interval_jitter")?.unwrap_or_default(),
        jitter_percent: take(&mut raw.interval_jitter_percent),
        healthy_threshold: threshold(raw.healthy_threshold.take(), "healthy_threshold")?,
        unhealthy_threshold: threshold(raw.unhealthy_threshold.take(), "unhealthy_threshold")?,
    };
    // Every check has its own connection; what is found is logged and counted in our own way.
    pass_over!(raw: reuse_connection, event_log_path, event_logger, event_service, always_log_health_check_failures,
        always_log_health_check_success);
    nothing_left(&raw)?;
    Ok(check)
}

fn http(mut raw: HttpHealthCheck, name: &str) -> Result<HttpProbe, Refusal> {
    let path = required(take(&mut raw.path), "path")?;
    let path = path.parse().map_err(|_| Refusal::new("path", format!("{path:?} is no path")))?;
    let method = match RequestMethod::try_from(take(&mut raw.method)) {
        Ok(RequestMethod::MethodUnspecified | RequestMethod::Get) => Method::GET,
        Ok(RequestMethod::Connect) | Err(_) => return Err(Refusal::new("method", "not supported")),
        Ok(method) => Method::from_bytes(method.as_str_name().as_bytes())
            .map_err(|_| Refusal::new("method", "an unknown value"))?,
    };
    let http2 = match CodecClientType::try_from(take(&mut raw.codec_client_type)) {
        Ok(CodecClientType::Http1) => false,
        Ok(CodecClientType::Http2) => true,
        _ => return Err(Refusal::new("codec_client_type", "not supported by this proxy")),
    };
    let added = take(&mut raw.request_headers_to_add);
    let changes = headers::mutation(&headers::REQUEST, added, take(&mut raw.request_headers_to_remove))?;
    let mut headers = HeaderMap::new();
    for (name, value) in changes.set.into_iter().chain(changes.add) {
        headers.append(name, value);
    }
    let mut expected = ranges(take(&mut raw.expected_statuses)).at("expected_statuses")?;
    if expected.is_empty() {
        expected.push(200..201);
    }
    let probe = HttpProbe {
        method,
        path,
        host: host(take(&mut raw.host), name).at("host")?,
        headers,
        http2,
        expected,
        retriable: ranges(take(&mut raw.retriable_statuses)).at("retriable_statuses")?,
    };
    nothing_left(&raw)?;
    Ok(probe)
}

/// What is asked for: the name of the cluster, where nothing is said, or the host in it (`outbound|80||HOST`), since
/// HTTP/2 takes no other character.
fn host(given: String, name: &str) -> Result<HeaderValue, Refusal> {
    let of_cluster = name.rsplit('|').next().unwrap_or(name);
    let text = if given.is_empty() { of_cluster } else { &given };
    HeaderValue::from_str(text).map_err(|_| Refusal::new("", format!("{text:?} is no header value")))
}

fn ranges(raw: Vec<Int64Range>) -> Result<Vec<Range<u16>>, Refusal> {
    let range = |range: Int64Range| {
        let number = |number: i64| u16::try_from(number).ok().filter(|number| (100..=600).contains(number));
        let (start, end) = (number(range.start), number(range.end));
        let found = start.zip(end).filter(|(start, end)| start < end).map(|(start, end)| start..end);
        found.ok_or_else(|| {
            Refusal::new("", format!("{}..{} is no range of statuses", range.start, range.end))
        })
    };
    raw.into_iter().map(range).collect()
}

fn tcp(mut raw: TcpHealthCheck) -> Result<TcpProbe, Refusal> {
    let send = raw.send.take().map(bytes).transpose().at("send")?.unwrap_or_default();
    let receive = take(&mut raw.receive).into_iter().enumerate();
    let receive = receive.map(|(i, raw)| bytes(raw).at_index("receive", i)).collect::<Result<_, _>>()?;
    nothing_left(&raw)?;
    Ok(TcpProbe { send, receive })
}

fn bytes(raw: Payload) -> Result<Bytes, Refusal> {
    let bytes = match raw.payload {
        Some(payload::Payload::Binary(bytes)) => bytes,
        Some(payload::Payload::Text(hex)) => {
            let pairs = hex.as_bytes().chunks(2);
            let byte = |pair: &[u8]| {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let [high, low] = *pair else { return None };
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()
            };
            pairs
                .map(byte)
                .collect::<Option<Vec<u8>>>()
                .ok_or_else(|| Refusal::new("text", "not hexadecimal"))?
        }
        None => Vec::new(),
    };
    if bytes.is_empty() {
        return Err(Refusal::new("payload", "empty"));
    }
    Ok(bytes.into())
}

fn grpc(mut raw: GrpcHealthCheck, name: &str) -> Result<GrpcProbe, Refusal> {
    let authority = host(take(&mut raw.authority), name).at("authority")?;
    let service: Arc<str> = take(&mut raw.service_name).into();
    nothing_left(&raw)?;
    Ok(GrpcProbe { service, authority })
}

/// What an endpoint says of its checks.
pub(super) fn of_endpoint(mut raw: HealthCheckConfig) -> Result<EndpointCheck, Refusal> {
    let port = u16::try_from(take(&mut raw.port_value));
    let port = port.map_err(|_| Refusal::new("port_value", "no port"))?;
    let host = take(&mut raw.hostname);
    let host = (!host.is_empty()).then(|| HeaderValue::from_str(&host)).transpose();
    let mut check = EndpointCheck {
        disabled: take(&mut raw.disable_active_health_check),
        ip: None,
        port: (port > 0).then_some(port),
        host: host.map_err(|_| Refusal::new("hostname", "no header value"))?,
    };
    if let Some(raw) = raw.address.take() {
        match endpoint::address(raw).at("address")? {
            EndpointAddress::Tcp(address) => {
                check.ip = Some(address.ip());
                check.port = check.port.or((address.port() > 0).then_some(address.port()));
            }
            _ => return Err(Refusal::new("address", "an IP address is wanted")),
        }
    }
    nothing_left(&raw)?;
    Ok(check)
}

#[cfg(test)]
mod tests {
    use weft_proto::xds::google::protobuf::{Duration as ProtoDuration, UInt32Value};

    use super::*;

    fn tcp_check() -> HealthCheck {
        HealthCheck {
            timeout: Some(ProtoDuration { seconds: 1, nanos: 0 }),
            interval: Some(ProtoDuration { seconds: 5, nanos: 0 }),
            healthy_threshold: Some(UInt32Value { value: 0 }),
            unhealthy_threshold: Some(UInt32Value { value: 2 }),
            health_checker: Some(HealthChecker::TcpHealthCheck(TcpHealthCheck::default())),
            ..Default::default()
        }
    }

    fn http_check(http: HttpHealthCheck) -> HealthCheck {
        let path = "/".to_owned();
        let checker = HealthChecker::HttpHealthCheck(HttpHealthCheck { path, ..http });
        HealthCheck { health_checker: Some(checker), ..tcp_check() }
    }

    #[test]
    fn what_is_left_out_is_as_in_envoy() {
        let found = check(vec![tcp_check()], "c").unwrap().unwrap();
        let seconds = |time: Duration| time.as_secs();
        assert_eq!((seconds(found.interval), seconds(found.unhealthy_interval)), (5, 5));
        assert_eq!((seconds(found.unhealthy_edge_interval), seconds(found.healthy_edge_interval)), (5, 5));
        assert_eq!(
            (seconds(found.no_traffic_interval), seconds(found.no_traffic_healthy_interval)),
            (60, 60)
        );
        assert_eq!((found.healthy_threshold, found.unhealthy_threshold), (1, 2));
        assert_eq!(check(Vec::new(), "c").unwrap(), None);
        let found =
            check(vec![http_check(HttpHealthCheck::default())], "outbound|80||api.test").unwrap().unwrap();
        let Probe::Http(http) = found.probe else { panic!("{found:?}") };
        assert_eq!((http.host, http.method), ("api.test".parse().unwrap(), Method::GET));
        assert!(http.expected.len() == 1 && http.expected[0] == (200..201));
    }

    #[test]
    fn bytes_are_written_in_hexadecimal() {
        let text = |text: &str| Payload { payload: Some(payload::Payload::Text(text.to_owned())) };
        assert_eq!(bytes(text("504f4e47")), Ok("PONG".into()));
        for wrong in ["", "5", "5g", "+1"] {
            assert!(bytes(text(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        #[track_caller]
        fn refused(raw: HealthCheck, field: &str) {
            assert_eq!(check(vec![raw], "c").unwrap_err().field, format!("health_checks[0].{field}"));
        }
        refused(HealthCheck { interval: None, ..tcp_check() }, "interval");
        refused(HealthCheck { timeout: Some(ProtoDuration::default()), ..tcp_check() }, "timeout");
        refused(HealthCheck { health_checker: None, ..tcp_check() }, "health_checker");
        refused(HealthCheck { alt_port: Some(UInt32Value { value: 1 }), ..tcp_check() }, "alt_port");
        let range = Int64Range { start: 300, end: 200 };
        refused(
            http_check(HttpHealthCheck { expected_statuses: vec![range], ..Default::default() }),
            "http_health_check.expected_statuses",
        );
        let receive = vec![Payload { payload: Some(payload::Payload::Text("00".to_owned())) }];
        refused(http_check(HttpHealthCheck { receive, ..Default::default() }), "http_health_check.receive");
        assert_eq!(check(vec![tcp_check(), tcp_check()], "c").unwrap_err().field, "health_checks");
    }

    #[test]
    fn an_endpoint_says_where_and_whether_it_is_checked() {
        let raw = HealthCheckConfig { port_value: 81, hostname: "a".into(), ..Default::default() };
        let expected =
            EndpointCheck { port: Some(81), host: Some("a".parse().unwrap()), ..Default::default() };
        assert_eq!(of_endpoint(raw), Ok(expected));
        let raw = HealthCheckConfig { disable_active_health_check: true, ..Default::default() };
        assert!(of_endpoint(raw).unwrap().disabled);
        let raw = HealthCheckConfig { port_value: 70_000, ..Default::default() };
        assert_eq!(of_endpoint(raw).unwrap_err().field, "port_value");
    }
}
