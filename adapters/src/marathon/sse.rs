//! Server-sent events (WHATWG HTML, section 9.2) out of lines. Pure.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; empty when none is given.
    pub(super) kind: String,
    /// Its data; several lines are joined by LF.
    pub(super) data: String,
}

/// An event on its way.
#[derive(Debug, Default)]
pub(super) struct Parser {
    event: Event,
    /// Whether a line of data has come.
    data: bool,
}

impl Parser {
    /// Takes a line; the event that it ends. A line without anything before it is a sign of life.
    pub(super) fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if std::mem::replace(&mut self.data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments have an empty field; `id` and `retry` mean nothing here.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        let events = text.split('\n').filter_map(|line| parser.line(line));
        events.map(|event| (event.kind, event.data)).collect()
    }

    #[test]
    fn events_have_types_and_lines_of_data_and_anything_else_is_passed_over() {
        let text = "\n\n: hello\nevent: a\nid: 7\ndata: {\ndata:}\n\n\nevent: lost\n\ndata: x\n\ndata: cut";
        assert_eq!(parsed(text), [("a".into(), "{\n}".into()), (String::new(), "x".into())]);
    }
}
