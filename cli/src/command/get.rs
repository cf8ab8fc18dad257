//! `weft get`: lists documents and what the control plane knows of the mesh.

use serde_json::json;
use weft_proto::admin::v1::{Document, ListRequest, ServiceView, ServicesRequest, StatusRequest};

use crate::{
    client::{Client, ClientArgs},
    command::{document_status, status},
    failure::{Exit, Failure},
    kind::Kind,
    output::{self, Format, Item, Listing, OutputArgs, age, column, now_seconds, wide},
    problem,
};

/// Options of `weft get`.
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// What to list
    #[arg(value_enum, ignore_case = true)]
    kind: Kind,
    /// Only the one of this name
    name: Option<String>,
    /// Its namespace
    #[arg(short, long, default_value = "default", conflicts_with = "all_namespaces")]
    namespace: String,
    /// Every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the list; asked for one name, it must exist.
pub async fn run(args: GetArgs) -> Result<Exit, Failure> {
    let mut client = Client::connect(&args.client).await?;
    let now = now_seconds();
    let mut listing = match args.kind {
        Kind::Services => services(&registry(&mut client, &args).await?),
        Kind::Endpoints => endpoints(&registry(&mut client, &args).await?),
        Kind::Proxies | Kind::Sources => {
            let answer = client.calls.status(StatusRequest::default()).await;
            let answer = client.take("cannot read the status", answer)?;
            match args.kind {
                Kind::Proxies => status::proxies(&answer.proxies, now),
                _ => status::sources(&answer, now),
            }
        }
        _ => {
            let mut found = list(&mut client, &args).await?;
            if let Some(name) = &args.name {
                found.retain(|document| document.name == *name);
            }
            if let ([document], Some(_), Format::Yaml) = (&found[..], &args.name, args.output.output) {
                // One document by name is given back as its owner wrote it, comments and all, and its status with it.
                output::print(&document_status::with(document))?;
                return Ok(Exit::Yes);
            }
            documents(&found, now)
        }
    };
    if let (Some(name), Kind::Proxies | Kind::Sources) = (&args.name, args.kind) {
        listing.items.retain(|item| item.name.split_once('/').is_some_and(|(_, own)| own == name));
    }
    if let (Some(name), true) = (&args.name, listing.items.is_empty()) {
        return Err(missing(&args, name));
    }
    listing.print(args.output)?;
    Ok(Exit::Yes)
}

fn missing(args: &GetArgs, name: &str) -> Failure {
    let place = if args.all_namespaces { "any namespace".to_owned() } else { args.namespace.clone() };
    let kind = args.kind;
    Failure::new(
        Exit::NotFound,
        format!("there is no {name} among {kind}"),
        format!("looked in {place} at {}", args.client.address),
        format!("list what exists with `weft get {kind} -A`"),
    )
}

fn namespace(args: &GetArgs) -> String {
    if args.all_namespaces { String::new() } else { args.namespace.clone() }
}

async fn list(client: &mut Client, args: &GetArgs) -> Result<Vec<Document>, Failure> {
    let kind = args.kind.document().unwrap_or_default().to_owned();
    let answer = client.calls.list(ListRequest { kind, namespace: namespace(args) }).await;
    Ok(client.take("cannot list documents", answer)?.documents)
}

async fn registry(client: &mut Client, args: &GetArgs) -> Result<Vec<ServiceView>, Failure> {
    let request = ServicesRequest { namespace: namespace(args), name: args.name.clone().unwrap_or_default() };
    let answer = client.calls.services(request).await;
    Ok(client.take("cannot list services", answer)?.services)
}

fn documents(documents: &[Document], now: i64) -> Listing {
    let columns = const {
        &[
            column("KIND"),
            column("NAMESPACE"),
            column("NAME"),
            column("VERSION"),
            column("CONDITIONS"),
            column("PROBLEMS"),
            column("AGE"),
            wide("OWNER"),
            wide("FIRST PROBLEM"),
        ]
    };
    let items = documents
        .iter()
        .map(|document| Item {
            name: format!("{}/{}/{}", document.kind, document.namespace, document.name),
            cells: vec![
                document.kind.clone(),
                document.namespace.clone(),
                document.name.clone(),
                document.version.to_string(),
                document_status::summary(document),
                document.problems.len().to_string(),
                age(document.stored_at_seconds, now),
                document.owner.clone(),
                document.problems.first().map(|first| first.message.clone()).unwrap_or_default(),
            ],
            json: json!({
                "kind": document.kind,
                "namespace": document.namespace,
                "name": document.name,
                "version": document.version,
                "owner": document.owner,
                "storedAtSeconds": document.stored_at_seconds,
                "yaml": document.yaml,
                "status": document_status::json(document),
                "problems": document.problems.iter().map(problem::json).collect::<Vec<_>>(),
            }),
        })
        .collect();
    Listing { kind: "DocumentList", columns, items }
}

