//! Moves bytes between a socket and a connection's state.

use std::{
    cell::RefCell,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep},
};
use tokio_util::io::poll_read_buf;

use super::{
    SETTINGS_TIMEOUT,
    connection::{Connection, Role},
    error::{ConnectionError, Fatal},
    guard::Limit,
    head::Limits,
    output::PARTS_MAX,
    stream::Link,
};

/// Room for one read.
const READ_BYTES: usize = 16 * 1024;
/// The same while a peer sends as much as that at once.
const READ_BYTES_MAX: usize = 32 * 1024;
/// Reads before other tasks have their turn.
const READS_MAX: u32 = 8;

/// The task of one connection has it.
pub struct Driver<S> {
    socket: S,
    link: Link,
    /// What was read and is not a whole frame yet. There is no buffer while nothing comes.
    input: BytesMut,
    read_bytes: usize,
    /// When the peer must have taken note of our settings; none once it has.
    settings_due: Option<Pin<Box<Sleep>>>,
    flushed: bool,
    failed: Option<Fatal>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Over an open socket.
    pub fn new(socket: S, role: Role, limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            socket,
            link: Rc::new(RefCell::new(Connection::new(role, limits, now))),
            input: BytesMut::new(),
            read_bytes: READ_BYTES,
            settings_due: Some(Box::pin(tokio::time::sleep_until(now + SETTINGS_TIMEOUT))),
            flushed: true,
            failed: None,
        }
    }

    /// The connection's state.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Reads and writes what there is; `took_in` looks at the state after each read. Ready when the connection has ended.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut took_in: impl FnMut(&Link),
    ) -> Poll<Result<(), ConnectionError>> {
        self.link.borrow_mut().attend(cx.waker());
        let read = self.poll_read(cx, &mut took_in);
        let unread = match read {
            Ok(unread) => unread,
            Err(error) => {
                // What was to be said may still be read by a peer that has only stopped to speak.
                self.link.borrow_mut().lose();
                let _ = self.poll_write(cx);
                return Poll::Ready(error.map_or(Ok(()), |error| Err(ConnectionError::Io(error))));
            }
        };
        self.check_settings(cx);
        ready!(self.poll_write(cx)).map_err(ConnectionError::Io)?;
        if !self.link.borrow_mut().is_over() {
            if unread {
                cx.waker().wake_by_ref(); // After others had their turn.
            }
            return Poll::Pending;
        }
        // What is over may have said its last only now.
        ready!(self.poll_write(cx)).map_err(ConnectionError::Io)?;
        let _ = ready!(Pin::new(&mut self.socket).poll_shutdown(cx));
        Poll::Ready(self.failed.map_or(Ok(()), |fatal| Err(ConnectionError::Fatal(fatal))))
    }

    /// Reads until nothing more is there; true where there may be, or where nothing may be read before all is written. The end is an error, without one of the socket's if the
    /// peer just closed.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        took_in: &mut impl FnMut(&Link),
    ) -> Result<bool, Option<io::Error>> {
        for _ in 0..READS_MAX {
            if self.link.borrow().stopped() {
                return Ok(true);
            }
            if self.input.capacity() - self.input.len() < self.read_bytes / 2 {
                self.input.reserve(self.read_bytes);
            }
            let bytes = match poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.input) {
                Poll::Pending => {
                    if self.input.is_empty() {
                        self.input = BytesMut::new();
                    }
                    self.read_bytes = READ_BYTES;
                    return Ok(false);
                }
                Poll::Ready(Ok(0)) => return Err(None),
                Poll::Ready(Ok(bytes)) => bytes,
                Poll::Ready(Err(error)) => return Err(Some(error)),
            };
            if bytes >= self.read_bytes / 2 {
                self.read_bytes = READ_BYTES_MAX;
            }
            let mut connection = self.link.borrow_mut();
            if let Err(fatal) = connection.receive(&mut self.input, Instant::now()) {
                connection.fail(fatal);
                self.failed = Some(fatal);
            }
            drop(connection);
            took_in(&self.link);
        }
        Ok(true)
    }

    fn check_settings(&mut self, cx: &mut Context<'_>) {
        let Some(due) = &mut self.settings_due else { return };
        let acknowledged = self.link.borrow().acknowledged();
        if acknowledged {
            self.settings_due = None;
        } else if due.as_mut().poll(cx).is_ready() {
            self.settings_due = None;
            let fatal = Limit::Settings.reached();
            self.link.borrow_mut().fail(fatal);
            self.failed = Some(fatal);
        }
    }

    /// Ready when all is written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut connection = self.link.borrow_mut();
        let mut wrote = false;
        let result = loop {
            let output = connection.output();
            if output.is_empty() {
                break Poll::Ready(Ok(()));
            }
            let polled = match output.single() {
                Some(part) => Pin::new(&mut self.socket).poll_write(cx, part),
                None => {
                    let mut parts = [IoSlice::new(&[]); PARTS_MAX];
                    let count = output.parts(&mut parts);
                    Pin::new(&mut self.socket).poll_write_vectored(cx, &parts[..count])
                }
            };
            match polled {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => {
                    connection.output().advance(bytes);
                    (wrote, self.flushed) = (true, false);
                }
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if wrote {
            connection.written();
        }
        drop(connection);
        if let Poll::Ready(Err(error)) = result {
            self.link.borrow_mut().lose();
            return Poll::Ready(Err(error));
        }
        if !self.flushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.flushed = true;
        }
        result
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.link.borrow_mut().lose();
    }
}
