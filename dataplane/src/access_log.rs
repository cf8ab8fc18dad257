//! Access logs: what is noted of a request while it runs, and the line that is made of it when it ends. Nothing is noted
//! where no log asks; a line is the one allocation, and whoever writes it is never waited for.

pub mod clock;
pub mod notes;
pub mod render;
pub mod writer;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

pub use notes::Notes;
pub use render::Facts;

use crate::spec::{AccessLogs, Comparison, LogFilter};
use writer::{Sink, Sinks};

/// Notes kept for requests to come, for each listener of a worker.
const SPARE_MAX: usize = 128;

/// Bytes that a line is expected to have.
const LINE_BYTES: usize = 512;

/// The access logs of a listener on one worker.
pub struct Logging {
    spec: Arc<AccessLogs>,
    /// In the order of the logs.
    sinks: Vec<Arc<Sink>>,
    #[expect(clippy::vec_box, reason = "a box moves to its request and back, the notes stay where they are")]
    spare: RefCell<Vec<Box<Notes>>>,
}

impl Logging {
    /// Opens where the logs go.
    pub fn new(spec: &Arc<AccessLogs>, sinks: &Sinks) -> Rc<Self> {
        let open = spec.logs.iter().map(|log| sinks.open(&log.target)).collect();
        Rc::new(Self { spec: spec.clone(), sinks: open, spare: RefCell::default() })
    }

    /// Begins to take notes of a request or connection.
    pub fn begin(self: &Rc<Self>) -> Log {
        let notes = self.spare.borrow_mut().pop().unwrap_or_default();
        Log { logging: self.clone(), notes }
    }
}

/// What is noted of one request or connection.
pub struct Log {
    logging: Rc<Logging>,
    notes: Box<Notes>,
}

impl Log {
    /// What to note in which slot, and the notes.
    pub fn parts(&mut self) -> (&AccessLogs, &mut Notes) {
        (&self.logging.spec, &mut self.notes)
    }

    /// The notes.
    pub fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// Hands the lines to those who write them.
    pub fn write(mut self, facts: &Facts<'_>, rng: &mut impl rand::Rng) {
        for (log, sink) in self.logging.spec.logs.iter().zip(&self.logging.sinks) {
            if passes(&log.filter, facts, rng) {
                let mut line = String::with_capacity(LINE_BYTES);
                render::line(&log.format, facts, &self.notes, &mut line);
                sink.write(line);
            }
        }
        self.notes.clear();
        let mut spare = self.logging.spare.borrow_mut();
        if spare.len() < SPARE_MAX {
            spare.push(self.notes);
        }
    }
}

/// Whether a log wants the request.
pub(crate) fn passes(filter: &LogFilter, facts: &Facts<'_>, rng: &mut impl rand::Rng) -> bool {
    match filter {
        LogFilter::All => true,
        LogFilter::Status(comparison) => compare(*comparison, facts.status.unwrap_or(0).into()),
        LogFilter::Duration(comparison) => compare(*comparison, millis(facts.duration)),
        LogFilter::Flags(None) => !facts.flags.is_empty(),
        LogFilter::Flags(Some(words)) => words.iter().any(|word| facts.flags.has(word)),
        LogFilter::Grpc { statuses, exclude } => {
            facts.grpc_status.is_some_and(|status| statuses.contains(&status)) != *exclude
        }
        LogFilter::Fraction(ppm) => rng.random_range(0..1_000_000) < *ppm,
        LogFilter::And(filters) => filters.iter().all(|filter| passes(filter, facts, rng)),
        LogFilter::Or(filters) => filters.iter().any(|filter| passes(filter, facts, rng)),
    }
}

fn compare(comparison: Comparison, value: u64) -> bool {
    match comparison {
        Comparison::Equal(with) => value == u64::from(with),
        Comparison::AtLeast(with) => value >= u64::from(with),
        Comparison::AtMost(with) => value <= u64::from(with),
        Comparison::Not(with) => value != u64::from(with),
    }
}

/// Whole milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
