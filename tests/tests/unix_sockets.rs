//! Declared ports as unix sockets, on every side: client to proxy, proxy to proxy, proxy to workload.

use tokio::net::UnixStream;
use weft_proto::node::{Address, Inbound, NodeMetadata, Upstream};
use weft_tests::{
    backend::{Backend, exchange},
    mesh::{Mesh, SYNC},
    wait::until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_from_socket_to_socket_through_both_kinds_of_proxy() {
    let mut mesh = Mesh::start().await;
    let path = |name: &str| mesh.dir.path().join(name);
    let address = |name: &str| Address::Unix(path(name).to_str().unwrap().to_owned());
    let _workload = Backend::unix(&path("app.sock"), "here");
    let service = format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: db}}\nspec:\n  ports: [{{number: 5432, name: tcp, \
         protocol: tcp}}]\n  endpoints:\n  - {{address: {}, ports: {{tcp: 5432}}}}\n",
        path("in.sock").display()
    );
    let inbound = NodeMetadata {
        inbound: vec![Inbound {
            bind: Some(address("in.sock")),
            service: "db".to_owned(),
            port: 0,
            app: address("app.sock"),
            protocol: "tcp".to_owned(),
            workload: String::new(),
        }],
        ..NodeMetadata::default()
    };
    let outbound = |name: &str| NodeMetadata {
        workload: "client".to_owned(),
        upstreams: vec![Upstream { bind: address(name), service: "db".to_owned(), port: 0 }],
        ..NodeMetadata::default()
    };
    let (ours, envoys) = (outbound("weft.sock"), outbound("envoy.sock"));
    let clients = [path("weft.sock"), path("envoy.sock")];
    mesh.publish("db.yaml", &service);
    mesh.endpoints("db", 1, SYNC).await;
    let _proxies = [
        mesh.weft_proxy("server", &inbound).await,
        mesh.weft_proxy("client", &ours).await,
        mesh.envoy("envoy", &envoys).await,
    ];
    mesh.synced(3, SYNC).await;
    for client in clients {
        until(&format!("an answer at {}", client.display()), SYNC, async || {
            let stream = UnixStream::connect(&client).await?;
            let (greeting, echo) = exchange(stream, "hello").await?;
            let right = (greeting.as_str(), echo.as_str()) == ("here", "hello");
            if right { Ok(()) } else { Err(std::io::Error::other(format!("{greeting} {echo}"))) }
        })
        .await;
    }
}
