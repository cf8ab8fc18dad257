//! `weft source`: decisions about the sources that feed the registry.

use serde_json::json;
use weft_proto::admin::v1::ConfirmSourceRequest;

use crate::{
    client::{Client, ClientArgs},
    failure::{Exit, Failure},
    output::{Item, Listing, OutputArgs, column},
};

/// Options of `weft source`.
#[derive(Debug, clap::Args)]
pub struct SourceArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with a source.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Let a held-back removal of endpoints through at once
    Confirm {
        /// Name of the source, e.g. consul/dc1; `weft get sources` lists them
        name: String,
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Does it.
pub async fn run(args: SourceArgs) -> Result<Exit, Failure> {
    let Action::Confirm { name, client, output } = args.action;
    let mut client = Client::connect(&client).await?;
    let answer = client.calls.confirm_source(ConfirmSourceRequest { source: name.clone() }).await;
    let confirmed = client.take(&format!("cannot confirm the source {name}"), answer)?;
    let item = Item {
        name: format!("source/{name}"),
        cells: vec![name.clone(), confirmed.removed.to_string()],
        json: json!({"name": name, "removed": confirmed.removed}),
    };
    let columns = const { &[column("NAME"), column("REMOVED")] };
    Listing { kind: "ConfirmedList", columns, items: vec![item] }.print(output)?;
    Ok(Exit::Yes)
}
