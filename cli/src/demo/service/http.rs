//! The HTTP sample application: says who it is, then what its upstreams say, one line each.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::{
    ServiceArgs, USER_HEADER,
    upstream::{HttpUpstream, LineUpstream},
};

/// One application.
struct App {
    /// "api v2".
    title: String,
    service: Option<HttpUpstream>,
    database: Option<LineUpstream>,
}

/// Answers on every connection until the process ends.
pub async fn serve(listener: TcpListener, args: ServiceArgs) {
    let app = Arc::new(App {
        title: format!("{} {}", args.name, args.app_version),
        service: args.call.map(|address| HttpUpstream::new(address, args.call_host.clone())),
        database: args.database.map(LineUpstream::new),
    });
    loop {
        // A failed accept (out of files, peer gone) is that peer's loss, not the service's end.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        // Without it answers wait for the peer's delayed ACK; where it cannot be set they are only slower.
        let _ = stream.set_nodelay(true);
        let app = app.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let app = app.clone();
                async move { Ok::<_, Infallible>(app.answer(&request).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

impl App {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match self.lines(request).await {
            Ok((status, text)) => respond(status, text),
            Err(problem) => respond(StatusCode::BAD_GATEWAY, format!("{}: {problem}\n", self.title)),
        }
    }

    async fn lines(&self, request: &Request<Incoming>) -> Result<(StatusCode, String), String> {
        let mut text = format!("{}\n", self.title);
        let mut status = StatusCode::OK;
        if let Some(service) = &self.service {
            let user = request.headers().get(USER_HEADER).and_then(|value| value.to_str().ok());
            let (answered, said) = service.get(request.uri().path(), user).await?;
            if !answered.is_success() {
                status = StatusCode::BAD_GATEWAY;
            }
            text.push_str(&said);
        }
        if let Some(database) = &self.database {
            let row = database.ask(request.uri().path()).await.map_err(|error| format!("db: {error}"))?;
            text.push_str(&format!("db: {row}\n"));
        }
        Ok((status, text))
    }
}

fn respond(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
