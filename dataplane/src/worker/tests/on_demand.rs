//! Requests for hosts that are told on demand.

use super::*;

/// A spec whose only virtual host is for `host`, told on demand; none where that is empty.
fn table_of(whole: &Spec, host: &str) -> Spec {
    let table = &whole.routes["t"];
    let only = VirtualHost {
        name: format!("t/{host}").into(),
        domains: vec![host.to_owned()],
        used: Some(Arc::default()),
        ..table.virtual_hosts[0].clone()
    };
    let virtual_hosts = if host.is_empty() { Vec::new() } else { vec![only] };
    let table = RouteConfig { on_demand: true, virtual_hosts, ..RouteConfig::clone(table) };
    Spec { routes: BTreeMap::from([("t".into(), Arc::new(table))]), ..whole.clone() }
}

fn to(origin: SocketAddr) -> Spec {
    spec(cluster(UpstreamProtocol::Http1, 10), endpoints(&[origin]), forward(None, None))
}

#[tokio::test]
async fn a_request_waits_for_its_host_and_for_the_endpoints_that_it_leads_to() {
    let whole = to(origin(|_, request, _| text(request.uri().to_string())).await);
    let mut proxy = Proxy::start(table_of(&whole, ""));
    let address = proxy.address().await;
    let request = tokio::spawn(raw(address, GET));
    assert_eq!(proxy.demands.recv().await.as_deref(), Some("t/c"));
    assert_eq!(proxy.shared.on_demand.waiting(), 1);
    let told = table_of(&whole, "c");
    proxy.spec.send_replace(Arc::new(Spec { endpoints: BTreeMap::new(), ..told.clone() }));
    proxy.spec.send_replace(Arc::new(told.clone()));
    let answer = request.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(proxy.shared.on_demand.waiting(), 0);
    let used = told.routes["t"].virtual_hosts[0].used.clone().unwrap();
    assert!(used.take() && !used.take());
    // What is known is not asked for.
    assert!(raw(address, GET).await.starts_with("HTTP/1.1 200"));
    assert!(used.take() && proxy.demands.try_recv().is_err());
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_answered_at_once_once_that_is_known() {
    let whole = to(([127, 0, 0, 1], 1).into());
    let mut proxy = Proxy::start(table_of(&whole, ""));
    let address = proxy.address().await;
    let request = tokio::spawn(raw(address, GET));
    proxy.demands.recv().await.unwrap();
    let absent = Arc::new(["t/c".to_owned()].into());
    proxy.spec.send_replace(Arc::new(Spec { absent, ..table_of(&whole, "") }));
    assert!(request.await.unwrap().starts_with("HTTP/1.1 404"));
    assert!(raw(address, GET).await.starts_with("HTTP/1.1 404"));
    assert!(proxy.demands.try_recv().is_err());
}

#[tokio::test]
async fn a_request_that_nobody_can_be_asked_for_is_refused() {
    let whole = to(([127, 0, 0, 1], 1).into());
    let mut proxy = Proxy::start(table_of(&whole, ""));
    let address = proxy.address().await;
    proxy.demands.close();
    assert!(raw(address, GET).await.starts_with("HTTP/1.1 503"));
    assert_eq!((proxy.shared.on_demand.waiting(), proxy.shared.on_demand.refused()), (0, 1));
    let long = format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", "a".repeat(300));
    assert!(raw(address, &long).await.starts_with("HTTP/1.1 404"));
}
