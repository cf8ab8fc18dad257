//! `weft drain`: asks a proxy to end without failing a request, by its admin address, and waits until it has.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time};

use super::duration;
use crate::failure::{Exit, Failure};

/// How often it is asked whether the proxy still runs.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Time for one answer of the proxy.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Options of `weft drain`.
#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    /// Admin address of the proxy
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15000")]
    admin: SocketAddr,
    /// How long to wait until the proxy has ended; open requests may take as long as its own drain timeout
    #[arg(long, value_parser = duration, default_value = "60s")]
    timeout: Duration,
    /// Do not wait
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
}

/// Asks, and waits.
pub async fn run(args: DrainArgs) -> Result<Exit, Failure> {
    let DrainArgs { admin, timeout, no_wait } = args;
    let status = match time::timeout(ANSWER_WITHIN, ask(admin)).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(unreachable(admin, &error.to_string())),
        Err(_) => return Err(unreachable(admin, "it does not answer")),
    };
    if status != StatusCode::OK {
        let (what, why) = (format!("{admin} does not drain"), format!("it answers {status}"));
        return Err(Failure::new(Exit::No, what, why, "name the admin address of a weft proxy with --admin"));
    }
    let ended = async {
        while TcpStream::connect(admin).await.is_ok() {
            time::sleep(ASK_EVERY).await;
        }
    };
    if !no_wait && time::timeout(timeout, ended).await.is_err() {
        let why = format!("requests are still open after {timeout:?}");
        let hint = "it ends with them, at the latest after its own drain timeout; wait longer with --timeout";
        return Err(Failure::new(Exit::Unreachable, format!("the proxy at {admin} still drains"), why, hint));
    }
    Ok(Exit::Yes)
}

fn unreachable(admin: SocketAddr, why: &str) -> Failure {
    let hint = "is the proxy running? name its admin address with --admin";
    Failure::new(Exit::Unreachable, format!("cannot reach a proxy at {admin}"), why, hint)
}

async fn ask(admin: SocketAddr) -> Result<StatusCode, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(Method::POST).uri("/drain").header(HOST, admin.to_string());
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = answer.status();
    answer.into_body().collect().await?;
    connection.abort();
    Ok(status)
}
