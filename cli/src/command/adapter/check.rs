//! `weft adapter PLATFORM --check`: what the adapter would tell, as a table; each step and its trouble on stderr.

use std::collections::BTreeMap;

use serde_json::json;
use weft_adapters::{
    catalog, check,
    report::{Finding, Trouble},
    settings::AdapterSettings,
};
use weft_dataplane::identity::agent;
use weft_proto::registry::v1::{Endpoint, Health, Protocol, Service, upsert::Object};

use super::identity;
use crate::{
    failure::{Exit, Failure},
    output::{Item, Listing, OutputArgs, column},
};

/// Looks once; yes when nothing stands in the way. Where an identity is to be got, it is got and kept.
pub async fn run(
    settings: AdapterSettings,
    joining: Option<agent::Settings>,
    output: OutputArgs,
) -> Result<Exit, Failure> {
    if joining.as_ref().is_some_and(|joining| joining.home.is_none()) {
        return Err(Failure::usage(
            "cannot look at the control planes",
            "the look would use the join token up, and keep nothing".to_owned(),
            "name a folder to keep the identity in with --data-dir",
        ));
    }
    let agent = joining.map(identity::agent).transpose()?;
    let dial = match &agent {
        Some(agent) => identity::joined(agent).await,
        None => identity::dial(None),
    };
    let report = check::check(&settings, dial.as_ref()).await;
    for finding in &report.findings {
        let word = if finding.trouble.is_none() { "ok" } else { "error" };
        eprintln!("{word}: {}", finding.what);
    }
    services(&report.items).print(output)?;
    let documents = report.items.iter().filter(|item| matches!(item.object(), Object::Document(_))).count();
    if documents > 0 {
        eprintln!("ok: {documents} documents would be told, too");
    }
    Ok(exit(&report.findings))
}

/// What scripts do first about it decides: get an answer, get permission, then mend what is said.
fn exit(findings: &[Finding]) -> Exit {
    let found = |trouble| findings.iter().any(|finding| finding.trouble == Some(trouble));
    if found(Trouble::Platform) {
        Exit::No
    } else if found(Trouble::NotAuthorised) {
        Exit::NotAuthorised
    } else if found(Trouble::ControlPlane) {
        Exit::Unreachable
    } else if found(Trouble::Content) {
        Exit::No
    } else {
        Exit::Yes
    }
}

/// Services with what their endpoints are like.
fn services(items: &[catalog::Item]) -> Listing {
    let mut found: BTreeMap<_, (Option<&Service>, Vec<&Endpoint>)> = BTreeMap::new();
    for item in items {
        let (key, service, endpoint) = match item.object() {
            Object::Service(service) => (&service.key, Some(service), None),
            Object::Endpoint(endpoint) => (&endpoint.service, None, Some(endpoint)),
            Object::Document(_) => continue,
        };
        let Some(key) = key else { continue };
        let entry = found.entry((key.namespace.as_str(), key.name.as_str())).or_default();
        entry.0 = entry.0.or(service);
        entry.1.extend(endpoint);
    }
    let columns = const {
        &[column("NAMESPACE"), column("NAME"), column("PORTS"), column("ENDPOINTS"), column("HEALTHY")]
    };
    let items = found.into_iter().map(|((namespace, name), (service, endpoints))| {
        let ports: Vec<String> =
            service.map(|service| service.ports.iter().map(port).collect()).unwrap_or_default();
        let healthy = endpoints.iter().filter(|endpoint| endpoint.health() != Health::Unhealthy).count();
        Item {
            name: format!("service/{name}"),
            cells: vec![
                namespace.to_owned(),
                name.to_owned(),
                ports.join(","),
                endpoints.len().to_string(),
                healthy.to_string(),
            ],
            json: json!({
                "namespace": namespace, "name": name, "ports": ports,
                "endpoints": endpoints.len(), "healthy": healthy,
            }),
        }
    });
    Listing { kind: "PreviewList", columns, items: items.collect() }
}

fn port(port: &weft_proto::registry::v1::Port) -> String {
    let protocol = match port.protocol() {
        Protocol::Unspecified | Protocol::Tcp => "tcp",
        Protocol::Http => "http",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
        Protocol::Tls => "tls",
    };
    format!("{}:{}/{protocol}", port.name, port.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(troubles: &[Trouble], exit_code: u8) {
        let finding = |trouble: &Trouble| Finding { what: String::new(), trouble: Some(*trouble) };
        let findings: Vec<Finding> = troubles.iter().map(finding).collect();
        assert_eq!(exit(&findings).code(), exit_code, "{troubles:?}");
    }

    #[test]
    fn every_trouble_has_its_exit_code() {
        check(&[], 0);
        check(&[Trouble::Content], 1);
        check(&[Trouble::Platform, Trouble::ControlPlane], 1);
        check(&[Trouble::Content, Trouble::ControlPlane], 3);
        check(&[Trouble::ControlPlane, Trouble::NotAuthorised], 5);
    }
}
