//! How answers are printed: a listing becomes a table, JSON, YAML, names or JSON lines. Pure, apart from `print`.

use std::io::Write as _;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::failure::Failure;

/// Version of the JSON and YAML forms; scripts may rely on it.
const API_VERSION: &str = "weft.dev/v1";

/// Space between two columns of a table.
const COLUMN_GAP: usize = 3;

/// Shape of the answer on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// One JSON object: apiVersion, kind, items.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names only, one a line, for pipes.
    Name,
    /// One JSON object a line for each item.
    Jsonl,
}

/// The options that every command with an answer has.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct OutputArgs {
    /// Shape of the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Leave out the line with the column titles
    #[arg(long)]
    pub no_headers: bool,
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Title, upper case.
    pub title: &'static str,
    /// Shown with `-o wide` only.
    pub wide: bool,
}

/// A column that is always shown.
pub const fn column(title: &'static str) -> Column {
    Column { title, wide: false }
}

/// A column of `-o wide`.
pub const fn wide(title: &'static str) -> Column {
    Column { title, wide: true }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What `-o name` prints.
    pub name: String,
    /// One text for each column.
    pub cells: Vec<String>,
    /// The whole item for machines.
    pub json: Value,
}

/// An answer with rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// Name of the JSON list: "ServiceList".
    pub kind: &'static str,
    /// The columns.
    pub columns: &'static [Column],
    /// The rows.
    pub items: Vec<Item>,
}

impl Listing {
    /// The text for stdout.
    pub fn render(&self, args: OutputArgs) -> String {
        match args.output {
            Format::Table => self.table(false, args.no_headers),
            Format::Wide => self.table(true, args.no_headers),
            Format::Json => pretty(&self.document()),
            Format::Yaml => yaml(&self.document()),
            Format::Name => self.items.iter().map(|item| format!("{}\n", item.name)).collect(),
            Format::Jsonl => self.items.iter().map(|item| format!("{}\n", item.json)).collect(),
        }
    }

    /// Prints the answer.
    pub fn print(&self, args: OutputArgs) -> Result<(), Failure> {
        print(&self.render(args))
    }

    fn document(&self) -> Value {
        let items: Vec<&Value> = self.items.iter().map(|item| &item.json).collect();
        json!({"apiVersion": API_VERSION, "kind": self.kind, "items": items})
    }

    fn table(&self, all: bool, no_headers: bool) -> String {
        let shown: Vec<usize> = (0..self.columns.len()).filter(|i| all || !self.columns[*i].wide).collect();
        let titles: Vec<&str> = shown.iter().map(|i| self.columns[*i].title).collect();
        let mut lines = Vec::with_capacity(self.items.len() + 1);
        if !no_headers {
            lines.push(titles);
        }
        for item in &self.items {
            lines.push(shown.iter().map(|i| item.cells.get(*i).map_or("", String::as_str)).collect());
        }
        align(&lines)
    }
}

/// Lines of cells as columns of equal width, without space at the ends of lines. An empty cell shows as `-`.
fn align(lines: &[Vec<&str>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| lines.iter().filter_map(|line| line.get(i)).map(|cell| width(cell)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, column_width) in line.iter().zip(&widths) {
            let shown = if cell.is_empty() { "-" } else { cell };
            row.push_str(shown);
            row.extend(std::iter::repeat_n(' ', column_width.saturating_sub(width(cell)) + COLUMN_GAP));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn width(cell: &str) -> usize {
    cell.chars().count().max(1)
}

/// A JSON value over several lines, with a line end.
pub fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A JSON value as YAML.
pub fn yaml(value: &Value) -> String {
    // A JSON value has string keys and finite numbers only, which YAML always takes; JSON is YAML, should it not.
    serde_saphyr::to_string(value).unwrap_or_else(|_| pretty(value))
}

/// Writes data to stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        // `weft get ... | head` closes the pipe when it has enough: that is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            Err(Failure::usage("cannot write to stdout", error.to_string(), "check where it leads"))
        }
    }
}

/// How long ago something was, as people say it: "42s", "3m", "5h", "2d".
pub fn age(seconds_then: i64, seconds_now: i64) -> String {
    if seconds_then == 0 {
        return String::new();
    }
    let passed = seconds_now.saturating_sub(seconds_then).max(0);
    match passed {
        0..120 => format!("{passed}s"),
        120..7_200 => format!("{}m", passed / 60),
        7_200..172_800 => format!("{}h", passed / 3_600),
        _ => format!("{}d", passed / 86_400),
    }
}

/// Now, in seconds since 1970.
pub fn now_seconds() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let item = |name: &str, ports: &str| Item {
            name: format!("service/{name}"),
            cells: vec![name.to_owned(), ports.to_owned(), "files".to_owned()],
            json: json!({"name": name}),
        };
        Listing {
            kind: "ServiceList",
            columns: const { &[column("NAME"), column("PORTS"), wide("SOURCES")] },
            items: vec![item("api", "http:80"), item("database", "")],
        }
    }

    #[track_caller]
    fn check(output: Format, no_headers: bool, expected: &str) {
        assert_eq!(listing().render(OutputArgs { output, no_headers }), expected);
    }

    #[test]
    fn a_table_aligns_and_hides_wide_columns() {
        check(Format::Table, false, "NAME       PORTS\napi        http:80\ndatabase   -\n");
        check(Format::Table, true, "api        http:80\ndatabase   -\n");
    }

    #[test]
    fn wide_shows_every_column() {
        check(
            Format::Wide,
            false,
            "NAME       PORTS     SOURCES\napi        http:80   files\ndatabase   -         files\n",
        );
    }

    #[test]
    fn machines_get_a_versioned_list() {
        let text = listing().render(OutputArgs { output: Format::Json, no_headers: false });
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            json!({"apiVersion": "weft.dev/v1", "kind": "ServiceList", "items": [{"name": "api"}, {"name": "database"}]})
        );
        check(Format::Jsonl, false, "{\"name\":\"api\"}\n{\"name\":\"database\"}\n");
        check(Format::Name, false, "service/api\nservice/database\n");
    }

    #[test]
    fn yaml_is_the_json_in_other_clothes() {
        let text = listing().render(OutputArgs { output: Format::Yaml, no_headers: false });
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(value, listing().document());
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(age(100, 142), "42s");
        assert_eq!(age(0, 142), "");
        assert_eq!(age(100, 100 + 180), "3m");
        assert_eq!(age(100, 100 + 5 * 3600), "5h");
        assert_eq!(age(100, 100 + 3 * 86_400), "3d");
        assert_eq!(age(200, 100), "0s");
    }
}
