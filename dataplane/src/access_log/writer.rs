//! Writes lines where they belong, on threads beside the workers: a slow disk or a full pipe stalls nothing but the log.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use metrics::Counter;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::spec::LogTarget;

/// Most lines that wait for one place.
pub const QUEUE_LINES_MAX: usize = 16 * 1024;
/// Most bytes that wait for one place.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Bytes that are written at once.
const BATCH_BYTES: usize = 64 * 1024;
/// How often a file is looked at that may have been moved away, and one tried again that could not be opened.
const LOOK: Duration = Duration::from_secs(1);

/// Where lines go, opened once for all workers.
#[derive(Debug, Default)]
pub struct Sinks {
    open: Mutex<HashMap<LogTarget, Weak<Sink>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Rises when files are to be opened again.
    generation: Arc<AtomicU64>,
}

/// One place. Its thread ends when the last of its users is gone and all is written.
#[derive(Debug)]
pub struct Sink {
    lines: Sender<String>,
    waiting_bytes: Arc<AtomicUsize>,
    dropped: Counter,
}

impl Sinks {
    /// The place, opened when the first line comes.
    pub fn open(&self, target: &LogTarget) -> Arc<Sink> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sink) = open.get(target).and_then(Weak::upgrade) {
            return sink;
        }
        open.retain(|_, sink| sink.strong_count() > 0);
        let (lines, waiting) = channel(QUEUE_LINES_MAX);
        let sink = Arc::new(Sink {
            lines,
            waiting_bytes: Arc::default(),
            dropped: metrics::counter!("weft_access_log_dropped_total", "reason" => "queue_full"),
        });
        open.insert(target.clone(), Arc::downgrade(&sink));
        let writer =
            Writer::new(target.clone(), waiting, sink.waiting_bytes.clone(), self.generation.clone());
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        match thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run()) {
            Ok(thread) => threads.push(thread),
            // The queue's other end is gone with the writer, so every line counts as dropped.
            Err(error) => tracing::error!(?target, %error, "no thread to write the access log"),
        }
        sink
    }

    /// Opens files again with their next line, as after they were moved away.
    pub fn reopen(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    /// Waits until all is written, once nobody uses a sink any more. Blocks.
    pub fn finish(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Sink {
    /// Hands over a line; over the limits it is dropped and counted.
    pub fn write(&self, line: String) {
        let bytes = line.len();
        if self.waiting_bytes.fetch_add(bytes, Relaxed) + bytes > QUEUE_BYTES_MAX
            || self.lines.try_send(line).is_err()
        {
            self.waiting_bytes.fetch_sub(bytes, Relaxed);
            self.dropped.increment(1);
        }
    }
}

struct Writer {
    target: LogTarget,
    waiting: Receiver<String>,
    waiting_bytes: Arc<AtomicUsize>,
    generation: Arc<AtomicU64>,
    opened_in: u64,
    output: Option<Output>,
    looked: Option<Instant>,
    failing: bool,
    written: Counter,
    dropped: Counter,
}

enum Output {
    File(File),
    Stdout(io::Stdout),
    Stderr(io::Stderr),
}

impl Writer {
    fn new(
        target: LogTarget,
        waiting: Receiver<String>,
        waiting_bytes: Arc<AtomicUsize>,
        generation: Arc<AtomicU64>,
    ) -> Self {
        Self {
            target,
            waiting,
            waiting_bytes,
            generation,
            opened_in: 0,
            output: None,
            looked: None,
            failing: false,
            written: metrics::counter!("weft_access_log_lines_total"),
            dropped: metrics::counter!("weft_access_log_dropped_total", "reason" => "write_failed"),
        }
    }

    fn run(mut self) {
        let mut batch = String::with_capacity(BATCH_BYTES);
        while let Some(line) = self.waiting.blocking_recv() {
            let mut lines = 1;
            batch.push_str(&line);
            while batch.len() < BATCH_BYTES
                && let Ok(line) = self.waiting.try_recv()
            {
                batch.push_str(&line);
                lines += 1;
            }
            match self.output(Instant::now()).and_then(|output| output.write(batch.as_bytes())) {
                Ok(()) => {
                    self.written.increment(lines);
                    self.failing = false;
                }
                Err(error) => self.failed(&error, lines),
            }
            self.waiting_bytes.fetch_sub(batch.len(), Relaxed);
            batch.clear();
        }
    }

    fn failed(&mut self, error: &io::Error, lines: u64) {
        self.dropped.increment(lines);
        self.output = None;
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(target = ?self.target, %error, "cannot write the access log; lines are dropped until it can");
        }
    }

    fn moved(&self) -> bool {
        match (&self.target, &self.output) {
            (LogTarget::File(path), Some(Output::File(file))) => !same(path, file),
            _ => false,
        }
    }

    /// What to write to, opened again where the file is another one by now.
    fn output(&mut self, now: Instant) -> io::Result<&mut Output> {
        let generation = self.generation.load(Relaxed);
        let told = generation != self.opened_in;
        let due = self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK);
        if told || (due && self.moved()) {
            self.output = None;
        }
        if self.output.is_none() && !told && !due {
            return Err(io::Error::other("it could not be opened a moment ago"));
        }
        self.opened_in = generation;
        if due {
            self.looked = Some(now);
        }
        match &mut self.output {
            Some(_) => {}
            empty => *empty = Some(Output::open(&self.target)?),
        }
        self.output.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Output {
    fn open(target: &LogTarget) -> io::Result<Self> {
        match target {
            LogTarget::File(path) => OpenOptions::new().create(true).append(true).open(path).map(Self::File),
            LogTarget::Stdout => Ok(Self::Stdout(io::stdout())),
            LogTarget::Stderr => Ok(Self::Stderr(io::stderr())),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Stdout(stdout) => stdout.write_all(bytes).and_then(|()| stdout.flush()),
            Self::Stderr(stderr) => stderr.write_all(bytes),
        }
    }
}

/// Whether the file is still the one of this path.
fn same(path: &Path, file: &File) -> bool {
    let identity = |found: io::Result<std::fs::Metadata>| found.map(|found| (found.dev(), found.ino())).ok();
    identity(path.metadata()) == identity(file.metadata())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sinks_at(path: &Path) -> (Sinks, Arc<Sink>) {
        let sinks = Sinks::default();
        let sink = sinks.open(&LogTarget::File(path.to_owned()));
        (sinks, sink)
    }

    #[test]
    fn what_was_handed_over_is_written_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (sinks, sink) = sinks_at(&path);
        for i in 0..1000 {
            sink.write(format!("{i}\n"));
        }
        drop(sink);
        sinks.finish();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 1000);
        assert!(text.ends_with("999\n"));
    }

    #[test]
    fn listeners_that_log_to_one_file_share_its_thread() {
        let folder = tempfile::tempdir().unwrap();
        let (sinks, sink) = sinks_at(&folder.path().join("log"));
        let other = sinks.open(&LogTarget::File(folder.path().join("log")));
        assert!(Arc::ptr_eq(&sink, &other));
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew_when_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let generation = Arc::<AtomicU64>::default();
        let (_lines, waiting) = channel(1);
        let target = LogTarget::File(path.clone());
        let mut writer = Writer::new(target, waiting, Arc::default(), generation.clone());
        let start = Instant::now();
        writer.output(start).unwrap().write(b"old\n").unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        writer.output(start).unwrap().write(b"old, too\n").unwrap();
        generation.fetch_add(1, Relaxed);
        writer.output(start).unwrap().write(b"new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        std::fs::rename(&path, folder.path().join("moved again")).unwrap();
        writer.output(start + LOOK).unwrap().write(b"newest\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "newest\n");
    }

    #[test]
    fn a_place_that_cannot_be_opened_is_tried_again_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no such folder/log");
        let (_lines, waiting) = channel(1);
        let mut writer = Writer::new(LogTarget::File(path.clone()), waiting, Arc::default(), Arc::default());
        let start = Instant::now();
        assert!(writer.output(start).is_err());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        assert!(writer.output(start).is_err());
        assert!(writer.output(start + LOOK).is_ok());
    }

    #[test]
    fn more_than_may_wait_is_dropped() {
        let (lines, mut waiting) = channel(2);
        let sink = Sink { lines, waiting_bytes: Arc::default(), dropped: Counter::noop() };
        for line in ["a", "b", "c"] {
            sink.write(line.to_owned());
        }
        assert_eq!(sink.waiting_bytes.load(Relaxed), 2);
        assert_eq!(waiting.try_recv().as_deref(), Ok("a"));
        sink.write("x".repeat(QUEUE_BYTES_MAX));
        assert_eq!(sink.waiting_bytes.load(Relaxed), 2);
    }
}
