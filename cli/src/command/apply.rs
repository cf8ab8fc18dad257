//! `weft apply`: stores documents, all or none, and can wait until every proxy runs them.

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use weft_proto::admin::v1::{Applied, ApplyRequest, StatusRequest, StatusResponse};

use crate::{
    client::{Client, ClientArgs},
    command::{duration, status},
    failure::{Exit, Failure},
    manifest,
    output::{Item, Listing, OutputArgs, column},
    problem,
    progress::Spinner,
};

/// Options of `weft apply`.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// File or directory with documents, or - for stdin
    #[arg(short, long = "file", required = true, num_args = 1.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Wait until every proxy runs the change
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = duration)]
    wait: Option<Duration>,
    /// Check everything and tell what would happen, but store nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Stores the documents.
pub async fn run(args: ApplyArgs) -> Result<Exit, Failure> {
    let manifests = manifest::read(&args.files)?;
    let mut client = Client::connect(&args.client).await?;
    let request = ApplyRequest { manifests, dry_run: args.dry_run, expected_versions: Default::default() };
    let answer = client.calls.apply(request).await;
    let answer = client.take("cannot apply the documents", answer)?;
    for found in &answer.problems {
        eprint!("{}", problem::text(found));
    }
    if answer.problems.iter().any(problem::is_error) {
        return Err(Failure::new(
            Exit::No,
            "the documents were refused; nothing was changed",
            "the problems are listed above",
            "correct them and apply again",
        ));
    }
    listing(&answer.applied).print(args.output)?;
    match args.wait {
        Some(limit) if !args.dry_run => {
            let name = |one: &Applied| format!("{}/{}/{}", one.kind, one.namespace, one.name);
            let names: Vec<String> = answer.applied.iter().map(name).collect();
            wait(&mut client, answer.revision, &names, limit).await
        }
        _ => Ok(Exit::Yes),
    }
}

/// Waits until every proxy runs the revision, or one refuses these documents.
pub async fn wait(
    client: &mut Client,
    revision: u64,
    names: &[String],
    limit: Duration,
) -> Result<Exit, Failure> {
    let spinner = Spinner::start(format!("v{revision}: waiting for proxies"));
    let watched = status::watch(client, StatusRequest::default(), limit, |seen| {
        spinner.say(status::progress(seen));
        refusal(seen, names).is_some() || seen.live_revision >= revision
    })
    .await?;
    drop(spinner);
    if let Some(refusal) = refusal(&watched.status, names) {
        return Err(Failure::new(
            Exit::No,
            format!("v{revision} is stored, but a proxy refuses it"),
            refusal,
            "correct the document and apply it again; the proxy keeps running what it had",
        ));
    }
    if watched.reached {
        eprintln!("v{revision}: live on {} proxies", watched.status.proxies.len());
        return Ok(Exit::Yes);
    }
    Err(Failure::new(
        Exit::Unreachable,
        format!("v{revision} is stored, but not live everywhere after {limit:?}"),
        behind(&watched.status, revision),
        "look at them with `weft status`, or wait on with `weft status --wait`",
    ))
}

/// The first refusal that one of these documents caused.
fn refusal(status: &StatusResponse, names: &[String]) -> Option<String> {
    let rejected = status.proxies.iter().filter(|proxy| proxy.state == "rejected");
    rejected.flat_map(|proxy| proxy.rejections.iter().map(move |rejection| (proxy, rejection))).find_map(
        |(proxy, rejection)| {
            let ours = rejection.documents.iter().find(|document| names.contains(document))?;
            Some(format!("{} refused {ours}: {}", proxy.id, rejection.message))
        },
    )
}

/// Who does not run the revision yet.
fn behind(status: &StatusResponse, revision: u64) -> String {
    let names: Vec<&str> = status
        .proxies
        .iter()
        .filter(|proxy| proxy.acked_revision < revision)
        .map(|proxy| proxy.id.as_str())
        .collect();
    format!("not in sync: {}", names.join(", "))
}

fn listing(applied: &[Applied]) -> Listing {
    let columns =
        const { &[column("KIND"), column("NAMESPACE"), column("NAME"), column("ACTION"), column("VERSION")] };
    let items = applied
        .iter()
        .map(|one| Item {
            name: format!("{}/{}/{}", one.kind, one.namespace, one.name),
            cells: vec![
                one.kind.clone(),
                one.namespace.clone(),
                one.name.clone(),
                one.action.clone(),
                one.version.to_string(),
            ],
            json: json!({
                "kind": one.kind, "namespace": one.namespace, "name": one.name,
                "action": one.action, "version": one.version,
            }),
        })
        .collect();
    Listing { kind: "AppliedList", columns, items }
}

#[cfg(test)]
mod tests {
    use weft_proto::admin::v1::{ProxyStatus, Rejection};

    use super::*;

    fn status(document: &str) -> StatusResponse {
        let rejection = Rejection {
            message: "no such filter".into(),
            documents: vec![document.into()],
            ..Default::default()
        };
        let proxy = ProxyStatus {
            id: "web-1".into(),
            state: "rejected".into(),
            rejections: vec![rejection],
            ..Default::default()
        };
        StatusResponse { proxies: vec![proxy], ..Default::default() }
    }

    #[test]
    fn only_a_refusal_of_our_documents_is_ours() {
        let names = ["VirtualService/default/api".to_owned()];
        assert_eq!(
            refusal(&status("VirtualService/default/api"), &names).unwrap(),
            "web-1 refused VirtualService/default/api: no such filter"
        );
        assert_eq!(refusal(&status("VirtualService/default/other"), &names), None);
    }

    #[test]
    fn applied_documents_are_listed_with_their_version() {
        let applied = Applied {
            kind: "Gateway".into(),
            namespace: "default".into(),
            name: "edge".into(),
            action: "created".into(),
            version: 1,
        };
        assert_eq!(
            listing(&[applied]).render(OutputArgs::default()),
            "KIND      NAMESPACE   NAME   ACTION    VERSION\nGateway   default     edge   created   1\n"
        );
    }
}
