//! HTTP/2 (RFC 9113) on both sides: a connection is one task, a downstream stream another, and an upstream request runs
//! within the task that asks. [`connection`] is the protocol, without sockets; [`driver`] moves its bytes; [`server`] and
//! [`client`] are what the rest of the proxy sees. Nothing here is shared between threads.

pub mod client;
mod connection;
mod driver;
pub mod error;
mod flow;
mod frame;
mod guard;
mod head;
mod hpack;
mod output;
pub mod server;
mod settings;
pub mod stream;
mod streams;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::CONTENT_LENGTH};
use http_body::Body;

/// Bytes of a stream's body that may be under way to us unread.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes that wait to be written before bodies wait.
const OUTPUT_BYTES_MAX: usize = 128 * 1024;
/// Bytes that wait to be written before nothing more is read: the peer does not take what it asked for.
const READ_STOP_BYTES: usize = 256 * 1024;
/// How long a peer may take to take note of our settings.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(10);

/// Says how long a body is, where that is known and was not said.
fn declare_length(headers: &mut HeaderMap, body: &impl Body) {
    if let Some(bytes) = body.size_hint().exact()
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
}

#[cfg(test)]
mod tests;
