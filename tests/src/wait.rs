//! Waiting for something to become true, with a deadline and a name for the message.

use std::time::{Duration, Instant};

/// Time that a process gets to start, on a loaded machine with a debug build.
pub const START: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// Asks `probe` until it answers `Ok`; panics with its last error when `limit` is over.
pub async fn until<T, E, F>(what: &str, limit: Duration, mut probe: F) -> T
where
    F: AsyncFnMut() -> Result<T, E>,
    E: std::fmt::Display,
{
    let started = Instant::now();
    loop {
        match probe().await {
            Ok(found) => return found,
            Err(last) if started.elapsed() > limit => {
                panic!("{what}: not within {limit:?}; last answer: {last}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Asks `probe` until it answers, for some time at most.
pub async fn within<T>(limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        match probe().await {
            Some(found) => return Some(found),
            None if started.elapsed() > limit => return None,
            None => tokio::time::sleep(POLL).await,
        }
    }
}

/// Waits until something listens on a local port.
pub async fn listening(what: &str, address: std::net::SocketAddr) {
    until(what, START, async || tokio::net::TcpStream::connect(address).await.map(drop)).await;
}
