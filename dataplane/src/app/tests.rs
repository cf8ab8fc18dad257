//! A whole proxy in one process.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_proxy_without_control_plane_is_alive_not_ready_and_drains_when_asked() {
    // Port 9 of loopback: nothing listens there.
    let settings =
        Settings::from_yaml("admin: '127.0.0.1:0'\ncontrol_plane: '127.0.0.1:9'\nworkers: 1\n").unwrap();
    let app = App::start(settings).unwrap();
    let admin = app.admin_address();
    let served = tokio::spawn(app.wait(std::future::pending()));
    assert!(ask(admin, "GET /healthz").await.starts_with("HTTP/1.1 200"));
    assert!(ask(admin, "GET /ready").await.starts_with("HTTP/1.1 503"));
    assert!(ask(admin, "GET /metrics").await.contains("weft_downstream_connections 0"));
    assert!(ask(admin, "GET /config_dump").await.contains("\"listeners\": {}"));
    assert!(ask(admin, "GET /drain").await.starts_with("HTTP/1.1 405"));
    assert!(ask(admin, "POST /drain").await.starts_with("HTTP/1.1 200"));
    assert!(served.await.unwrap());
}
