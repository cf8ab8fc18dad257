//! `weft token`: what proxies and adapters join the mesh with, where their platform gives them nothing to show.

use std::time::Duration;

use serde_json::json;
use weft_proto::admin::v1::{CreateTokenRequest, WorkloadIdentity, create_token_request::Bearer};

use crate::{
    client::{Client, ClientArgs},
    command,
    failure::{Exit, Failure},
    output::{Item, Listing, OutputArgs, column},
};

/// Options of `weft token`.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with tokens.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a token for one proxy or adapter; it can be used once, and nobody can be told it again
    Create {
        /// Namespace of the workload
        #[arg(long, short, default_value = "default", conflicts_with = "adapter")]
        namespace: String,
        /// Service account of the workload
        #[arg(long, value_name = "NAME", required_unless_present = "adapter", conflicts_with = "adapter")]
        service_account: Option<String>,
        /// The source that an adapter may speak for, e.g. consul/dc1
        #[arg(long, value_name = "SOURCE")]
        adapter: Option<String>,
        /// How long it can be used, at most a day
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
        ttl: Duration,
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

fn lifetime(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('h').and_then(|hours| hours.parse::<u64>().ok()) {
        Some(hours) if hours <= 24 => Ok(Duration::from_secs(hours * 3600)),
        _ => command::duration(text),
    }
}

/// Does it.
pub async fn run(args: TokenArgs) -> Result<Exit, Failure> {
    let Action::Create { namespace, service_account, adapter, ttl, client, output } = args.action;
    let mut client = Client::connect(&client).await?;
    let workload = || WorkloadIdentity { namespace, service_account: service_account.unwrap_or_default() };
    let bearer = adapter.map_or_else(|| Bearer::Workload(workload()), Bearer::Adapter);
    let ttl_seconds = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
    let answer = client.calls.create_token(CreateTokenRequest { bearer: Some(bearer), ttl_seconds }).await;
    let created = client.take("cannot make a token", answer)?;
    let item = Item {
        name: format!("token/{}", created.identity),
        cells: vec![created.identity.clone(), created.token.clone()],
        json: json!({
            "identity": created.identity,
            "token": created.token,
            "expiresAtSeconds": created.expires_at_seconds,
        }),
    };
    let columns = const { &[column("IDENTITY"), column("TOKEN")] };
    Listing { kind: "TokenList", columns, items: vec![item] }.print(output)?;
    Ok(Exit::Yes)
}
