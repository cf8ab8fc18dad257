//! The demo's sample applications: an HTTP service that calls another one and asks the database, and the database,
//! which answers lines over TCP. They know nothing of the mesh: they call local ports.

mod database;
mod http;
mod upstream;

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::failure::{Exit, Failure};

/// Header that chooses a user; sample services pass it on, as the mesh's routes may look at it.
pub const USER_HEADER: &str = "end-user";

/// Options of one sample application.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceArgs {
    /// Its name
    #[arg(long)]
    name: String,
    /// Its version
    #[arg(long, default_value = "v1")]
    app_version: String,
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
    /// HTTP service that it calls for every request
    #[arg(long)]
    call: Option<SocketAddr>,
    /// Host name of the HTTP service that it calls
    #[arg(long, default_value = "api")]
    call_host: String,
    /// Database that it asks for every request
    #[arg(long)]
    database: Option<SocketAddr>,
    /// Be the database
    #[arg(long, conflicts_with_all = ["call", "database"])]
    lines: bool,
}

/// Serves until the process ends.
pub async fn run(args: ServiceArgs) -> Result<Exit, Failure> {
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Failure::usage(
            format!("cannot listen on {}", args.listen),
            error.to_string(),
            "choose a free address with --listen",
        )
    })?;
    if args.lines {
        database::serve(listener).await;
    } else {
        http::serve(listener, args).await;
    }
    Ok(Exit::Yes)
}
