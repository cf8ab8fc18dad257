//! `weft validate`: checks documents and stores nothing.

use std::path::PathBuf;

use weft_control::{
    documents::{self, DocumentSet, Severity},
    model::Mesh,
};
use weft_proto::admin::v1::{Manifest, Problem, ValidateRequest, ValidateResponse};

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
    #[arg(value_name = "FILES", required_unless_present = "file")]
    files: Vec<PathBuf>,
    /// The same, written as for `apply`
    #[arg(short, long, num_args = 1.., value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Check against the mesh as it is, too
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints what is wrong; yes when nothing is.
pub async fn run(args: ValidateArgs) -> Result<Exit, Failure> {
    let paths: Vec<PathBuf> = args.files.into_iter().chain(args.file).collect();
    let manifests = manifest::read(&paths)?;
    let found = if args.live { live(&args.client, manifests).await? } else { offline(&manifests) };
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

/// What can be seen without a mesh. A host that only the mesh knows is no problem here.
fn offline(manifests: &[Manifest]) -> ValidateResponse {
    let texts = manifests.iter().map(|manifest| (manifest.yaml.as_str(), manifest.origin.as_str()));
    let (read, found) = documents::parse_all(texts);
    let mut problems: Vec<Problem> = found.into_iter().map(told).collect();
    let documents = u32::try_from(read.len()).unwrap_or(u32::MAX);
    let set: DocumentSet = read.into_iter().collect();
    // What these files lack the mesh may have: alone, that is a warning.
    let missing = documents::check(&set, &Mesh::default())
        .into_iter()
        .filter(|found| found.severity == Severity::Error);
    problems.extend(missing.map(|found| told(documents::Problem { severity: Severity::Warning, ..found })));
    ValidateResponse { problems, documents }
}

/// A problem in the words of the admin API.
fn told(problem: documents::Problem) -> Problem {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    Problem {
        origin: problem.origin.to_string(),
        line: problem.line,
        column: problem.column,
        field: problem.field,
        message: problem.message,
        hint: problem.hint,
        severity: severity.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(yaml: &str) -> Vec<String> {
        let manifest = Manifest { yaml: yaml.to_owned(), origin: "demo.yaml".to_owned() };
        offline(&[manifest])
            .problems
            .iter()
            .filter(|found| problem::is_error(found))
            .map(problem::text)
            .collect()
    }

    #[test]
    fn the_examples_of_the_demo_are_right() {
        for yaml in [
            crate::demo::documents::first(),
            crate::demo::documents::HALF.to_owned(),
            crate::demo::documents::BY_USER.to_owned(),
        ] {
            assert_eq!(errors(&yaml), Vec::<String>::new());
        }
    }

    #[test]
    fn a_document_that_two_files_define_is_refused_in_the_second() {
        let manifest = |origin: &str| Manifest {
            yaml: crate::demo::documents::CANARY.to_owned(),
            origin: origin.to_owned(),
        };
        let found = offline(&[manifest("a.yaml"), manifest("b.yaml")]).problems;
        let errors: Vec<String> =
            found.iter().filter(|found| problem::is_error(found)).map(problem::text).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].starts_with("b.yaml:1:1: error: metadata.name: ") && errors[0].contains("a.yaml:1")
        );
    }

    #[test]
    fn the_broken_example_is_refused_at_its_line() {
        let found = errors(crate::demo::documents::BROKEN);
        assert!(found.iter().any(|text| text.starts_with("demo.yaml:13:")), "{found:?}");
        assert!(found.iter().any(|text| text.contains("wieght")), "{found:?}");
    }
}
