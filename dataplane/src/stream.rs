//! A byte stream over TCP, a unix socket or TLS, with bytes in front that were read to tell its protocol.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use rustls::HandshakeKind;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsStream;

/// What opens an HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most bytes that one look takes from the socket.
const PEEK_BYTES: usize = 512;

/// Pieces of so many bytes together are written as one: the kernel takes a piece faster than a list of them, and a small message
/// is a head and a body.
const GATHERED_BYTES: usize = 1024;

/// One connection, either side.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// Read already, to be read again; empty once that happened.
    front: Vec<u8>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Stream>>),
}

/// The addresses of a connection's two ends; none over a unix socket. An IPv4 address is one whatever socket it came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The peer's.
    pub remote: Option<SocketAddr>,
    /// Ours, or where the client wanted to connect.
    pub local: Option<SocketAddr>,
    /// Where the client wanted to connect, where a packet filter brought it here instead.
    pub original: Option<SocketAddr>,
}

/// What a client began to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// IPv4 by a socket for both families is IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self { socket: Socket::Tcp(stream), front: Vec::new() }
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self { socket: Socket::Unix(stream), front: Vec::new() }
    }
}

impl Stream {
    /// The addresses of both ends.
    pub fn ends(&self) -> Ends {
        match &self.socket {
            Socket::Tcp(stream) => Ends {
                remote: stream.peer_addr().ok().map(canonical),
                local: stream.local_addr().ok().map(canonical),
                original: None,
            },
            Socket::Unix(_) => Ends::default(),
            Socket::Tls(stream) => stream.get_ref().0.ends(),
        }
    }

    /// What is within a TLS connection.
    pub fn tls(stream: TlsStream<Stream>) -> Self {
        Self { socket: Socket::Tls(Box::new(stream)), front: Vec::new() }
    }

    /// Whether it is TLS that took up an earlier session.
    pub fn resumed(&self) -> bool {
        match &self.socket {
            Socket::Tls(stream) => stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed),
            Socket::Tcp(_) | Socket::Unix(_) => false,
        }
    }

    /// The protocol that both sides of a TLS connection agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.socket {
            Socket::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Socket::Tcp(_) | Socket::Unix(_) => None,
        }
    }

    /// Where the client wanted to connect before a packet filter brought it here (`SO_ORIGINAL_DST`); none where it
    /// wanted to connect here.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        let Socket::Tcp(stream) = &self.socket else { return None };
        let (socket, local) = (SockRef::from(stream), canonical(stream.local_addr().ok()?));
        let found = match local {
            SocketAddr::V4(_) => socket.original_dst_v4(),
            SocketAddr::V6(_) => socket.original_dst_v6(),
        };
        found.ok()?.as_socket().map(canonical).filter(|found| *found != local)
    }

    /// Waits for more bytes and gives all that came so far; they will be read again. End of stream is an error.
    pub async fn peek(&mut self) -> io::Result<&[u8]> {
        self.front.reserve(PEEK_BYTES);
        if self.socket.read_buf(&mut self.front).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&self.front)
    }

    /// Reads until it is clear what is spoken; the bytes will be read again. End of stream is an error.
    pub async fn sniff(&mut self) -> io::Result<Spoken> {
        loop {
            let shared = self.front.len().min(PREFACE.len());
            match (self.front[..shared] == PREFACE[..shared], shared == PREFACE.len()) {
                (true, true) => return Ok(Spoken::Http2),
                (true, false) => self.peek().await?,
                (false, _) => return Ok(Spoken::Http1),
            };
        }
    }
}

/// All of some short pieces in one.
fn gather<'a>(pieces: &[io::IoSlice<'_>], into: &'a mut [u8; GATHERED_BYTES]) -> Option<&'a [u8]> {
    let mut size = 0;
    for piece in pieces {
        into.get_mut(size..size + piece.len())?.copy_from_slice(piece);
        size += piece.len();
    }
    into.get(..size)
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.front.is_empty() {
            let size = self.front.len().min(buf.remaining());
            buf.put_slice(&self.front[..size]);
            self.front.drain(..size);
            if self.front.is_empty() {
                self.front = Vec::new(); // Gives the memory back for the life of the connection.
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.len() > 1
            && bufs.iter().map(|buf| buf.len()).sum::<usize>() <= GATHERED_BYTES
            && let Some(gathered) = gather(bufs, &mut [0; GATHERED_BYTES])
        {
            return self.poll_write(cx, gathered);
        }
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(_) | Socket::Unix(_) => Poll::Ready(Ok(())), // Sockets have nothing to flush.
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
