//! `weft delete`: removes one document.

use serde_json::json;
use weft_proto::admin::v1::DeleteRequest;

use crate::{
    client::{Client, ClientArgs},
    failure::{Exit, Failure},
    kind::Kind,
    output::{Item, Listing, OutputArgs, column},
};

/// Options of `weft delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// Kind of the document, e.g. virtualservice or vs
    #[arg(value_parser = document_kind)]
    kind: &'static str,
    /// Its name
    name: String,
    /// Its namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Removes the document.
pub async fn run(args: DeleteArgs) -> Result<Exit, Failure> {
    let mut client = Client::connect(&args.client).await?;
    let what = format!("cannot delete {} {}/{}", args.kind, args.namespace, args.name);
    let request = DeleteRequest {
        kind: args.kind.to_owned(),
        namespace: args.namespace.clone(),
        name: args.name.clone(),
        expected_version: 0,
    };
    let answer = client.calls.delete(request).await;
    let deleted = client.take(&what, answer)?;
    let item = Item {
        name: format!("{}/{}/{}", args.kind, args.namespace, args.name),
        cells: vec![args.kind.to_owned(), args.namespace.clone(), args.name.clone(), "deleted".to_owned()],
        json: json!({
            "kind": args.kind, "namespace": args.namespace, "name": args.name,
            "action": "deleted", "revision": deleted.revision,
        }),
    };
    let columns = const { &[column("KIND"), column("NAMESPACE"), column("NAME"), column("ACTION")] };
    Listing { kind: "AppliedList", columns, items: vec![item] }.print(args.output)?;
    Ok(Exit::Yes)
}

fn document_kind(text: &str) -> Result<&'static str, String> {
    match <Kind as clap::ValueEnum>::from_str(text, true).map(Kind::document) {
        Ok(Some(kind)) if !kind.is_empty() => Ok(kind),
        Ok(_) => Err(format!(
            "{text} cannot be deleted; only documents can: virtualservice, destinationrule, serviceentry, gateway, sidecar"
        )),
        Err(_) => Err(format!(
            "{text:?} is no kind of document; virtualservice, destinationrule, serviceentry, gateway and sidecar are"
        )),
    }
}
