//! `weft stat` and `weft edges`: how services do, and who calls whom, as proxies of every kind report it to the control
//! plane. No monitoring stack is asked.

use std::time::Duration;

use serde_json::json;
use weft_proto::admin::v1::{Edge, ServicesRequest, TrafficRequest, TrafficResponse};

use crate::{
    client::{Client, ClientArgs},
    command::{duration, flow},
    failure::{Exit, Failure},
    output::{Item, Listing, OutputArgs, column, wide},
};

/// Options of `weft stat` and `weft edges`.
#[derive(Debug, clap::Args)]
pub struct TrafficArgs {
    /// Only calls of this service
    service: Option<String>,
    /// Only calls of services of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// How far to look back, up to 15m
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    window: Duration,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints how each part of each service does.
pub async fn stat(args: TrafficArgs) -> Result<Exit, Failure> {
    let told = ask(&args).await?;
    services(&told.destinations).print(args.output)?;
    Ok(Exit::Yes)
}

/// Prints who calls whom.
pub async fn edges(args: TrafficArgs) -> Result<Exit, Failure> {
    let told = ask(&args).await?;
    callers(&told.edges).print(args.output)?;
    Ok(Exit::Yes)
}

/// What is known of the traffic asked for. A service that nobody calls is known all the same; one that is not is an error.
async fn ask(args: &TrafficArgs) -> Result<TrafficResponse, Failure> {
    let mut client = Client::connect(&args.client).await?;
    let (namespace, name) = (args.namespace.clone().unwrap_or_default(), args.service.clone());
    let request = TrafficRequest {
        namespace: namespace.clone(),
        service: name.clone().unwrap_or_default(),
        window_seconds: u32::try_from(args.window.as_secs()).unwrap_or(u32::MAX),
    };
    let answer = client.calls.traffic(request).await;
    let told = client.take("cannot read the traffic", answer)?;
    let Some(name) = name.filter(|_| told.edges.is_empty()) else { return Ok(told) };
    let answer = client.calls.services(ServicesRequest { namespace, name: name.clone() }).await;
    if client.take("cannot list services", answer)?.services.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no service {name}"),
            format!("looked at {}", client.address),
            "list what exists with `weft get services -A`",
        ));
    }
    Ok(told)
}

fn services(parts: &[Edge]) -> Listing {
    let columns = const {
        &[
            column("NAMESPACE"),
            column("NAME"),
            column("VERSION"),
            column("RPS"),
            column("SUCCESS"),
            column("P50"),
            column("P90"),
            column("P99"),
            wide("PORT"),
            wide("SUBSET"),
            wide("ERRORS/S"),
            wide("REQUESTS"),
            wide("DROPPED"),
            wide("ACTIVE"),
        ]
    };
    let items = parts.iter().map(|part| {
        let flow = part.flow.unwrap_or_default();
        let (namespace, name) = called(part);
        Item {
            name: format!("service/{namespace}/{name}"),
            cells: vec![
                namespace,
                name,
                part.version.clone(),
                flow::rate(flow.requests_per_second),
                flow::success(&flow),
                flow::latency(flow.p50_ms),
                flow::latency(flow.p90_ms),
                flow::latency(flow.p99_ms),
                part.port.to_string(),
                part.subset.clone(),
                flow::rate(flow.errors_per_second),
                flow.requests.to_string(),
                flow.dropped.to_string(),
                flow.active.to_string(),
            ],
            json: json!({
                "namespace": part.namespace,
                "service": part.service,
                "host": part.host,
                "port": part.port,
                "subset": part.subset,
                "version": part.version,
                "flow": flow::json(&flow),
            }),
        }
    });
    Listing { kind: "ServiceTrafficList", columns, items: items.collect() }
}

