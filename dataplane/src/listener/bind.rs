//! Sockets of listeners: every worker has its own on the same address; port 0 is resolved once for all of them.

use std::{io, net::SocketAddr, os::unix::net::UnixListener as StdUnixListener, sync::Arc};

use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::{
    spec::{ListenAddress, Listener},
    stream::Stream,
    worker::Shared,
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Where a listener is bound.
#[derive(Clone, Debug)]
pub enum Bound {
    /// On this address.
    At(ListenAddress),
    /// On a unix socket that all workers accept from.
    Unix(ListenAddress, Arc<StdUnixListener>),
    /// Not yet; what the system said.
    Failed(String),
}

/// A worker's socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

impl Socket {
    /// The next connection.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(stream.into())
            }
            Self::Unix(listener) => Ok(listener.accept().await?.0.into()),
        }
    }
}

/// Binds a listener for one worker and reports where.
pub fn bind(shared: &Shared, listener: &Listener) -> io::Result<Socket> {
    let mut result = Err(io::ErrorKind::Other.into());
    // The report is also the lock that makes workers bind one after the other.
    shared.bound.send_if_modified(|bound| {
        let before = bound.get(&listener.name).cloned();
        let now = match open(&listener.address, before.as_ref()) {
            Ok((socket, now)) => {
                result = Ok(socket);
                now
            }
            Err(error) => {
                let failed = Bound::Failed(error.to_string());
                result = Err(error);
                failed
            }
        };
        // One worker's failure does not unsay that another has bound it.
        let first = !matches!(before, Some(Bound::At(_) | Bound::Unix(..)));
        if first {
            bound.insert(listener.name.clone(), now);
        }
        first
    });
    result
}

/// A listener that is gone is no longer reported.
pub fn forget(shared: &Shared, name: &Arc<str>) {
    shared.bound.send_if_modified(|bound| bound.remove(name).is_some());
}

fn open(address: &ListenAddress, before: Option<&Bound>) -> io::Result<(Socket, Bound)> {
    match address {
        ListenAddress::Tcp(asked) => {
            let address = match before {
                Some(Bound::At(ListenAddress::Tcp(resolved))) if asked.port() == 0 => *resolved,
                _ => *asked,
            };
            let listener = tcp(address)?;
            let resolved = listener.local_addr()?;
            Ok((Socket::Tcp(listener), Bound::At(ListenAddress::Tcp(resolved))))
        }
        ListenAddress::Unix(path) => {
            let listener = match before {
                Some(Bound::Unix(_, listener)) => listener.clone(),
                _ => {
                    match std::fs::remove_file(path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                    let listener = StdUnixListener::bind(path)?;
                    listener.set_nonblocking(true)?;
                    Arc::new(listener)
                }
            };
            let socket = UnixListener::from_std(listener.try_clone()?)?;
            Ok((Socket::Unix(socket), Bound::Unix(address.clone(), listener)))
        }
    }
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
