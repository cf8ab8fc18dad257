//! What a sample application calls: an HTTP service and the database, over connections that are kept.

use std::{net::SocketAddr, sync::Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{USER_HEADER, database::LINE_BYTES_MAX};

/// Largest answer taken from an upstream.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Connections kept for later.
const IDLE_MAX: usize = 64;

/// A stock of connections.
struct Idle<C>(Mutex<Vec<C>>);

impl<C> Idle<C> {
    fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn take(&self) -> Option<C> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
    }

    fn keep(&self, connection: C) {
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if kept.len() < IDLE_MAX {
            kept.push(connection);
        }
    }
}

/// An HTTP service.
pub struct HttpUpstream {
    address: SocketAddr,
    host: String,
    idle: Idle<SendRequest<Empty<Bytes>>>,
}

impl HttpUpstream {
    /// A service at an address, called by a host name.
    pub fn new(address: SocketAddr, host: String) -> Self {
        Self { address, host, idle: Idle::new() }
    }

    /// Status and text of `GET path`; the error is for people.
    pub async fn get(&self, path: &str, user: Option<&str>) -> Result<(StatusCode, String), String> {
        let mut connection = loop {
            match self.idle.take() {
                // A kept connection may have been closed meanwhile; only an open one is used.
                Some(mut kept) => {
                    if kept.ready().await.is_ok() {
                        break kept;
                    }
                }
                None => break self.connect().await.map_err(|error| format!("connect: {error}"))?,
            }
        };
        let mut request = Request::get(path).header("host", &self.host);
        if let Some(user) = user {
            request = request.header(USER_HEADER, user);
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let text = String::from_utf8_lossy(&body.map_err(|error| error.to_string())?.to_bytes()).into_owned();
        self.idle.keep(connection);
        Ok((status, text))
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// The database.
pub struct LineUpstream {
    address: SocketAddr,
    idle: Idle<BufReader<TcpStream>>,
}

impl LineUpstream {
    /// A database at an address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, idle: Idle::new() }
    }

    /// The answer to one question. A kept connection that turns out closed is replaced once.
    pub async fn ask(&self, question: &str) -> Result<String, String> {
        if let Some(kept) = self.idle.take()
            && let Ok(answer) = self.ask_on(kept, question).await
        {
            return Ok(answer);
        }
        let stream = TcpStream::connect(self.address).await.map_err(|error| format!("connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        self.ask_on(BufReader::new(stream), question).await
    }

    async fn ask_on(&self, mut connection: BufReader<TcpStream>, question: &str) -> Result<String, String> {
        let line = format!("{question}\n");
        connection.get_mut().write_all(line.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = String::new();
        let read = (&mut connection).take(LINE_BYTES_MAX).read_line(&mut answer).await;
        match read {
            Ok(_) if answer.ends_with('\n') => {
                self.idle.keep(connection);
                Ok(answer.trim_end().to_owned())
            }
            Ok(_) => Err("the database closed the connection".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
