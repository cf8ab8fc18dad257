//! How control planes are connected to. The client knows no certificates: who runs it hands in a [`Dial`] that does.

use std::fmt;

use futures::future::BoxFuture;
use tonic::transport::{Channel, Endpoint};

/// Connects to control planes; each time as whoever the adapter is by then.
pub trait Dial: fmt::Debug + Send + Sync {
    /// Connects to one; an error is said to people.
    fn dial(&self, control_plane: Endpoint) -> BoxFuture<'_, Result<Channel, String>>;
}

/// Connects as nobody, for control planes on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Plaintext;

impl Dial for Plaintext {
    fn dial(&self, control_plane: Endpoint) -> BoxFuture<'_, Result<Channel, String>> {
        Box::pin(async move { control_plane.connect().await.map_err(|error| innermost(&error)) })
    }
}

/// The deepest cause: "Connection refused", not "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}
