//! `Gateway`: ports and hosts that edge proxies serve.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    Document,
    gateway_api::{EdgeGateway, GATEWAY_NAME},
    hosts::narrower,
    problem::Report,
    reader::{At, Located},
    tls::{self, ServerTls},
    values,
};

/// Ports and hosts of the edge proxies that a selector picks.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Labels of the proxies; empty is every gateway.
    pub selector: BTreeMap<Arc<str>, Arc<str>>,
    /// Servers.
    pub servers: Vec<Server>,
}

/// One port and its hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Port.
    pub port: u16,
    /// Where it stands.
    pub at: Located,
    /// What is spoken, in TLS or in plain text.
    pub protocol: ServerProtocol,
    /// Address to listen on; none is the proxy's choice.
    pub bind: Option<IpAddr>,
    /// Hosts.
    pub hosts: Vec<ServerHost>,
    /// TLS; none is plain text.
    pub tls: Option<ServerTls>,
    /// Requests are told to come over HTTPS (`httpsRedirect`).
    pub redirect: bool,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerProtocol {
    /// `HTTP`, `HTTP2`, `GRPC`; `HTTPS` where TLS ends here.
    Http,
    /// `TCP`; `TLS` where TLS ends here.
    Tcp,
    /// `TLS` and `HTTPS` that go through.
    Through,
}

/// A host of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerHost {
    /// Exact, `*.suffix` or `*`.
    pub host: Located,
    /// Whose virtual services may serve it.
    pub of: HostNamespace,
}

/// Namespace of the virtual services that may serve a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostNamespace {
    /// `*/`, or none.
    Any,
    /// `./`: the gateway's.
    Own,
    /// `name/`.
    Named(Arc<str>),
}

/// What may stand on a port together. The oldest server of a port says what that is; others are not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerClass {
    /// HTTP in plain text, told apart by host.
    Http,
    /// TLS, told apart by the name that clients ask for.
    Tls,
    /// Bytes in plain text.
    Tcp,
}

impl Gateway {
    /// Whether a proxy may serve both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        agree(&self.selector, &other.selector)
    }

    /// Whether a proxy may serve both it and one of the Gateway API.
    pub(super) fn meets_edge(&self, document: &Document, other: &EdgeGateway) -> bool {
        let made_for = self.selector.get(GATEWAY_NAME);
        agree(&self.selector, &other.labels) && made_for.is_none_or(|name| *name == document.name)
    }
}

impl EdgeGateway {
    /// Whether a proxy may serve both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        agree(&self.labels, &other.labels)
    }
}

/// Whether a proxy may have all of these labels.
fn agree(a: &BTreeMap<Arc<str>, Arc<str>>, b: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
    a.iter().all(|(name, value)| b.get(name).is_none_or(|other| other == value))
}

impl ServerClass {
    /// As people are told.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "plain HTTP",
            Self::Tls => "TLS",
            Self::Tcp => "plain TCP",
        }
    }
}

impl Server {
    /// What it may share its port with.
    pub fn class(&self) -> ServerClass {
        match (&self.tls, self.protocol) {
            (Some(_), _) | (None, ServerProtocol::Through) => ServerClass::Tls,
            (None, ServerProtocol::Http) => ServerClass::Http,
            (None, ServerProtocol::Tcp) => ServerClass::Tcp,
        }
    }

    /// What virtual services of a namespace may serve of a host, on a gateway of namespace `own`: the narrower of the two
    /// where a host of the server takes it.
    pub fn narrow(&self, own: &str, namespace: &str, host: &Arc<str>) -> Option<Arc<str>> {
        let may = |server: &&ServerHost| match &server.of {
            HostNamespace::Any => true,
            HostNamespace::Own => own == namespace,
            HostNamespace::Named(name) => **name == *namespace,
        };
        self.hosts.iter().filter(may).find_map(|server| narrower(&server.host.text, host))
    }
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<Gateway> {
    let mut object = spec.object(report)?;
    let selector = object.field("selector", report).map(|at| at.labels(report)).unwrap_or_default();
    let servers = match object.required("servers", report) {
        Some(at) => at.list(report).iter().filter_map(|at| server(at, report)).collect(),
        None => Vec::new(),
    };
    object.finish(report);
    Some(Gateway { selector, servers })
}

/// What a server says it speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Declared {
    Http,
    Https,
    Tcp,
    Tls,
}

