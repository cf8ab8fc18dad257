//! TLS on both sides of a worker, with certificates of the test's own.

use hyper_util::server::conn::auto;

use super::*;
use crate::tls::{
    client::{ClientContext, Purpose},
    contexts::Contexts,
    store::Secrets,
    testing::{Ca, Issued, client, common, dns, downstream, server, upstream},
};

/// The same configuration with the contexts that its secrets allow.
fn with_contexts(spec: Spec) -> Spec {
    let secrets = Secrets { named: spec.secrets.clone(), ..Secrets::default() };
    Spec { tls: Arc::new(spec.tls.next(&spec, &secrets)), ..spec }
}

/// HTTP over TLS for each pair of a server's name and a certificate; none of them for other names.
fn secured(plain: Spec, chains: &[(&str, DownstreamTls)]) -> Spec {
    let mut listener = Listener::clone(&plain.listeners["l"]);
    let of_name = |(name, tls): &(&str, DownstreamTls)| {
        let mut chain = Chain::clone(&listener.chains.all()[0]);
        chain.matches.server_names = vec![(*name).to_owned()];
        chain.tls = Some(Arc::new(tls.clone()));
        chain.digest = tls.digest;
        chain
    };
    listener.chains = Chains::new(chains.iter().map(of_name).collect(), None).unwrap();
    listener.inspection = Inspection { tls: true, ..Inspection::default() };
    with_contexts(Spec { listeners: BTreeMap::from([("l".into(), Arc::new(listener))]), ..plain })
}

fn serving(issued: &[&Issued]) -> DownstreamTls {
    let mut tls = downstream(issued, None);
    tls.common.alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls
}

async fn shake(address: SocketAddr, client: &ClientContext, name: &'static str) -> Option<Stream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from(name).unwrap();
    Some(client.connect(stream.into(), name, Purpose::Http1).await.ok()?.0)
}

/// One request over an open connection.
async fn ask(stream: &mut Stream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: c\r\n\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    let size = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..size]).into_owned()
}

async fn plain_spec() -> Spec {
    let origin = origin(|_, request, _| {
        text(format!("[{}]", request.headers()["x-forwarded-proto"].to_str().unwrap()))
    })
    .await;
    spec(cluster(UpstreamProtocol::Http1, 10), endpoints(&[origin]), forward(None, None))
}

#[tokio::test]
async fn each_server_name_has_its_certificate_and_an_unknown_one_has_none() {
    let ca = Ca::new("ca");
    let (a, b) = (ca.issue(&dns("a.test")), ca.issue(&dns("*.b.test")));
    let spec = secured(plain_spec().await, &[("a.test", serving(&[&a])), ("*.b.test", serving(&[&b]))]);
    let proxy = Proxy::start(spec);
    let address = proxy.address().await;
    let mut up = upstream(&[], Some(ca.trusted()));
    up.verify_sni = true;
    let client = client(&up);
    for name in ["a.test", "x.b.test"] {
        let mut stream = shake(address, &client, name).await.unwrap();
        assert!(ask(&mut stream).await.ends_with("[https]"), "{name}");
    }
    assert!(shake(address, &client, "c.test").await.is_none());
    assert!(raw(address, GET).await.is_empty());
    let refused: BTreeMap<_, _> = proxy.shared.refused.all().into();
    assert_eq!(refused["no_chain"], 2);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let (old_ca, new_ca) = (Ca::new("old"), Ca::new("new"));
    let secret =
        |issued: Issued| Arc::new(Secret::Certificate(CertificateSource::Parsed(issued.certificate())));
    let mut tls = serving(&[]);
    tls.common.certificates = vec![SecretRef::Named(SecretName::Stream("s".into()))];
    let mut plain = plain_spec().await;
    let incomplete = secured(plain.clone(), &[("a.test", tls.clone())]);
    plain.secrets = BTreeMap::from([("s".into(), secret(old_ca.issue(&dns("a.test"))))]);
    let before = secured(plain.clone(), &[("a.test", tls)]);
    let mut after = before.clone();
    after.secrets = BTreeMap::from([("s".into(), secret(new_ca.issue(&dns("a.test"))))]);
    let after = with_contexts(after);

    let proxy = Proxy::start_with(before.clone(), 1);
    let address = proxy.address().await;
    // A client that was there before would take up its session.
    let of = |ca: &Ca| client(&upstream(&[], Some(ca.trusted())));
    let mut live = shake(address, &of(&old_ca), "a.test").await.unwrap();
    assert!(ask(&mut live).await.ends_with("[https]"));
    proxy.spec.send_replace(Arc::new(after));
    while shake(address, &of(&new_ca), "a.test").await.is_none() {}
    assert!(shake(address, &of(&old_ca), "a.test").await.is_none());
    assert!(ask(&mut live).await.ends_with("[https]"));
    // Without its secret the chain refuses everybody.
    let listeners = before.listeners.clone();
    proxy.spec.send_replace(Arc::new(Spec { listeners, ..incomplete }));
    while shake(address, &of(&new_ca), "a.test").await.is_some() {}
    assert!(ask(&mut live).await.ends_with("[https]"));
}

