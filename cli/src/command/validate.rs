//! `weft validate`: checks documents and stores nothing.

use std::path::PathBuf;

use weft_proto::admin::v1::{Manifest, ValidateRequest, ValidateResponse};

use crate::{
    client::{Client, ClientArgs},
    failure::{Exit, Failure},
    manifest,
    output::{self, Format, OutputArgs},
    problem,
};

/// Options of `weft validate`.
#[derive(Debug, clap::Args)]
pub struct ValidateArgs {
    /// Files or directories with documents, or - for stdin
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Check against the mesh as it is, too
    #[arg(long, required = true)]
    live: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints what is wrong; yes when nothing is.
pub async fn run(args: ValidateArgs) -> Result<Exit, Failure> {
    let manifests = manifest::read(&args.files)?;
    let found = live(&args.client, manifests).await?;
    match args.output.output {
        Format::Table | Format::Wide => {
            output::print(&found.problems.iter().map(problem::text).collect::<String>())?;
            if found.problems.is_empty() {
                eprintln!("{} documents, nothing wrong", found.documents);
            }
        }
        _ => problem::listing(&found.problems).print(args.output)?,
    }
    Ok(if found.problems.iter().any(problem::is_error) { Exit::No } else { Exit::Yes })
}

async fn live(args: &ClientArgs, manifests: Vec<Manifest>) -> Result<ValidateResponse, Failure> {
    let mut client = Client::connect(args).await?;
    let answer = client.calls.validate(ValidateRequest { manifests }).await;
    client.take("cannot validate the documents", answer)
}
