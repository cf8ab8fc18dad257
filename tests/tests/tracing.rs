//! Traces: one trace from hop to hop through proxies of either kind, told to a collector that is a service of the mesh.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use weft_proto::node::{Inbound, NodeMetadata, Upstream};
use weft_tests::{
    backend::{Attempts, Backend},
    client::{Answer, Connection, Protocol, empty, get},
    collector::{Collector, Told},
    mesh::{Mesh, Proxy, SYNC, http_get},
    program::free_ports,
    wait::until,
};

/// Envoy tells its spans every five seconds.
const TOLD: Duration = Duration::from_secs(20);

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// Which proxy stands before a service.
#[derive(Clone, Copy)]
enum Of {
    Weft,
    Envoy,
}

/// web -> api -> db, whose proxies lead on: what api's inbound side takes goes to its outbound side.
struct Chain {
    mesh: Mesh,
    collector: Collector,
    /// Leads to api through web's proxy.
    web: SocketAddr,
    /// Leads to a service without an endpoint.
    gone: SocketAddr,
    web_proxy: Proxy,
    _proxies: Vec<Proxy>,
    _db: Backend,
}

impl Chain {
    async fn start(of_api: Of, over_http: bool, telemetry: &str) -> Self {
        let collector = if over_http { Collector::http().await } else { Collector::grpc().await };
        let headers = json!({"path": "/v1/traces", "headers": [{"name": "x-tenant", "value": "t"}]});
        let mut otel = json!({"service": "otel.default.svc.cluster.local", "port": 4317});
        if over_http {
            otel["http"] = headers;
        }
        let settings = json!({
            "extension_providers": [{"name": "otel", "opentelemetry": otel}],
            "access_log_file": "/dev/stdout",
            "access_log_encoding": "json",
        });
        let mut mesh = Mesh::start_with(&settings).await;
        let db = Backend::http("db", "v1", Attempts::default()).await;
        let [web, gone, api_in, api_out, db_in] = free_ports();
        let protocol = if over_http { "http" } else { "grpc" };
        let services = [
            service("api", 80, "http", Some(api_in)),
            service("db", 80, "http", Some(db_in)),
            service("gone", 80, "http", None),
            service("otel", 4317, protocol, Some(collector.address)),
        ];
        mesh.publish("services.yaml", &services.join("---\n"));
        mesh.endpoints("otel", 1, SYNC).await;
        mesh.apply(telemetry).await.unwrap();
        let of_web =
            NodeMetadata { upstreams: vec![upstream(web, "api"), upstream(gone, "gone")], ..workload("web") };
        let api = NodeMetadata {
            inbound: vec![inbound(api_in, "api", api_out)],
            upstreams: vec![upstream(api_out, "db")],
            ..workload("api")
        };
        let of_db = NodeMetadata { inbound: vec![inbound(db_in, "db", db.address)], ..workload("db") };
        let web_proxy = mesh.weft_proxy("web", &of_web).await;
        let api_proxy = match of_api {
            Of::Weft => mesh.weft_proxy("api", &api).await,
            Of::Envoy => mesh.envoy("api", &api).await,
        };
        let proxies = vec![api_proxy, mesh.weft_proxy("db", &of_db).await];
        mesh.synced(3, SYNC).await;
        Self { mesh, collector, web, gone, web_proxy, _proxies: proxies, _db: db }
    }

