//! Keepalive probes of upstream connections.

use std::io;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::spec::Keepalive;

/// Asks the system to probe a connection on which nothing moves.
pub(super) fn set(stream: &TcpStream, keepalive: &Keepalive) -> io::Result<()> {
    let Keepalive { probes, idle, interval } = *keepalive;
    let mut wanted = TcpKeepalive::new();
    if let Some(idle) = idle {
        wanted = wanted.with_time(idle);
    }
    if let Some(interval) = interval {
        wanted = wanted.with_interval(interval);
    }
    if let Some(probes) = probes {
        wanted = wanted.with_retries(probes);
    }
    SockRef::from(stream).set_tcp_keepalive(&wanted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_probed_as_the_cluster_says() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!SockRef::from(&stream).keepalive().unwrap());
        let seconds = Duration::from_secs;
        set(&stream, &Keepalive { probes: Some(4), idle: Some(seconds(30)), interval: Some(seconds(5)) })
            .unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(30));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(5));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    }
}