#[tokio::test]
async fn http2_is_served_to_a_client_that_agrees_to_it() {
    let ca = Ca::new("ca");
    let spec = secured(plain_spec().await, &[("a.test", serving(&[&ca.issue(&dns("a.test"))]))]);
    let proxy = Proxy::start(spec);
    let client = client(&upstream(&[], Some(ca.trusted())));
    let stream = TcpStream::connect(proxy.address().await).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let (stream, _) = client.connect(stream.into(), name, Purpose::Http).await.unwrap();
    assert_eq!(stream.alpn(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://c/").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "[https]");
}

/// An origin over TLS that agrees to these protocols, and answers with the version and scheme of each request.
async fn tls_origin(issued: &Issued, protocols: &[&str]) -> SocketAddr {
    let mut tls = downstream(&[issued], None);
    tls.common.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let context = Arc::new(server(&tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let context = context.clone();
            tokio::spawn(async move {
                let Ok(accepted) = context.accept(stream.into()).await else { return };
                let service = service_fn(|request: Request<Incoming>| async move {
                    let scheme = request.uri().scheme_str().unwrap_or("none").to_owned();
                    hyper::Result::Ok(text(format!("[{:?} {scheme}]", request.version())))
                });
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(accepted.stream), service).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn the_endpoint_decides_the_version_where_that_is_agreed_on() {
    let ca = Ca::new("ca");
    let issued = ca.issue(&dns("a.test"));
    let mut up = upstream(&[], Some(ca.trusted()));
    up.verify_sni = true;
    for (protocol, offered, expected) in [
        (UpstreamProtocol::Agreed, &["h2", "http/1.1"][..], "[HTTP/2.0 https]"),
        (UpstreamProtocol::Agreed, &["http/1.1"], "[HTTP/1.1 none]"),
        (UpstreamProtocol::Agreed, &[], "[HTTP/1.1 none]"),
        (UpstreamProtocol::Http1, &["h2", "http/1.1"], "[HTTP/1.1 none]"),
        (UpstreamProtocol::Http2, &["h2", "http/1.1"], "[HTTP/2.0 https]"),
        (UpstreamProtocol::Http2, &["http/1.1"], "remote connection failure"),
    ] {
        let origin = tls_origin(&issued, offered).await;
        let cluster = Cluster { tls: Some(Arc::new(up.clone())), ..cluster(protocol, 10) };
        let proxy = Proxy::start(with_contexts(spec(cluster, endpoints(&[origin]), forward(None, None))));
        let address = proxy.address().await;
        for _ in 0..3 {
            let answer = raw(address, GET).await;
            assert!(answer.ends_with(expected), "{protocol:?} {offered:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_believed_gets_no_request() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let origin = tls_origin(&other.issue(&dns("a.test")), &[]).await;
    let mut missing = upstream(&[], None);
    missing.common = common(&[], None);
    missing.common.certificates = vec![SecretRef::Named(SecretName::Stream("s".into()))];
    for tls in [upstream(&[], Some(ca.trusted())), missing] {
        let cluster = Cluster { tls: Some(Arc::new(tls)), ..cluster(UpstreamProtocol::Agreed, 10) };
        let proxy = Proxy::start(with_contexts(spec(cluster, endpoints(&[origin]), forward(None, None))));
        let answer = raw(proxy.address().await, GET).await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.ends_with("remote connection failure"),
            "{answer}"
        );
    }
}

#[test]
fn contexts_that_would_be_the_same_are_the_same() {
    let ca = Ca::new("ca");
    let plain = spec(cluster(UpstreamProtocol::Http1, 10), endpoints(&[]), forward(None, None));
    let before = secured(plain, &[("a.test", serving(&[&ca.issue(&dns("a.test"))]))]);
    let again = before.tls.next(&before, &Secrets::default());
    assert!(again.same(&before.tls));
    assert!(!again.same(&Contexts::default()));
}
