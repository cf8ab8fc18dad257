//! The responder over real sockets.

use std::{net::Ipv4Addr, str::FromStr};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RecordType},
};

use super::{table::tests::host, *};

fn ask(name: &str) -> Vec<u8> {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_str(name).unwrap(), RecordType::A));
    query.to_vec().unwrap()
}

fn shown(reply: &[u8]) -> (ResponseCode, Vec<String>) {
    let reply = Message::from_vec(reply).unwrap();
    (reply.metadata.response_code, reply.answers.iter().map(|answer| answer.data.to_string()).collect())
}

/// A resolver that knows no name, by UDP and TCP.
async fn nobody() -> SocketAddr {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let deny = |query: &[u8]| {
        let mut reply = Message::from_vec(query).unwrap().into_response();
        reply.metadata.response_code = ResponseCode::NXDomain;
        reply.to_vec().unwrap()
    };
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (size, peer) = udp.recv_from(&mut buffer).await.unwrap();
            udp.send_to(&deny(&buffer[..size]), peer).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            let reply = deny(&query);
            stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    address
}

async fn by_udp(at: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(query, at).await.unwrap();
    let mut buffer = vec![0; 4096];
    let size = socket.recv(&mut buffer).await.unwrap();
    buffer.truncate(size);
    buffer
}

async fn by_tcp(stream: &mut TcpStream, query: &[u8]) -> Vec<u8> {
    stream.write_u16(query.len().try_into().unwrap()).await.unwrap();
    stream.write_all(query).await.unwrap();
    let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut reply).await.unwrap();
    reply
}

#[tokio::test]
async fn names_of_the_mesh_are_answered_and_all_others_asked_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "search corp.test\n").unwrap();
    let db = host("shop", "db", &["db.shop.svc.cluster.local"], &["240.240.0.1"]);
    let hosts = Arc::new([(db.host.clone(), db)].into());
    let (spec, specs) = watch::channel(Arc::new(Spec { hosts, ..Spec::default() }));
    let sockets = Sockets::bind(&[(Ipv4Addr::LOCALHOST, 0).into()]).unwrap();
    let at = sockets.addresses()[0];
    let settings = Settings {
        bind: vec![at],
        resolvers: vec![nobody().await],
        namespace: "shop".to_owned(),
        resolv_conf,
    };
    let stop = CancellationToken::new();
    spawn(sockets, settings, specs, stop.clone()).unwrap();
    let ours = || (ResponseCode::NoError, vec!["240.240.0.1".to_owned()]);
    let aliased = || (ResponseCode::NoError, vec!["db.".to_owned(), "240.240.0.1".to_owned()]);
    let theirs = || (ResponseCode::NXDomain, Vec::new());
    assert_eq!(shown(&by_udp(at, &ask("db.")).await), ours());
    assert_eq!(shown(&by_udp(at, &ask("db.corp.test.")).await), aliased());
    assert_eq!(shown(&by_udp(at, &ask("web.corp.test.")).await), theirs());
    let mut stream = TcpStream::connect(at).await.unwrap();
    assert_eq!(shown(&by_tcp(&mut stream, &ask("db.shop.svc.cluster.local.")).await), ours());
    assert_eq!(shown(&by_tcp(&mut stream, &ask("web.")).await), theirs());
    // What is gone from the mesh is asked elsewhere too.
    spec.send_replace(Arc::new(Spec::default()));
    let mut last = ours();
    for _ in 0..1000 {
        last = shown(&by_udp(at, &ask("db.")).await);
        if last == theirs() {
            break;
        }
    }
    assert_eq!(last, theirs());
    stop.cancel();
}