fn callers(edges: &[Edge]) -> Listing {
    let columns = const {
        &[
            column("SOURCE"),
            column("DESTINATION"),
            column("VERSION"),
            column("RPS"),
            column("SUCCESS"),
            column("P50"),
            column("P99"),
            wide("PORT"),
            wide("SUBSET"),
            wide("P90"),
            wide("ERRORS/S"),
            wide("REQUESTS"),
            wide("DROPPED"),
            wide("ACTIVE"),
        ]
    };
    let items = edges.iter().map(|edge| {
        let flow = edge.flow.unwrap_or_default();
        let (namespace, name) = called(edge);
        let source = format!("{}/{}", edge.source_namespace, edge.source_workload);
        let destination = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
        Item {
            name: format!("edge/{source}/{destination}"),
            cells: vec![
                source,
                destination,
                edge.version.clone(),
                flow::rate(flow.requests_per_second),
                flow::success(&flow),
                flow::latency(flow.p50_ms),
                flow::latency(flow.p99_ms),
                edge.port.to_string(),
                edge.subset.clone(),
                flow::latency(flow.p90_ms),
                flow::rate(flow.errors_per_second),
                flow.requests.to_string(),
                flow.dropped.to_string(),
                flow.active.to_string(),
            ],
            json: json!({
                "sourceNamespace": edge.source_namespace,
                "sourceWorkload": edge.source_workload,
                "namespace": edge.namespace,
                "service": edge.service,
                "host": edge.host,
                "port": edge.port,
                "subset": edge.subset,
                "version": edge.version,
                "flow": flow::json(&flow),
            }),
        }
    });
    Listing { kind: "EdgeList", columns, items: items.collect() }
}

/// Namespace and name of what is called; its host where the registry does not know it.
fn called(edge: &Edge) -> (String, String) {
    match edge.service.as_str() {
        "" => (String::new(), edge.host.clone()),
        name => (edge.namespace.clone(), name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::admin::v1::Flow;

    use super::*;
    use crate::output::Format;

    fn edges() -> Vec<Edge> {
        let known = Edge {
            source_namespace: "shop".into(),
            source_workload: "web".into(),
            namespace: "shop".into(),
            service: "api".into(),
            host: "api.shop.svc.cluster.local".into(),
            port: 80,
            subset: "v1".into(),
            version: "v1".into(),
            flow: Some(Flow {
                requests_per_second: 47.53,
                errors_per_second: 0.5,
                success: Some(0.9899),
                p50_ms: Some(2.04),
                p90_ms: Some(8.0),
                p99_ms: Some(40.4),
                requests: 2852,
                dropped: 1,
                active: 3,
            }),
        };
        let stranger = Edge {
            namespace: String::new(),
            service: String::new(),
            host: "example.org".into(),
            port: 443,
            subset: String::new(),
            version: String::new(),
            flow: Some(Flow { requests_per_second: 0.1, success: Some(1.0), requests: 6, ..Flow::default() }),
            ..known.clone()
        };
        vec![known, stranger]
    }

    #[test]
    fn edges_are_callers_and_what_they_call() {
        assert_eq!(
            callers(&edges()).render(OutputArgs::default()),
            "SOURCE     DESTINATION   VERSION   RPS    SUCCESS   P50     P99\n\
             shop/web   shop/api      v1        47.5   98.99%    2.0ms   40ms\n\
             shop/web   example.org   -         0.1    100%      -       -\n"
        );
        let names = OutputArgs { output: Format::Name, no_headers: false };
        assert_eq!(callers(&edges()).render(names), "edge/shop/web/shop/api\nedge/shop/web/example.org\n");
    }

    #[test]
    fn services_show_how_they_do() {
        let all = OutputArgs { output: Format::Wide, no_headers: false };
        assert_eq!(
            services(&edges()[..1]).render(all),
            "NAMESPACE   NAME   VERSION   RPS    SUCCESS   P50     P90     P99    PORT   SUBSET   ERRORS/S   REQUESTS   DROPPED   ACTIVE\n\
             shop        api    v1        47.5   98.99%    2.0ms   8.0ms   40ms   80     v1       0.5        2852       1         3\n"
        );
    }

    #[test]
    fn machines_get_all_of_it() {
        let json = OutputArgs { output: Format::Json, no_headers: false };
        let text = callers(&edges()[..1]).render(json);
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&found["apiVersion"], &found["kind"]), (&json!("weft.dev/v1"), &json!("EdgeList")));
        assert_eq!(
            found["items"][0],
            json!({
                "sourceNamespace": "shop", "sourceWorkload": "web", "namespace": "shop", "service": "api",
                "host": "api.shop.svc.cluster.local", "port": 80, "subset": "v1", "version": "v1",
                "flow": {
                    "requestsPerSecond": 47.53, "errorsPerSecond": 0.5, "success": 0.9899, "p50Ms": 2.04,
                    "p90Ms": 8.0, "p99Ms": 40.4, "requests": 2852, "dropped": 1, "active": 3
                }
            })
        );
    }
}
