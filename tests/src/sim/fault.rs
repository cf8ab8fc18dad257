//! What may go wrong between a platform and whoever asks it. By path, until it is healed.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::watch;

/// One way to answer badly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No answer, and no more of the answers that stream.
    Hang,
    /// Every answer is late.
    Slow(Duration),
    /// An error.
    Status(u16),
    /// A good answer in which there is nothing.
    Empty,
    /// Somebody else's page, with status 200.
    WrongType,
    /// Answers break off after so many bytes.
    Cut(usize),
    /// Answers come in pieces of so many bytes.
    Split(usize),
}

impl Fault {
    /// Reads `hang`, `slow MS`, `status CODE`, `empty`, `wrong-type`, `cut BYTES`, `split BYTES`.
    pub fn parse(words: &[&str]) -> Option<Self> {
        let number = |text: &str| text.parse::<usize>().ok();
        Some(match *words {
            ["hang"] => Self::Hang,
            ["slow", ms] => Self::Slow(Duration::from_millis(ms.parse().ok()?)),
            ["status", code] => Self::Status(code.parse().ok()?),
            ["empty"] => Self::Empty,
            ["wrong-type"] => Self::WrongType,
            ["cut", bytes] => Self::Cut(number(bytes)?),
            ["split", bytes] => Self::Split(number(bytes)?.max(1)),
            _ => return None,
        })
    }
}

/// The faults of the moment, shared by a simulator and who drives it.
#[derive(Clone, Debug)]
pub struct Faults {
    set: Arc<Mutex<Vec<(String, Fault)>>>,
    /// Counts changes, so that who waits looks again.
    changed: Arc<watch::Sender<u64>>,
    /// Counts the times that all streams were cut.
    cuts: Arc<watch::Sender<u64>>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            set: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            cuts: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Faults {
    /// Answers to paths that begin so are bad from now on.
    pub fn set(&self, path: &str, fault: Fault) {
        self.set.lock().expect("plain data").push((path.to_owned(), fault));
        self.changed.send_modify(|count| *count += 1);
    }

    /// Everything is well again.
    pub fn heal(&self) {
        self.set.lock().expect("plain data").clear();
        self.changed.send_modify(|count| *count += 1);
    }

    /// Ends every answer that streams.
    pub fn cut_streams(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    /// Tells when the streams are cut the next time.
    pub fn cuts(&self) -> watch::Receiver<u64> {
        let mut cuts = self.cuts.subscribe();
        cuts.mark_unchanged();
        cuts
    }

    /// What is wrong with a path; the last fault that was set counts.
    pub fn of(&self, path: &str) -> Option<Fault> {
        let set = self.set.lock().expect("plain data");
        set.iter().rev().find(|(begin, _)| path.starts_with(begin.as_str())).map(|(_, fault)| fault.clone())
    }

    /// Waits while a path hangs. What comes after that is as if it had been asked then.
    pub async fn hang(&self, path: &str) {
        let mut changed = self.changed.subscribe();
        while self.of(path) == Some(Fault::Hang) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
