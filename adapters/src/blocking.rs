//! The index of one blocking query: when to block, when to ask at once, and when an answer is in doubt. Pure.
//!
//! The index of Consul and Nomad is no clock. It may go back (a restored snapshot, a restarted server, a reaped key), and a query that
//! blocks on an index that is too high sees nothing until its wait is over. So: a wake-up without an increase is followed
//! by one question that does not block, and an index lower than the last is taken as it is, with a doubt.

use std::time::Duration;

/// The next question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Answer at once.
    Now,
    /// Answer when the index is past this one. Never zero, which would not block.
    Past(u64),
}

impl Ask {
    /// Asks so by a query: how long the answer may wait on purpose.
    pub(crate) fn add_to(self, url: &mut reqwest::Url, wait: Duration) -> Duration {
        let Ask::Past(index) = self else { return Duration::ZERO };
        url.query_pairs_mut()
            .append_pair("index", &index.to_string())
            .append_pair("wait", &format!("{}s", wait.as_secs()));
        // The server adds up to a sixteenth, so that waiting clients do not come back together.
        wait + wait / 16
    }
}

/// What an answer is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// It may be older than what is known: ask again.
    Nothing,
    /// It is the state now; the text is the doubt, if any.
    Current(String),
}

/// Where one query stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    last: Option<u64>,
    blocking: bool,
    /// Why the last question had no good answer.
    broken: Option<String>,
}

impl Cursor {
    pub(crate) fn ask(&self) -> Ask {
        match self.last {
            Some(index) if self.blocking => Ask::Past(index),
            _ => Ask::Now,
        }
    }

    /// Takes the index of a good answer.
    pub(crate) fn answered(&mut self, index: u64) -> Worth {
        let index = index.max(1);
        let last = self.last.unwrap_or(0);
        if self.blocking && index <= last {
            self.blocking = false;
            return Worth::Nothing;
        }
        let broken = self.broken.take();
        let doubt = if index < last {
            format!("the index went back from {last} to {index}")
        } else {
            broken.map(|reason| format!("first answer after: {reason}")).unwrap_or_default()
        };
        (self.last, self.blocking) = (Some(index), true);
        Worth::Current(doubt)
    }

    /// The question had no good answer. Whatever index came with that means nothing.
    pub(crate) fn failed(&mut self, reason: &str) {
        self.blocking = false;
        self.broken = Some(reason.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> Cursor {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.ask(), Ask::Now);
        assert_eq!(cursor.answered(index), Worth::Current(String::new()));
        cursor
    }

    #[test]
    fn a_rising_index_is_followed() {
        let mut cursor = at(7);
        assert_eq!(cursor.ask(), Ask::Past(7));
        assert_eq!(cursor.answered(9), Worth::Current(String::new()));
        assert_eq!(cursor.ask(), Ask::Past(9));
    }

    #[test]
    fn an_index_is_never_zero() {
        assert_eq!(at(0).ask(), Ask::Past(1));
    }

    #[test]
    fn a_wake_up_without_an_increase_is_checked_at_once() {
        let mut cursor = at(27);
        assert_eq!(cursor.answered(27), Worth::Nothing);
        assert_eq!(cursor.ask(), Ask::Now);
        assert_eq!(cursor.answered(27), Worth::Current(String::new()));
        assert_eq!(cursor.ask(), Ask::Past(27));
    }

    #[test]
    fn an_index_that_went_back_is_read_anew_and_doubted() {
        let mut cursor = at(27);
        assert_eq!(cursor.answered(22), Worth::Nothing);
        assert_eq!(cursor.ask(), Ask::Now);
        assert_eq!(cursor.answered(22), Worth::Current("the index went back from 27 to 22".into()));
        assert_eq!(cursor.ask(), Ask::Past(22));
    }

    #[test]
    fn the_first_answer_after_a_failure_does_not_block_and_is_doubted() {
        let mut cursor = at(27);
        cursor.failed("connection refused");
        assert_eq!(cursor.ask(), Ask::Now);
        assert_eq!(cursor.answered(30), Worth::Current("first answer after: connection refused".into()));
        assert_eq!(cursor.answered(31), Worth::Current(String::new()));
    }
}
