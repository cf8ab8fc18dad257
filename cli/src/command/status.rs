//! `weft status`: are proxies connected, and do they run what the control plane wants?

use std::time::Duration;

use serde_json::json;
use weft_proto::admin::v1::{ProxyStatus, StatusRequest, StatusResponse};

use crate::{
    client::{Client, ClientArgs},
    command::duration,
    failure::{Exit, Failure},
    output::{self, Format, Item, Listing, OutputArgs, age, column, now_seconds, wide},
    progress::Spinner,
};

/// Options of `weft status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Only proxies whose id contains this
    proxy: Option<String>,
    /// Wait until every proxy runs the newest revision
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the state; yes when everything is in sync.
pub async fn run(args: StatusArgs) -> Result<Exit, Failure> {
    let mut client = Client::connect(&args.client).await?;
    let request = StatusRequest { proxy: args.proxy.clone().unwrap_or_default() };
    let status = match args.wait {
        None => {
            let answer = client.calls.status(request).await;
            client.take("cannot read the status", answer)?
        }
        Some(limit) => {
            let spinner = Spinner::start("waiting for proxies");
            watch(&mut client, request, limit, |status| {
                spinner.say(progress(status));
                in_sync(status)
            })
            .await?
            .status
        }
    };
    print(&status, args.output)?;
    let timed_out = args.wait.is_some() && !in_sync(&status) && !refused(&status);
    Ok(match (in_sync(&status), timed_out) {
        (true, _) => Exit::Yes,
        (false, true) => Exit::Unreachable,
        (false, false) => Exit::No,
    })
}

/// What a watch ended with.
pub struct Watched {
    /// The last status seen.
    pub status: StatusResponse,
    /// Whether it is what was waited for; otherwise time ran out.
    pub reached: bool,
}

/// Follows the status until it is as wanted or time runs out.
pub async fn watch(
    client: &mut Client,
    request: StatusRequest,
    limit: Duration,
    mut wanted: impl FnMut(&StatusResponse) -> bool,
) -> Result<Watched, Failure> {
    let what = "cannot follow the status";
    let deadline = tokio::time::Instant::now() + limit;
    let answer = client.calls.watch(request).await;
    let mut stream = client.take(what, answer)?;
    let mut last = StatusResponse::default();
    loop {
        match tokio::time::timeout_at(deadline, stream.message()).await {
            Err(_late) => return Ok(Watched { status: last, reached: false }),
            Ok(Ok(Some(status))) if wanted(&status) => return Ok(Watched { status, reached: true }),
            Ok(Ok(Some(status))) => last = status,
            Ok(Ok(None)) => {
                return Err(Failure::new(
                    Exit::Unreachable,
                    what,
                    "the control plane ended the stream",
                    "try again; `weft status` shows whether it is back",
                ));
            }
            Ok(Err(status)) => return Err(Failure::from_status(what, &client.address, &status)),
        }
    }
}

/// Whether every proxy runs the newest revision.
pub fn in_sync(status: &StatusResponse) -> bool {
    status.live_revision >= status.revision && status.proxies.iter().all(|proxy| proxy.state == "synced")
}

fn refused(status: &StatusResponse) -> bool {
    status.proxies.iter().any(|proxy| proxy.state == "rejected")
}

/// "v42: 38/40 proxies in sync".
pub fn progress(status: &StatusResponse) -> String {
    let synced = status.proxies.iter().filter(|proxy| proxy.state == "synced").count();
    format!("v{}: {synced}/{} proxies in sync", status.revision, status.proxies.len())
}

fn print(status: &StatusResponse, args: OutputArgs) -> Result<(), Failure> {
    let now = now_seconds();
    let proxies = proxies(&status.proxies, now);
    let sources = sources(status, now);
    let value = || {
        json!({
            "apiVersion": "weft.dev/v1",
            "kind": "Status",
            "revision": status.revision,
            "liveRevision": status.live_revision,
            "version": status.version,
            "proxies": proxies.items.iter().map(|item| &item.json).collect::<Vec<_>>(),
            "sources": sources.items.iter().map(|item| &item.json).collect::<Vec<_>>(),
        })
    };
    let text = match args.output {
        Format::Json => output::pretty(&value()),
        Format::Yaml => output::yaml(&value()),
        Format::Jsonl => format!("{}\n", value()),
        Format::Name => proxies.render(args) + &sources.render(args),
        Format::Table | Format::Wide => {
            let reasons: String = status.proxies.iter().flat_map(rejections).collect();
            format!(
                "revision {}, live everywhere: {}\n\n{}\n{}{reasons}",
                status.revision,
                status.live_revision,
                proxies.render(args),
                sources.render(args),
            )
        }
    };
    output::print(&text)
}

