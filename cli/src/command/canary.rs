//! `weft canary`: how the traffic of a service is shared among its versions and how these do; shifts it, all the way or
//! back, and waits until every proxy runs the change.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use clap::{Args, Subcommand};
use weft_proto::admin::v1::{CanaryAction, CanaryRequest, CanaryResponse};

use crate::{
    client::{Client, ClientArgs},
    command::{apply, duration},
    failure::{Exit, Failure},
    output::{self, OutputArgs},
    problem,
};

mod show;

/// Time between two looks of `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(2);
/// Puts the cursor at the top of an empty terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Options of `weft canary`.
#[derive(Debug, Args)]
pub struct CanaryArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tell the share of every version, and how it does; 1 when one does worse than the stable version
    Status(StatusArgs),
    /// Give versions shares in percent; the others keep their proportions in what is left
    Set(SetArgs),
    /// Send everything to the canary
    Promote(PromoteArgs),
    /// Give every version the share that it had before the canary began
    Abort(AbortArgs),
}

/// Which service, and how to print its versions.
#[derive(Debug, Args)]
struct Common {
    /// Name of the service
    service: String,
    /// Namespace of the service
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How far to look back for traffic, up to 15m
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    window: Duration,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    common: Common,
    /// Look again every two seconds, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

/// How a shift is made.
#[derive(Debug, Args)]
struct ShiftArgs {
    /// How long to wait until every proxy runs the change
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration, conflicts_with = "no_wait")]
    wait: Duration,
    /// Return as soon as the change is stored
    #[arg(long)]
    no_wait: bool,
    /// Print the documents as they would be, and store nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct SetArgs {
    #[command(flatten)]
    common: Common,
    /// Version and its share in percent: v2=5
    #[arg(required = true, value_name = "VERSION=PERCENT", value_parser = share)]
    shares: Vec<(String, u32)>,
    #[command(flatten)]
    shift: ShiftArgs,
}

#[derive(Debug, Args)]
struct PromoteArgs {
    #[command(flatten)]
    common: Common,
    /// Version that gets everything; none is the one that got more since the canary began
    #[arg(value_name = "VERSION")]
    canary: Option<String>,
    #[command(flatten)]
    shift: ShiftArgs,
}

#[derive(Debug, Args)]
struct AbortArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    shift: ShiftArgs,
}

/// Does what was asked for, and prints how the versions are.
pub async fn run(args: CanaryArgs) -> Result<Exit, Failure> {
    match args.action {
        Action::Status(StatusArgs { common, watch: false }) => {
            let mut client = Client::connect(&common.client).await?;
            let told = ask(&mut client, common.request(CanaryAction::Status)).await?;
            show::print(&told, common.output)
        }
        Action::Status(StatusArgs { common, watch: true }) => watch(&common).await,
        Action::Set(SetArgs { common, shares, shift }) => {
            let weights = shares.into_iter().collect();
            self::shift(&common, &shift, CanaryAction::Set, weights).await
        }
        Action::Promote(PromoteArgs { common, canary, shift }) => {
            let weights = canary.into_iter().map(|version| (version, 100)).collect();
            self::shift(&common, &shift, CanaryAction::Promote, weights).await
        }
        Action::Abort(AbortArgs { common, shift }) => {
            self::shift(&common, &shift, CanaryAction::Abort, BTreeMap::new()).await
        }
    }
}

impl Common {
    fn request(&self, action: CanaryAction) -> CanaryRequest {
        CanaryRequest {
            namespace: self.namespace.clone(),
            service: self.service.clone(),
            action: action.into(),
            window_seconds: u32::try_from(self.window.as_secs()).unwrap_or(u32::MAX),
            ..CanaryRequest::default()
        }
    }
}

async fn ask(client: &mut Client, request: CanaryRequest) -> Result<CanaryResponse, Failure> {
    let what = format!("cannot tell the versions of {}/{}", request.namespace, request.service);
    let answer = client.calls.canary(request).await;
    client.take(&what, answer)
}

/// Writes the shift, waits for it and prints the outcome.
async fn shift(
    common: &Common,
    args: &ShiftArgs,
    action: CanaryAction,
    weights: BTreeMap<String, u32>,
) -> Result<Exit, Failure> {
    let mut client = Client::connect(&common.client).await?;
    let request = CanaryRequest { weights, dry_run: args.dry_run, ..common.request(action) };
    let what = format!("cannot shift the traffic of {}/{}", common.namespace, common.service);
    let answer = client.calls.canary(request).await;
    let told = client.take(&what, answer)?;
    for found in &told.problems {
        eprint!("{}", problem::text(found));
    }
    if told.problems.iter().any(problem::is_error) {
        return Err(Failure::new(
            Exit::No,
            what,
            "the problems are listed above; nothing was changed",
            format!(
                "look at the document with `weft get vs -n {} -o yaml`, and change it by hand",
                common.namespace
            ),
        ));
    }
    if args.dry_run {
        let texts: Vec<&str> = told.documents.iter().map(|document| document.after.as_str()).collect();
        output::print(&texts.join("---\n"))?;
        return Ok(Exit::Yes);
    }
    if args.no_wait {
        show::print(&told, common.output)?;
        return Ok(Exit::Yes);
    }
    let name =
        |one: &weft_proto::admin::v1::CanaryDocument| format!("{}/{}/{}", one.kind, one.namespace, one.name);
    let names: Vec<String> = told.documents.iter().map(name).collect();
    let exit = apply::wait(&mut client, told.revision, &names, args.wait).await?;
    let told = ask(&mut client, common.request(CanaryAction::Status)).await?;
    show::print(&told, common.output)?;
    Ok(exit)
}

/// Prints again and again; on a terminal each time in the same place.
async fn watch(common: &Common) -> Result<Exit, Failure> {
    let mut client = Client::connect(&common.client).await?;
    let clears = std::io::stdout().is_terminal();
    let mut first = true;
    loop {
        let told = ask(&mut client, common.request(CanaryAction::Status)).await?;
        match (clears, std::mem::take(&mut first), common.output.output) {
            (true, ..) => output::print(CLEAR)?,
            (false, false, output::Format::Table | output::Format::Wide) => output::print("\n")?,
            (false, false, output::Format::Yaml) => output::print("---\n")?,
            _ => {}
        }
        let exit = show::print(&told, common.output)?;
        tokio::select! {
            () = tokio::time::sleep(WATCH_PAUSE) => {}
            _ = tokio::signal::ctrl_c() => return Ok(exit),
        }
    }
}

/// Reads `v2=5`.
fn share(text: &str) -> Result<(String, u32), String> {
    let wrong = || format!("{text:?} is no share; write it like v2=5, with 0 to 100 percent");
    let (version, percent) =
        text.rsplit_once('=').filter(|(version, _)| !version.is_empty()).ok_or_else(wrong)?;
    let percent = percent.trim_end_matches('%').parse().ok().filter(|percent| *percent <= 100);
    Ok((version.to_owned(), percent.ok_or_else(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_version_and_a_percentage() {
        assert_eq!(share("v2=5"), Ok(("v2".to_owned(), 5)));
        assert_eq!(share("a=b=100%"), Ok(("a=b".to_owned(), 100)));
        for wrong in ["", "v2", "=5", "v2=", "v2=101", "v2=-1", "v2=many"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
