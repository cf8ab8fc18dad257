//! The request's body: relayed as it comes, kept for another try while small, gathered first where its size must be known,
//! and copied for mirrors.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::{
    BodyError, Broken, Incoming,
    tap::{Tap, TapReader},
};
use crate::fault::{Cause, Fault};

/// Most bytes of a request's body that are kept for another try, where the route does not say.
pub const REPLAY_BYTES: usize = 64 * 1024;

/// Most bytes of a request's body that a route may have kept for another try.
pub const REPLAY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What goes upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// What comes from downstream, kept while it may have to be sent again.
    Relay {
        /// Shared with the request, which makes the next try's body of it.
        source: Rc<Source>,
        /// How many of the kept chunks this try has sent.
        sent: usize,
        /// Which try this is; an older one gets nothing more.
        generation: u32,
    },
    /// A copy of what comes from downstream.
    Copy(TapReader),
    /// What is all there already; empty once it is sent.
    Whole(Bytes),
}

/// The body that comes from downstream.
#[derive(Debug)]
pub struct Source {
    incoming: RefCell<Incoming>,
    kept: RefCell<Vec<Bytes>>,
    kept_bytes: Cell<usize>,
    keep_bytes_max: usize,
    /// Whether another try can still have all of it.
    replayable: Cell<bool>,
    /// Its end, where all of it was gathered before it was sent.
    gathered: RefCell<Option<Gathered>>,
    taps: RefCell<Vec<Rc<Tap>>>,
    generation: Cell<u32>,
    bytes: Cell<u64>,
    ended: Cell<Option<Instant>>,
}

/// How a gathered body ends.
#[derive(Debug)]
struct Gathered {
    trailers: Option<HeaderMap>,
}

impl Source {
    /// Wraps a body, of which so many bytes are kept for another try.
    pub fn new(incoming: Incoming, keep_bytes_max: usize) -> Rc<Self> {
        Rc::new(Self {
            incoming: RefCell::new(incoming),
            kept: RefCell::new(Vec::new()),
            kept_bytes: Cell::new(0),
            keep_bytes_max,
            replayable: Cell::new(keep_bytes_max > 0),
            gathered: RefCell::new(None),
            taps: RefCell::new(Vec::new()),
            generation: Cell::new(0),
            bytes: Cell::new(0),
            ended: Cell::new(None),
        })
    }

    /// Bytes that have come so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// When the last of it had come; none before that.
    pub fn ended(&self) -> Option<Instant> {
        self.ended.get()
    }

    /// Bytes that are still to come or to be sent, when that is known.
    pub fn size(&self) -> Option<u64> {
        match &*self.gathered.borrow() {
            Some(Gathered { trailers: None }) => Some(self.kept_bytes.get() as u64),
            Some(Gathered { trailers: Some(_) }) => None,
            None => self.incoming.borrow().size_hint().exact(),
        }
    }

    /// Whether another try can have all of it.
    pub fn replayable(&self) -> bool {
        self.replayable.get() || self.bytes.get() == 0
    }

    /// A body for one more try; those made before get nothing more.
    pub fn body(self: &Rc<Self>) -> RequestBody {
        self.generation.set(self.generation.get() + 1);
        RequestBody::Relay { source: self.clone(), sent: 0, generation: self.generation.get() }
    }

    /// A copy of what comes, for a mirror; to be taken before the first try.
    pub fn copy(&self) -> RequestBody {
        let tap = Tap::new(self.size());
        self.kept.borrow().iter().for_each(|chunk| tap.load(Frame::data(chunk.clone())));
        match &*self.gathered.borrow() {
            Some(Gathered { trailers }) => {
                trailers.iter().for_each(|trailers| tap.load(Frame::trailers(trailers.clone())));
                tap.end();
            }
            None => self.taps.borrow_mut().push(tap.clone()),
        }
        RequestBody::Copy(TapReader::new(tap))
    }