fn server(at: &At<'_>, report: &mut Report) -> Option<Server> {
    let mut object = at.object(report)?;
    let port = object.required("port", report).and_then(|at| {
        let mut object = at.object(report)?;
        let number_at = object.required("number", report);
        let number = number_at.as_ref().and_then(|at| at.port(report));
        object.field("name", report).and_then(|at| at.text(report));
        let declared = object.required("protocol", report).and_then(|at| declared(&at, report));
        object.unsupported(&["targetPort"], report);
        object.finish(report);
        let number_at = number_at?;
        let text = number?.to_string().into();
        Some((number?, Located { text, place: number_at.place, field: number_at.path.clone() }, declared?))
    });
    let hosts: Vec<ServerHost> = match object.required("hosts", report) {
        Some(at) => at.list(report).iter().filter_map(|at| server_host(at, report)).collect(),
        None => Vec::new(),
    };
    object.field("name", report).and_then(|at| at.text(report));
    let bind_at = object.field("bind", report);
    let bind_text = bind_at.as_ref().and_then(|at| at.text(report)).filter(|text| !text.is_empty());
    let bind = bind_text.as_ref().and_then(|text| text.parse().ok());
    if let (Some(at), Some(text), None) = (&bind_at, &bind_text, bind) {
        at.fail(report, format!("{text:?} is no IP address"), "");
    }
    let tls_at = object.field("tls", report);
    let read = match &tls_at {
        None => (None, false),
        Some(at) => tls::server(at, report)?,
    };
    object.unsupported(&["defaultEndpoint"], report);
    object.finish(report);
    let (port, number_at, declared) = port?;
    let (tls, redirect) = read;
    let fail = |report: &mut Report, message: &str, hint: &str| {
        tls_at.as_ref().unwrap_or(at).fail(report, message, hint);
    };
    let through = tls.as_ref().is_some_and(|tls| !tls.terminates());
    let protocol = match declared {
        Declared::Http if tls.is_some() => {
            fail(report, "protocol HTTP is plain text", "set port.protocol: HTTPS");
            return None;
        }
        Declared::Http => ServerProtocol::Http,
        Declared::Tcp if tls.is_some() => {
            fail(report, "protocol TCP is plain text", "set port.protocol: TLS");
            return None;
        }
        Declared::Tcp => ServerProtocol::Tcp,
        Declared::Https | Declared::Tls if tls.is_none() => {
            fail(report, "says nothing of its TLS", "add tls.mode");
            return None;
        }
        Declared::Https | Declared::Tls if through => ServerProtocol::Through,
        Declared::Https => ServerProtocol::Http,
        Declared::Tls => ServerProtocol::Tcp,
    };
    if redirect && declared != Declared::Http {
        fail(report, "only HTTP can be redirected to HTTPS", "remove httpsRedirect");
    }
    Some(Server { port, at: number_at, protocol, bind, hosts, tls, redirect })
}

fn declared(at: &At<'_>, report: &mut Report) -> Option<Declared> {
    let text = at.text(report)?;
    match text.to_ascii_uppercase().as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => Some(Declared::Http),
        "HTTPS" => Some(Declared::Https),
        "TCP" | "MONGO" | "MYSQL" | "REDIS" => Some(Declared::Tcp),
        "TLS" => Some(Declared::Tls),
        _ => {
            let known = "HTTP, HTTPS, HTTP2, GRPC, TCP or TLS";
            at.fail(report, format!("protocol {text:?} is not supported"), known);
            None
        }
    }
}

/// A host, perhaps with `namespace/` before it: `*/` is any namespace, `./` the gateway's own.
fn server_host(at: &At<'_>, report: &mut Report) -> Option<ServerHost> {
    let located = at.located(report)?;
    let Some((namespace, host)) = located.text.split_once('/') else {
        return Some(ServerHost { host: values::host(at, report)?, of: HostNamespace::Any });
    };
    let of = match namespace {
        "*" => HostNamespace::Any,
        "." => HostNamespace::Own,
        name => HostNamespace::Named(name.into()),
    };
    let text = host.into();
    Some(ServerHost { host: values::checked_host(at, Located { text, ..located.clone() }, report)?, of })
}