    /// A request through the whole chain, with these headers; once there is a way.
    async fn ask(&self, headers: &[(&str, &str)]) -> Answer {
        until("an answer", SYNC, async || {
            let mut connection = Connection::open(self.web, Protocol::H1).await.map_err(|e| e.to_string())?;
            let mut request = get(Protocol::H1, "api", "/a/path?q=1");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = connection.send(request.body(empty()).unwrap()).await.map_err(|e| e.to_string())?;
            if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
        .await
    }

    /// The spans of a trace, once there are so many.
    async fn spans(&self, trace: &str, count: usize) -> Vec<Told> {
        until(&format!("{count} spans of {trace}"), TOLD, async || {
            let found = self.collector.trace(trace);
            if found.len() == count { Ok(found) } else { Err(format!("{:#?}", self.collector.spans())) }
        })
        .await
    }
}

fn service(name: &str, port: u16, protocol: &str, at: Option<SocketAddr>) -> String {
    let endpoint = at.map(|at| format!("{{address: {}, port: {}}}", at.ip(), at.port())).unwrap_or_default();
    format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
         ports: [{{number: {port}, name: {protocol}, protocol: {protocol}}}]\n  endpoints: [{endpoint}]\n"
    )
}

fn workload(name: &str) -> NodeMetadata {
    NodeMetadata { namespace: "default".into(), workload: name.into(), ..NodeMetadata::default() }
}

fn upstream(bind: SocketAddr, service: &str) -> Upstream {
    Upstream { bind: bind.into(), service: service.into(), port: 80 }
}

fn inbound(bind: SocketAddr, service: &str, app: SocketAddr) -> Inbound {
    let (protocol, workload) = (String::new(), String::new());
    Inbound {
        bind: Some(bind.into()),
        service: service.into(),
        port: 80,
        app: app.into(),
        protocol,
        workload,
    }
}

fn telemetry(sampling: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: mesh, namespace: istio-system}}\n\
         spec:\n  tracing:\n  - providers: [{{name: otel}}]\n    randomSamplingPercentage: {sampling}\n    \
         customTags: {{color: {{literal: {{value: blue}}}}, user: {{header: {{name: x-user, defaultValue: none}}}}}}\n"
    )
}

/// What the last proxy told the application: the trace, its own span, and whether it is sampled.
fn goes_on(answer: &Answer) -> (String, String, bool) {
    let seen: weft_tests::backend::Seen = serde_json::from_slice(&answer.body).unwrap();
    let parts: Vec<&str> = seen.headers["traceparent"][0].split('-').collect();
    assert_eq!((parts.len(), parts[0]), (4, "00"), "{parts:?}");
    (parts[1].to_owned(), parts[2].to_owned(), parts[3] == "01")
}

/// Whether the spans are one after the other's parent, in the order of the hops, and the last is the one named.
fn connected(spans: &[Told], first: &str, last: &str) {
    let find = |parent: &str| spans.iter().find(|span| span.parent == parent);
    let mut parent = first.to_owned();
    for (service, kind) in
        [("web.default", CLIENT), ("api.default", SERVER), ("api.default", CLIENT), ("db.default", SERVER)]
    {
        let span = find(&parent).unwrap_or_else(|| panic!("no child of {parent:?}: {spans:#?}"));
        assert_eq!((&*span.service, span.kind), (service, kind), "{spans:#?}");
        parent.clone_from(&span.span);
    }
    assert_eq!(parent, last);
}

async fn one_trace(of_api: Of, over_http: bool) {
    let chain = Chain::start(of_api, over_http, &telemetry("100")).await;
    let (trace, last, sampled) = goes_on(&chain.ask(&[("x-user", "eve")]).await);
    assert!(sampled);
    let spans = chain.spans(&trace, 4).await;
    connected(&spans, "", &last);
    for span in &spans {
        let tag = |name: &str| span.attributes.get(name).map(String::as_str);
        assert_eq!((tag("color"), tag("user")), (Some("blue"), Some("eve")), "{span:#?}");
        assert_eq!((tag("http.status_code"), tag("http.method")), (Some("200"), Some("GET")), "{span:#?}");
        assert_eq!((&*span.name, span.failed), ("GET api", false));
        assert!(span.nanos > 0 && tag("guid:x-request-id").is_some(), "{span:#?}");
    }
    let ids: std::collections::BTreeSet<_> =
        spans.iter().map(|span| &span.attributes["guid:x-request-id"]).collect();
    assert_eq!(ids.len(), 1, "one request, one id");
}

#[tokio::test]
async fn a_trace_is_one_from_hop_to_hop() {
    one_trace(Of::Weft, false).await;
}

#[tokio::test]
async fn envoy_and_ours_join_one_trace() {
    one_trace(Of::Envoy, false).await;
}

