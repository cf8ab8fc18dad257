//! `weft ca`: the mesh's certificate authority.

use serde_json::json;
use weft_proto::admin::v1::RotateAuthorityRequest;

use crate::{
    client::{Client, ClientArgs},
    failure::{Exit, Failure},
    output::{Item, Listing, OutputArgs, column},
};

/// Options of `weft ca`.
#[derive(Debug, clap::Args)]
pub struct CaArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with the authority.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Replace the root: a new one is trusted at once, and signs when every live proxy believes it
    Rotate {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Does it.
pub async fn run(args: CaArgs) -> Result<Exit, Failure> {
    let Action::Rotate { client, output } = args.action;
    let mut client = Client::connect(&client).await?;
    let answer = client.calls.rotate_authority(RotateAuthorityRequest {}).await;
    let begun = client.take("cannot replace the root authority", answer)?;
    let item = Item {
        name: "ca/root".to_owned(),
        cells: vec![begun.bundle_version.to_string()],
        json: json!({"bundleVersion": begun.bundle_version}),
    };
    let columns = const { &[column("BUNDLE")] };
    Listing { kind: "RotationList", columns, items: vec![item] }.print(output)?;
    Ok(Exit::Yes)
}
