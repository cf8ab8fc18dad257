//! A copy of a body for a mirror: takes in what passes, holds a bounded part of it, and gives up rather than hold up the
//! original.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::Frame;

use super::BodyError;

/// Most bytes of a copy that its reader may lag behind the original.
pub const LAG_BYTES_MAX: usize = 1024 * 1024;

/// The writing end.
#[derive(Debug)]
pub(super) struct Tap {
    size: Option<u64>,
    queue: RefCell<VecDeque<Frame<Bytes>>>,
    queued_bytes: Cell<usize>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More may come.
    Open,
    /// Nothing more comes.
    Ended,
    /// The rest is lost, or nobody wants it.
    Broken,
}

/// The reading end.
#[derive(Debug)]
pub struct TapReader(Rc<Tap>);

impl Tap {
    /// Of a body of so many bytes, when that is known.
    pub(super) fn new(size: Option<u64>) -> Rc<Self> {
        Rc::new(Self {
            size,
            queue: RefCell::default(),
            queued_bytes: Cell::new(0),
            state: Cell::new(State::Open),
            waker: RefCell::new(None),
        })
    }

    /// Takes in a part, if its reader kept up.
    pub(super) fn push(&self, frame: Frame<Bytes>) {
        if self.state.get() != State::Open {
            return;
        }
        if self.queued_bytes.get() + frame.data_ref().map_or(0, Bytes::len) > LAG_BYTES_MAX {
            return self.break_off();
        }
        self.load(frame);
        self.wake();
    }

    /// Takes in a part that is held elsewhere too, however large it is.
    pub(super) fn load(&self, frame: Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.queued_bytes.set(self.queued_bytes.get() + bytes);
        self.queue.borrow_mut().push_back(frame);
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        self.become_(State::Ended);
    }

    /// The rest is lost.
    pub(super) fn break_off(&self) {
        self.become_(State::Broken);
        self.queue.borrow_mut().clear();
    }

    fn become_(&self, state: State) {
        if self.state.get() == State::Open {
            self.state.set(state);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl TapReader {
    pub(super) fn new(tap: Rc<Tap>) -> Self {
        Self(tap)
    }

    pub(super) fn size(&self) -> Option<u64> {
        self.0.size
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.0.state.get() == State::Ended && self.0.queue.borrow().is_empty()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.0.queue.borrow_mut().pop_front() {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.0.queued_bytes.set(self.0.queued_bytes.get() - bytes);
            return Poll::Ready(Some(Ok(frame)));
        }
        match self.0.state.get() {
            State::Ended => Poll::Ready(None),
            State::Broken => Poll::Ready(Some(Err(BodyError::Abandoned))),
            State::Open => {
                *self.0.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        self.0.break_off();
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;

    use super::*;

    fn data(reader: &mut TapReader) -> Poll<Option<Result<Vec<u8>, ()>>> {
        let polled = reader.poll(&mut Context::from_waker(noop_waker_ref()));
        polled.map(|frame| {
            frame.map(|frame| frame.map(|frame| frame.into_data().unwrap().to_vec()).map_err(drop))
        })
    }

    fn chunk(size: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![0; size]))
    }

    #[test]
    fn a_copy_gives_what_passed_and_then_ends() {
        let tap = Tap::new(Some(3));
        let mut reader = TapReader::new(tap.clone());
        assert_eq!((data(&mut reader), reader.size()), (Poll::Pending, Some(3)));
        tap.push(chunk(3));
        tap.end();
        assert_eq!(data(&mut reader), Poll::Ready(Some(Ok(vec![0; 3]))));
        assert!(reader.is_end_stream());
        assert_eq!(data(&mut reader), Poll::Ready(None));
    }

    #[test]
    fn a_reader_that_lags_too_far_loses_the_copy_and_one_that_keeps_up_does_not() {
        let tap = Tap::new(None);
        let mut reader = TapReader::new(tap.clone());
        for _ in 0..4 {
            tap.push(chunk(LAG_BYTES_MAX));
            assert!(matches!(data(&mut reader), Poll::Ready(Some(Ok(_)))));
        }
        tap.push(chunk(LAG_BYTES_MAX));
        tap.push(chunk(1));
        assert_eq!(data(&mut reader), Poll::Ready(Some(Err(()))));
    }

    #[test]
    fn nothing_is_held_for_a_reader_that_is_gone() {
        let tap = Tap::new(None);
        drop(TapReader::new(tap.clone()));
        tap.push(chunk(9));
        assert!(tap.queue.borrow().is_empty());
    }
}
