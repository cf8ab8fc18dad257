//! A whole proxy in one process.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use prost::{Message, Name};
use weft_proto::xds::{
    envoy::{
        config::{
            core::v3::{
                Address, DataSource, SocketAddress, address, data_source::Specifier,
                socket_address::PortSpecifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter},
            route::v3::{
                DirectResponseAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
                route_match::PathSpecifier,
            },
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier, http_filter,
            },
        },
        service::discovery::v3::Resource,
    },
    google::protobuf::Any,
};

use super::*;
use crate::spec::ListenAddress;

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// A listener on a port of the system's choice that answers everything with `hello`.
fn hello() -> Resource {
    let body = DataSource { specifier: Some(Specifier::InlineString("hello".into())), ..Default::default() };
    let answer = DirectResponseAction { status: 200, body: Some(body), ..Default::default() };
    let path_specifier = Some(PathSpecifier::Prefix("/".into()));
    let route = Route {
        r#match: Some(RouteMatch { path_specifier, ..Default::default() }),
        action: Some(Action::DirectResponse(answer)),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "all".into(),
        domains: vec!["*".into()],
        routes: vec![route],
        ..Default::default()
    };
    let table = RouteConfiguration { name: "r".into(), virtual_hosts: vec![host], ..Default::default() };
    let config_type = Some(http_filter::ConfigType::TypedConfig(any(&Router::default())));
    let router = HttpFilter { name: "router".into(), config_type, ..Default::default() };
    let manager = HttpConnectionManager {
        http_filters: vec![router],
        route_specifier: Some(RouteSpecifier::RouteConfig(table)),
        ..Default::default()
    };
    let config_type = Some(filter::ConfigType::TypedConfig(any(&manager)));
    let chain =
        FilterChain { filters: vec![Filter { name: "hcm".into(), config_type }], ..Default::default() };
    let socket = SocketAddress {
        address: "127.0.0.1".into(),
        port_specifier: Some(PortSpecifier::PortValue(0)),
        ..Default::default()
    };
    let address = Some(Address { address: Some(address::Address::SocketAddress(socket)) });
    let listener = Listener { name: "l".into(), address, filter_chains: vec![chain], ..Default::default() };
    Resource { name: "l".into(), version: "1".into(), resource: Some(any(&listener)), ..Default::default() }
}

#[tokio::test]
async fn the_last_good_configuration_is_served_while_the_control_plane_is_away() {
    let directory = tempfile::tempdir().unwrap();
    Cache::open(directory.path()).unwrap().save(vec![hello()]).unwrap();
    let mut settings =
        Settings::from_yaml("admin: '127.0.0.1:0'\ncontrol: '127.0.0.1:9'\nworkers: 2\n").unwrap();
    settings.data_dir = Some(directory.path().to_owned());
    let app = App::start(settings).unwrap();
    let (admin, mut bound) = (app.admin_address(), app.bound());
    let at = bound.wait_for(|bound| bound.contains_key("l")).await.unwrap()["l"].clone();
    let Bound::At(ListenAddress::Tcp(address)) = at else { panic!("{at:?}") };
    assert!(ask(address, "GET /").await.ends_with("hello"));
    assert!(ask(admin, "GET /ready").await.starts_with("HTTP/1.1 200"));
    assert!(ask(admin, "GET /metrics").await.contains("istio_requests_total"));
    assert!(app.wait(std::future::ready(())).await);
}

#[tokio::test]
async fn a_proxy_that_leaves_is_not_ready_and_takes_connections_on_for_its_grace() {
    let directory = tempfile::tempdir().unwrap();
    Cache::open(directory.path()).unwrap().save(vec![hello()]).unwrap();
    let text = "admin: '127.0.0.1:0'\ncontrol: '127.0.0.1:9'\nworkers: 1\ndrain_grace: 60m\n";
    let mut settings = Settings::from_yaml(text).unwrap();
    settings.data_dir = Some(directory.path().to_owned());
    let app = App::start(settings).unwrap();
    let (admin, mut bound) = (app.admin_address(), app.bound());
    let at = bound.wait_for(|bound| bound.contains_key("l")).await.unwrap()["l"].clone();
    let Bound::At(ListenAddress::Tcp(address)) = at else { panic!("{at:?}") };
    assert!(ask(admin, "GET /ready").await.starts_with("HTTP/1.1 200"));
    let served = tokio::spawn(app.wait(std::future::pending()));
    assert!(ask(admin, "POST /drain").await.starts_with("HTTP/1.1 200"));
    assert!(ask(admin, "GET /ready").await.ends_with("draining\n"));
    assert!(ask(address, "GET /").await.ends_with("hello"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
    assert!(served.await.unwrap());
    assert!(TcpStream::connect(address).await.is_err());
}

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
    let settings = Settings::from_yaml("admin: '127.0.0.1:0'\ncontrol: '127.0.0.1:9'\nworkers: 1\n").unwrap();
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
