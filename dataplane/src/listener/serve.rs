//! One connection of a filter chain: what it speaks, and who serves that.

use std::rc::Rc;

use http::Request;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tracing::debug;

use super::Serving;
use crate::{
    body::Incoming,
    filter::rbac,
    http2::server,
    request,
    spec::{DownstreamTls, HttpListener, ListenerProtocol},
    stream::{Spoken, Stream},
    tcp,
    tls::{self, Outcome, Side, server::Accepted},
};

/// hyper keeps header fields on the stack up to this many.
const HEADERS_ON_STACK: usize = 100;
/// hyper's least read buffer.
const READ_BUFFER_MIN: usize = 8192;

/// Serves a connection to its end.
pub(super) async fn serve(mut stream: Stream, mut serving: Serving) {
    let chain = serving.chain.clone();
    if let Some(tls) = &chain.tls {
        match Box::pin(secure(stream, &serving, tls)).await {
            Some(accepted) => {
                stream = accepted.stream;
                serving.secured = Some(Rc::new(accepted.secured));
            }
            None => return,
        }
    }
    let serving = Rc::new(serving);
    if !chain.guards.is_empty()
        && let Some(details) = rbac::refuses_connection(&serving)
    {
        return tcp::refuse(&serving, details);
    }
    let http = match &chain.protocol {
        ListenerProtocol::Tcp(tcp) => return tcp::relay(stream, &serving, tcp).await,
        ListenerProtocol::Http(http) => http,
    };
    let agreed = match stream.alpn() {
        Some(b"h2") => Some(Spoken::Http2),
        Some(b"http/1.1" | b"http/1.0") => Some(Spoken::Http1),
        _ => None,
    };
    let spoken = match agreed {
        Some(spoken) => spoken,
        None => tokio::select! {
            spoken = tokio::time::timeout(chain.idle_timeout, stream.sniff()) => match spoken {
                Ok(Ok(spoken)) => spoken,
                Ok(Err(_)) | Err(_) => return,
            },
            () = serving.drain.cancelled() => return, // Nothing was asked yet.
        },
    };
    let result = match spoken {
        Spoken::Http1 => {
            Box::pin(serve_http1(stream, &serving, http)).await.map_err(|error| error.to_string())
        }
        Spoken::Http2 => {
            Box::pin(server::serve(stream, &serving, http)).await.map_err(|error| error.to_string())
        }
    };
    if let Err(error) = result {
        debug!(%error, "downstream connection ended");
    }
}

/// Shakes hands with the certificates that are in force now; a connection keeps what it began with.
async fn secure(stream: Stream, serving: &Serving, tls: &DownstreamTls) -> Option<Accepted> {
    let shaken = match serving.worker.server_context(tls) {
        None => Err(Outcome::NoSecret),
        Some(context) => tokio::time::timeout(tls.handshake_timeout, context.accept(stream))
            .await
            .unwrap_or(Err(Outcome::Timeout)),
    };
    let outcome = shaken.as_ref().map_or_else(|outcome| *outcome, |_| Outcome::Done);
    tls::count(Side::Downstream, outcome);
    shaken.inspect_err(|outcome| debug!(?outcome, "downstream handshake failed")).ok()
}

async fn serve_http1(stream: Stream, serving: &Rc<Serving>, http: &HttpListener) -> hyper::Result<()> {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(serving.chain.idle_timeout)
        .max_buf_size(http.headers_bytes_max.max(READ_BUFFER_MIN))
        .auto_date_header(false);
    if http.headers_count_max != HEADERS_ON_STACK {
        builder.max_headers(http.headers_count_max);
    }
    let service =
        service_fn(|request: Request<_>| request::serve(serving.clone(), request.map(Incoming::Http1)));
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = serving.drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