#[tokio::test]
async fn collectors_may_be_told_over_http() {
    one_trace(Of::Envoy, true).await;
}

#[tokio::test]
async fn what_a_request_comes_with_decides_and_goes_on() {
    let chain = Chain::start(Of::Weft, false, &telemetry("0")).await;
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let w3c = format!("00-{trace}-{parent}-01");
    let answer = chain.ask(&[("traceparent", &w3c), ("tracestate", "a=b")]).await;
    let seen: weft_tests::backend::Seen = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(seen.headers["tracestate"], ["a=b"]);
    connected(&chain.spans(trace, 4).await, parent, &goes_on(&answer).1);
    // B3 comes as it went, and a trace that is not sampled is told by nobody, but goes on.
    let other = "1af7651916cd43dd8448eb211c80319c";
    let answer = chain.ask(&[("b3", &format!("{other}-{parent}-1"))]).await;
    let (found, last, sampled) = goes_on(&answer);
    assert_eq!((&*found, sampled), (other, true));
    let seen: weft_tests::backend::Seen = serde_json::from_slice(&answer.body).unwrap();
    assert!(seen.headers["b3"][0].starts_with(&format!("{other}-{last}-1-")), "{:?}", seen.headers["b3"]);
    let (unsampled, _, sampled) = goes_on(&chain.ask(&[]).await);
    assert!(!sampled);
    connected(&chain.spans(other, 4).await, parent, &last);
    assert!(chain.collector.trace(&unsampled).is_empty());
}

#[tokio::test]
async fn a_collector_that_is_gone_costs_counted_spans_and_no_request() {
    let chain = Chain::start(Of::Weft, false, &telemetry("100")).await;
    chain.ask(&[]).await;
    let Chain { collector, mesh, web, web_proxy, _proxies, _db, .. } = chain;
    drop(collector);
    for _ in 0..20 {
        let mut connection = Connection::open(web, Protocol::H1).await.unwrap();
        let request = get(Protocol::H1, "api", "/").body(empty()).unwrap();
        assert_eq!(connection.send(request).await.unwrap().status, 200);
    }
    until("dropped spans counted", TOLD, async || {
        let (_, metrics) = http_get(web_proxy.admin, "/metrics").await?;
        let dropped = metrics
            .lines()
            .find(|line| line.starts_with("weft_trace_spans_dropped_total{reason=\"export_failed\"}"));
        let count = dropped.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        if count.is_some_and(|count| count >= 20) { Ok(()) } else { Err(format!("{dropped:?}")) }
    })
    .await;
    drop((mesh, _proxies, _db));
}

#[tokio::test]
async fn of_a_failed_request_log_trace_and_metric_say_the_same() {
    let chain = Chain::start(Of::Weft, false, &telemetry("100")).await;
    let mut connection = Connection::open(chain.gone, Protocol::H1).await.unwrap();
    let trace = "2af7651916cd43dd8448eb211c80319c";
    let request =
        get(Protocol::H1, "gone", "/").header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"));
    let request = request.header("x-request-id", "of-this-test");
    let answer = connection.send(request.body(empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status, 503);
    let span = chain.spans(trace, 1).await.remove(0);
    let tag = |name: &str| span.attributes.get(name).map(String::as_str);
    assert!(span.failed);
    assert_eq!((tag("http.status_code"), tag("response_flags")), (Some("503"), Some("UH")));
    let output = std::fs::read_to_string(chain.web_proxy.output()).unwrap();
    let line = output.lines().find(|line| line.contains("of-this-test")).expect("it is in the log");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["response_code"], &line["response_flags"]), (&json!(503), &json!("UH")));
    assert_eq!(tag("guid:x-request-id"), line["request_id"].as_str());
    let (_, metrics) = http_get(chain.web_proxy.admin, "/metrics").await.unwrap();
    let counted = |line: &&str| line.starts_with("istio_requests_total{") && line.contains("gone");
    let series = metrics.lines().find(counted).expect("it is counted");
    assert!(series.contains("response_code=\"503\"") && series.contains("response_flags=\"UH\""), "{series}");
}