fn services(services: &[ServiceView]) -> Listing {
    let columns = const {
        &[
            column("NAME"),
            column("NAMESPACE"),
            column("PORTS"),
            column("ENDPOINTS"),
            column("HEALTHY"),
            column("SOURCES"),
            wide("HOST"),
            wide("VIRTUAL IP"),
            wide("CONFLICTS"),
        ]
    };
    let items = services
        .iter()
        .map(|service| {
            let usable = |health: &str| health == "healthy" || health == "unknown";
            let healthy = service.endpoints.iter().filter(|endpoint| usable(&endpoint.health)).count();
            Item {
                name: format!("service/{}/{}", service.namespace, service.name),
                cells: vec![
                    service.name.clone(),
                    service.namespace.clone(),
                    service.ports.join(","),
                    service.endpoints.len().to_string(),
                    healthy.to_string(),
                    service.sources.join(","),
                    service.host.clone(),
                    service.virtual_ip.clone(),
                    service.conflicts.join("; "),
                ],
                json: service_json(service),
            }
        })
        .collect();
    Listing { kind: "ServiceList", columns, items }
}

fn service_json(service: &ServiceView) -> serde_json::Value {
    json!({
        "namespace": service.namespace,
        "name": service.name,
        "host": service.host,
        "ports": service.ports,
        "sources": service.sources,
        "virtualIp": service.virtual_ip,
        "conflicts": service.conflicts,
        "endpoints": service.endpoints.iter().map(|endpoint| json!({
            "id": endpoint.id,
            "address": endpoint.address,
            "ports": endpoint.ports,
            "health": endpoint.health,
            "labels": endpoint.labels.iter().collect::<std::collections::BTreeMap<_, _>>(),
            "locality": endpoint.locality,
            "stale": endpoint.stale,
        })).collect::<Vec<_>>(),
    })
}

fn endpoints(services: &[ServiceView]) -> Listing {
    let columns = const {
        &[
            column("SERVICE"),
            column("NAMESPACE"),
            column("ADDRESS"),
            column("PORTS"),
            column("HEALTH"),
            column("LABELS"),
            wide("LOCALITY"),
            wide("STALE"),
            wide("ID"),
        ]
    };
    let items = services
        .iter()
        .flat_map(|service| service.endpoints.iter().map(move |endpoint| (service, endpoint)))
        .map(|(service, endpoint)| {
            let labels: std::collections::BTreeMap<_, _> = endpoint.labels.iter().collect();
            let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            Item {
                name: format!("endpoint/{}", endpoint.id),
                cells: vec![
                    service.name.clone(),
                    service.namespace.clone(),
                    endpoint.address.clone(),
                    endpoint.ports.join(","),
                    endpoint.health.clone(),
                    shown.join(","),
                    endpoint.locality.clone(),
                    endpoint.stale.to_string(),
                    endpoint.id.clone(),
                ],
                json: json!({
                    "service": service.name,
                    "namespace": service.namespace,
                    "id": endpoint.id,
                    "address": endpoint.address,
                    "ports": endpoint.ports,
                    "health": endpoint.health,
                    "labels": labels,
                    "locality": endpoint.locality,
                    "stale": endpoint.stale,
                }),
            }
        })
        .collect();
    Listing { kind: "EndpointList", columns, items }
}

#[cfg(test)]
mod tests {
    use weft_proto::admin::v1::EndpointView;

    use super::*;

    fn service() -> ServiceView {
        let endpoint = |id: &str, health: &str| EndpointView {
            id: id.into(),
            address: "127.0.0.1".into(),
            ports: vec!["http:8080".into()],
            health: health.into(),
            labels: [("version".to_owned(), "v1".to_owned())].into(),
            ..Default::default()
        };
        ServiceView {
            namespace: "default".into(),
            name: "api".into(),
            ports: vec!["http:80/http".into()],
            sources: vec!["files/demo".into()],
            endpoints: vec![endpoint("a", "healthy"), endpoint("b", "draining")],
            ..Default::default()
        }
    }

    #[test]
    fn services_count_their_healthy_endpoints() {
        assert_eq!(
            services(&[service()]).render(OutputArgs::default()),
            "NAME   NAMESPACE   PORTS          ENDPOINTS   HEALTHY   SOURCES\n\
             api    default     http:80/http   2           1         files/demo\n"
        );
    }

    #[test]
    fn endpoints_are_rows_of_their_service() {
        assert_eq!(
            endpoints(&[service()]).render(OutputArgs::default()),
            "SERVICE   NAMESPACE   ADDRESS     PORTS       HEALTH     LABELS\n\
             api       default     127.0.0.1   http:8080   healthy    version=v1\n\
             api       default     127.0.0.1   http:8080   draining   version=v1\n"
        );
    }

    #[test]
    fn documents_show_their_problems() {
        let document = Document {
            kind: "VirtualService".into(),
            namespace: "default".into(),
            name: "api".into(),
            version: 3,
            stored_at_seconds: 10,
            status: Some(Default::default()),
            ..Default::default()
        };
        assert_eq!(
            documents(&[document], 20).render(OutputArgs::default()),
            "KIND             NAMESPACE   NAME   VERSION   CONDITIONS   PROBLEMS   AGE\n\
             VirtualService   default     api    3         -            0          10s\n"
        );
    }
}