    /// Waits for all of the body before any of it is sent; more than `bytes_max` is a fault.
    pub async fn gather(&self, bytes_max: u32) -> Result<(), Fault> {
        let mut end = Gathered { trailers: None };
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *self.incoming.borrow_mut()).poll_frame(cx)).await
        {
            // Who breaks off is not there for an answer.
            let frame = frame.map_err(|_| Fault::from(Cause::BadRequest))?;
            match frame.into_data() {
                Ok(chunk) => {
                    self.bytes.set(self.bytes.get() + chunk.len() as u64);
                    if self.bytes.get() > u64::from(bytes_max) {
                        return Err(Cause::BodyTooLarge.into());
                    }
                    self.kept_bytes.set(self.kept_bytes.get() + chunk.len());
                    self.kept.borrow_mut().push(chunk);
                }
                Err(frame) => end.trailers = frame.into_trailers().ok(),
            }
        }
        self.ended.set(Some(Instant::now()));
        self.replayable.set(true);
        *self.gathered.borrow_mut() = Some(end);
        Ok(())
    }

    fn keep(&self, chunk: &Bytes) {
        let total = self.kept_bytes.get() + chunk.len();
        if total > self.keep_bytes_max {
            self.replayable.set(false);
            self.kept.borrow_mut().clear();
            return;
        }
        self.kept_bytes.set(total);
        self.kept.borrow_mut().push(chunk.clone());
    }

    /// Takes in what came, or that nothing more comes; gives it on.
    fn take_in(
        &self,
        frame: Option<Result<Frame<Bytes>, Broken>>,
        sent: &mut usize,
    ) -> Option<Result<Frame<Bytes>, BodyError>> {
        let frame = match frame {
            None => {
                self.end();
                return None;
            }
            Some(Err(error)) => {
                self.taps.take().iter().for_each(|tap| tap.break_off());
                return Some(Err(BodyError::Source(error)));
            }
            Some(Ok(frame)) => frame,
        };
        if let Some(chunk) = frame.data_ref() {
            self.bytes.set(self.bytes.get() + chunk.len() as u64);
            if self.replayable.get() {
                self.keep(chunk);
                *sent += 1;
            }
            self.taps.borrow().iter().for_each(|tap| tap.push(Frame::data(chunk.clone())));
        } else {
            self.replayable.set(false); // Trailers are not kept.
            for tap in &*self.taps.borrow() {
                frame.trailers_ref().into_iter().for_each(|found| tap.push(Frame::trailers(found.clone())));
            }
        }
        // Nobody may ask again after the last byte of a known length.
        if self.incoming.borrow().is_end_stream() {
            self.end();
        }
        Some(Ok(frame))
    }

    fn end(&self) {
        self.ended.set(Some(Instant::now()));
        self.taps.take().iter().for_each(|tap| tap.end());
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.taps.get_mut().iter().for_each(|tap| tap.break_off());
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (source, sent, generation) = match self.get_mut() {
            Self::Empty => return Poll::Ready(None),
            Self::Copy(reader) => return reader.poll(cx),
            Self::Whole(bytes) => {
                let rest = std::mem::take(bytes);
                return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
            }
            Self::Relay { source, sent, generation } => (source, sent, generation),
        };
        if *generation != source.generation.get() {
            return Poll::Ready(Some(Err(BodyError::Abandoned)));
        }
        if source.replayable.get()
            && let Some(chunk) = source.kept.borrow().get(*sent)
        {
            *sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if let Some(end) = &*source.gathered.borrow() {
            let last = *sent == source.kept.borrow().len();
            *sent += 1;
            let trailers = end.trailers.clone().filter(|_| last);
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = Pin::new(&mut *source.incoming.borrow_mut()).poll_frame(cx);
        polled.map(|frame| source.take_in(frame, sent))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Copy(reader) => reader.is_end_stream(),
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Relay { source, sent, .. } => match &*source.gathered.borrow() {
                Some(end) => *sent >= source.kept.borrow().len() + usize::from(end.trailers.is_some()),
                None => {
                    source.incoming.borrow().is_end_stream()
                        && (!source.replayable.get() || *sent >= source.kept.borrow().len())
                }
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match self {
            Self::Empty => Some(0),
            Self::Copy(reader) => reader.size(),
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Relay { source, sent, .. } => match &*source.gathered.borrow() {
                Some(Gathered { trailers: Some(_) }) => None,
                gathered => {
                    let rest = match gathered {
                        Some(_) => Some(0),
                        None => source.incoming.borrow().size_hint().exact(),
                    };
                    let again: usize = source.kept.borrow().iter().skip(*sent).map(Bytes::len).sum();
                    rest.map(|rest| rest + again as u64)
                }
            },
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