fn rejections(proxy: &ProxyStatus) -> impl Iterator<Item = String> {
    proxy.rejections.iter().map(|rejection| {
        format!("\n{} refused {}: {}\n", proxy.id, rejection.documents.join(", "), rejection.message)
    })
}

/// Proxies as a listing.
pub fn proxies(proxies: &[ProxyStatus], now: i64) -> Listing {
    let columns = const {
        &[
            column("PROXY"),
            column("WORKLOAD"),
            column("KIND"),
            column("STATE"),
            column("REVISION"),
            column("AGE"),
            wide("VERSION"),
            wide("PROTOCOL"),
            wide("PEER"),
        ]
    };
    let items = proxies
        .iter()
        .map(|proxy| Item {
            name: format!("proxy/{}", proxy.id),
            cells: vec![
                proxy.id.clone(),
                proxy.workload.clone(),
                proxy.kind.clone(),
                proxy.state.clone(),
                proxy.acked_revision.to_string(),
                age(proxy.connected_at_seconds, now),
                proxy.version.clone(),
                proxy.protocol.clone(),
                proxy.peer.clone(),
            ],
            json: json!({
                "id": proxy.id,
                "workload": proxy.workload,
                "kind": proxy.kind,
                "version": proxy.version,
                "state": proxy.state,
                "ackedRevision": proxy.acked_revision,
                "connectedAtSeconds": proxy.connected_at_seconds,
                "peer": proxy.peer,
                "protocol": proxy.protocol,
                "rejections": proxy.rejections.iter().map(|rejection| json!({
                    "typeUrl": rejection.type_url,
                    "message": rejection.message,
                    "documents": rejection.documents,
                })).collect::<Vec<_>>(),
            }),
        })
        .collect();
    Listing { kind: "ProxyList", columns, items }
}

/// Sources as a listing.
pub fn sources(status: &StatusResponse, now: i64) -> Listing {
    let columns = const {
        &[
            column("SOURCE"),
            column("PLATFORM"),
            column("STATE"),
            column("SERVICES"),
            column("ENDPOINTS"),
            column("HELD"),
            column("SYNCED"),
            column("REASON"),
            wide("REFUSED"),
        ]
    };
    let items = status
        .sources
        .iter()
        .map(|source| Item {
            name: format!("source/{}", source.name),
            cells: vec![
                source.name.clone(),
                source.platform.clone(),
                source.state.clone(),
                source.services.to_string(),
                source.endpoints.to_string(),
                source.held.to_string(),
                age(source.last_sync_seconds, now),
                source.reason.clone(),
                source.rejected.to_string(),
            ],
            json: json!({
                "name": source.name,
                "platform": source.platform,
                "state": source.state,
                "reason": source.reason,
                "services": source.services,
                "endpoints": source.endpoints,
                "held": source.held,
                "refused": source.rejected,
                "lastSyncSeconds": source.last_sync_seconds,
            }),
        })
        .collect();
    Listing { kind: "SourceList", columns, items }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(id: &str, state: &str) -> ProxyStatus {
        ProxyStatus {
            id: id.into(),
            workload: "api".into(),
            kind: "weft".into(),
            state: state.into(),
            acked_revision: 7,
            connected_at_seconds: 1_000,
            ..Default::default()
        }
    }

    #[test]
    fn proxies_show_what_they_run() {
        let text = proxies(&[proxy("api-1", "synced"), proxy("web-1", "pending")], 1_042)
            .render(OutputArgs::default());
        assert_eq!(
            text,
            "PROXY   WORKLOAD   KIND   STATE     REVISION   AGE\n\
             api-1   api        weft   synced    7          42s\n\
             web-1   api        weft   pending   7          42s\n"
        );
    }

    #[test]
    fn one_proxy_behind_means_not_in_sync() {
        let mut status = StatusResponse {
            revision: 7,
            live_revision: 7,
            proxies: vec![proxy("api-1", "synced")],
            ..Default::default()
        };
        assert!(in_sync(&status));
        status.proxies.push(proxy("web-1", "pending"));
        assert!(!in_sync(&status));
        assert_eq!(progress(&status), "v7: 1/2 proxies in sync");
        status.proxies.pop();
        status.revision = 8;
        assert!(!in_sync(&status));
    }
}
