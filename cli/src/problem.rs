//! Problems of documents as people and machines read them.

use serde_json::{Value, json};
use weft_proto::admin::v1::Problem;

use crate::output::{Column, Item, Listing, column};

/// Columns of the list of problems, for `-o table` of machines' taste.
pub const COLUMNS: &[Column] =
    &[column("PLACE"), column("SEVERITY"), column("FIELD"), column("PROBLEM"), column("HINT")];

/// Whether it refuses the document.
pub fn is_error(problem: &Problem) -> bool {
    problem.severity != "warning"
}

/// Where it is: `routes.yaml:4:7`.
pub fn place(problem: &Problem) -> String {
    let origin = if problem.origin.is_empty() { "-" } else { &problem.origin };
    match (problem.line, problem.column) {
        (0, _) => origin.to_owned(),
        (line, 0) => format!("{origin}:{line}"),
        (line, column) => format!("{origin}:{line}:{column}"),
    }
}

/// One or two lines: place, severity, field and message; then what to do.
pub fn text(problem: &Problem) -> String {
    let severity = if is_error(problem) { "error" } else { "warning" };
    let field = if problem.field.is_empty() { String::new() } else { format!("{}: ", problem.field) };
    let mut text = format!("{}: {severity}: {field}{}\n", place(problem), problem.message);
    if !problem.hint.is_empty() {
        text.push_str("  do: ");
        text.push_str(&problem.hint);
        text.push('\n');
    }
    text
}

/// The problem for machines.
pub fn json(problem: &Problem) -> Value {
    json!({
        "origin": problem.origin,
        "line": problem.line,
        "column": problem.column,
        "field": problem.field,
        "message": problem.message,
        "hint": problem.hint,
        "severity": if is_error(problem) { "error" } else { "warning" },
    })
}

/// All problems as a listing.
pub fn listing(problems: &[Problem]) -> Listing {
    let items = problems
        .iter()
        .map(|problem| Item {
            name: place(problem),
            cells: vec![
                place(problem),
                problem.severity.clone(),
                problem.field.clone(),
                problem.message.clone(),
                problem.hint.clone(),
            ],
            json: json(problem),
        })
        .collect();
    Listing { kind: "ProblemList", columns: COLUMNS, items }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        Problem {
            origin: "routes.yaml".into(),
            line: 9,
            column: 7,
            field: "spec.http[0].route[1].weight".into(),
            message: "weights sum to 90, not 100".into(),
            hint: "make the weights of a route sum to 100".into(),
            severity: "error".into(),
        }
    }

    #[test]
    fn a_problem_reads_like_a_compiler_message() {
        assert_eq!(
            text(&problem()),
            "routes.yaml:9:7: error: spec.http[0].route[1].weight: weights sum to 90, not 100\n  \
             do: make the weights of a route sum to 100\n"
        );
    }

    #[test]
    fn a_problem_without_a_place_names_its_origin_only() {
        let problem = Problem { line: 0, field: String::new(), hint: String::new(), ..problem() };
        assert_eq!(text(&problem), "routes.yaml: error: weights sum to 90, not 100\n");
    }
}
