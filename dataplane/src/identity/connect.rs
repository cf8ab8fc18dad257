//! Connections to control planes: plaintext where the address says so, else TLS by which each side knows the other.

use std::{io, sync::Arc, time::SystemTime};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{Current, Svid, pin};

/// Port of control planes over TLS.
const PORT: u16 = 15012;

/// Connects to control planes.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// The own identity; none where every control plane is spoken to in plaintext.
    pub identity: Option<Current>,
}

impl Dialer {
    /// Whether an address asks for TLS.
    pub fn is_secure(endpoint: &Endpoint) -> bool {
        endpoint.uri().scheme_str() == Some("https")
    }

    /// Connects; over TLS as soon as there is an identity to show.
    pub async fn connect(&self, endpoint: Endpoint) -> Result<Channel, String> {
        if !Self::is_secure(&endpoint) {
            return endpoint.connect().await.map_err(|error| describe(&error));
        }
        let none = || "there is no identity to show".to_owned();
        let mut identity = self.identity.clone().ok_or_else(none)?;
        let now = identity.wait_for(Option::is_some).await.map_err(|_| none())?.clone();
        secure(endpoint, now, None).await
    }
}

/// Connects over TLS as `own`, or as nobody to a control plane that is known by its pin.
pub async fn secure(
    endpoint: Endpoint,
    own: Option<Arc<Svid>>,
    known: Option<pin::Pin>,
) -> Result<Channel, String> {
    let config =
        pin::context(own.as_deref(), known.as_ref(), SystemTime::now()).map_err(|e| e.to_string())?;
    let connector = TlsConnector::from(Arc::new(config));
    let dial = tower::service_fn(move |uri: Uri| {
        let connector = connector.clone();
        async move {
            let missing = || io::Error::new(io::ErrorKind::InvalidInput, "the address names no host");
            let host = uri.host().ok_or_else(missing)?.trim_matches(['[', ']']).to_owned();
            let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(PORT))).await?;
            // A small message is not kept back for more; a socket that cannot promise that serves all the same.
            let _ = stream.set_nodelay(true);
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    endpoint.connect_with_connector(dial).await.map_err(|error| describe(&error))
}

/// An error with what caused it, which tonic's own message leaves out.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
