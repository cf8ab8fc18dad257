//! Encoded resources as YAML for people: decoded, without what is default, and with the small wrappers of protobuf
//! (durations, addresses, structs, optional numbers) written plainly.
//!
//! The generated types have no serde, but all have `Debug`, whose text is read here.

use std::{fmt::Debug, iter::Peekable, str::Chars};

use prost::Message;
use weft_proto::extension::v1::{HostNames, PeakEwma};
use weft_proto::xds::envoy::{
    config::{
        cluster::v3::Cluster,
        endpoint::v3::ClusterLoadAssignment,
        listener::v3::Listener,
        route::v3::{RouteConfiguration, VirtualHost},
        trace::v3::OpenTelemetryConfig,
    },
    extensions::{
        access_loggers::file::v3::FileAccessLog,
        filters::{
            http::{
                buffer::v3::{Buffer, BufferPerRoute},
                cors::v3::{Cors, CorsPolicy},
                fault::v3::HttpFault,
                jwt_authn::v3::JwtAuthentication,
                local_ratelimit::v3::LocalRateLimit,
                rbac::v3::{Rbac, RbacPerRoute},
                router::v3::Router,
            },
            listener::{
                http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
                tls_inspector::v3::TlsInspector,
            },
            network::{
                http_connection_manager::v3::HttpConnectionManager, rbac::v3::Rbac as NetworkRbac,
                tcp_proxy::v3::TcpProxy,
            },
        },
        load_balancing_policies::{
            least_request::v3::LeastRequest, round_robin::v3::RoundRobin, wrr_locality::v3::WrrLocality,
        },
        path::r#match::uri_template::v3::UriTemplateMatchConfig,
        rate_limit_descriptors::expr::v3::Descriptor,
        request_id::uuid::v3::UuidRequestIdConfig,
        retry::{
            host::previous_hosts::v3::PreviousHostsPredicate,
            priority::previous_priorities::v3::PreviousPrioritiesConfig,
        },
        transport_sockets::tls::v3::{DownstreamTlsContext, Secret, UpstreamTlsContext},
        upstreams::http::v3::HttpProtocolOptions,
    },
};

use crate::{
    documents::status::{Condition, Statuses},
    resource::{Kind, Resource, ResourceSet},
};

const COLUMNS: usize = 110;

/// Fields that always have this value, by the protocol's default or by ours: they would only hide the others.
const CONSTANTS: [(&str, &str); 16] = [
    ("case_sensitive", "true"),
    ("cluster_not_found_response_code", "ServiceUnavailable"),
    ("codec_type", "Auto"),
    ("dns_lookup_family", "Auto"),
    ("drain_type", "Default"),
    ("forward_client_cert_details", "Sanitize"),
    ("headers_with_underscores_action", "Allow"),
    ("health_status", "Healthy"),
    ("internal_redirect_action", "PassThroughInternalRedirect"),
    ("priority", "Default"),
    ("protocol_selection", "UseConfiguredProtocol"),
    ("proxy_protocol_tlv_merge_policy", "AddIfAbsent"),
    ("resource_api_version", "V3"),
    ("server_header_transformation", "Overwrite"),
    ("upstream_connect_mode", "Immediate"),
    ("validate_clusters", "false"),
];

/// What documents are told, one line for the document, each parent and each listener.
pub(super) fn statuses(statuses: &Statuses) -> String {
    let mut out = "status:\n".to_owned();
    let mut line = |name: &str, conditions: &[Condition]| {
        if !conditions.is_empty() {
            let all: Vec<String> = conditions.iter().map(ToString::to_string).collect();
            out.push_str(&format!("- {name}\n    {}\n", all.join("\n    ")));
        }
    };
    for (key, status) in statuses {
        line(key, &status.conditions);
        for parent in &status.parents {
            let section = parent.section.as_deref().map_or_else(String::new, |name| format!(" {name}"));
            let port = parent.port.map_or_else(String::new, |port| format!(":{port}"));
            let name =
                format!("{key} at {} {}/{}{port}{section}", parent.kind, parent.namespace, parent.name);
            line(&name, &parent.conditions);
        }
        for listener in &status.listeners {
            let kinds = listener.supported_kinds.join(", ");
            let name = format!("{key} {}: {} attached of [{kinds}]", listener.name, listener.attached_routes);
            line(&name, &listener.conditions);
        }
    }
    out
}

/// The chosen kinds of a set.
pub(super) fn resources(set: &ResourceSet, chosen: &[String]) -> String {
    let kinds = [
        ("clusters", Kind::Cluster),
        ("endpoints", Kind::Endpoints),
        ("secrets", Kind::Secret),
        ("listeners", Kind::Listener),
        ("routes", Kind::Routes),
        ("hosts", Kind::VirtualHost),
        ("names", Kind::Names),
    ];
    for name in chosen {
        assert!(kinds.iter().any(|(known, _)| known == name), "{name} is no kind");
    }
    let mut out = String::new();
    for (name, kind) in kinds.into_iter().filter(|(name, _)| chosen.iter().any(|chosen| chosen == name)) {
        let mut listed: Vec<&std::sync::Arc<Resource>> = set.of(kind).collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let items = listed.into_iter().map(|resource| {
            let mut fields = match plain(read(&decoded(kind, &resource.bytes))) {
                Plain::Map(fields) => fields,
                other => vec![("value".to_owned(), other)],
            };
            if !resource.documents.is_empty() {
                let documents = resource.documents.iter().map(|key| Plain::text(key)).collect();
                fields.push(("# shaped by".to_owned(), Plain::List(documents)));
            }
            Plain::Map(fields)
        });
        let shown = Plain::Map(vec![(name.to_owned(), Plain::List(items.collect()))]);
        shown.write(0, &mut out);
    }
    out
}

fn decoded(kind: Kind, bytes: &[u8]) -> String {
    fn text<M: Message + Default + Debug>(bytes: &[u8]) -> String {
        format!("{:?}", M::decode(bytes).unwrap())
    }
    match kind {
        Kind::Cluster => text::<Cluster>(bytes),
        Kind::Endpoints => text::<ClusterLoadAssignment>(bytes),
        Kind::Secret => text::<Secret>(bytes),
        Kind::Listener => text::<Listener>(bytes),
        Kind::Routes => text::<RouteConfiguration>(bytes),
        Kind::VirtualHost => text::<VirtualHost>(bytes),
        Kind::Names => text::<HostNames>(bytes),
    }
}

/// The message of an `Any` that compile writes.
fn unpacked(type_url: &str, bytes: &[u8]) -> String {
    fn text<M: Message + Default + Debug>(bytes: &[u8]) -> String {
        format!("{:?}", M::decode(bytes).unwrap())
    }
    match type_url.rsplit('.').next().unwrap() {
        "HttpConnectionManager" => text::<HttpConnectionManager>(bytes),
        "PeakEwma" => text::<PeakEwma>(bytes),
        "TcpProxy" => text::<TcpProxy>(bytes),
        "UuidRequestIdConfig" => text::<UuidRequestIdConfig>(bytes),
        "FileAccessLog" => text::<FileAccessLog>(bytes),
        "OpenTelemetryConfig" => text::<OpenTelemetryConfig>(bytes),
        "Buffer" => text::<Buffer>(bytes),
        "BufferPerRoute" => text::<BufferPerRoute>(bytes),
        "Cors" => text::<Cors>(bytes),
        "CorsPolicy" => text::<CorsPolicy>(bytes),
        "HTTPFault" => text::<HttpFault>(bytes),
        "JwtAuthentication" => text::<JwtAuthentication>(bytes),
        "RBAC" if type_url.contains("network") => text::<NetworkRbac>(bytes),
        "RBAC" => text::<Rbac>(bytes),
        "RBACPerRoute" => text::<RbacPerRoute>(bytes),
        "LocalRateLimit" => text::<LocalRateLimit>(bytes),
        "Descriptor" => text::<Descriptor>(bytes),
        "UriTemplateMatchConfig" => text::<UriTemplateMatchConfig>(bytes),
        "PreviousHostsPredicate" => text::<PreviousHostsPredicate>(bytes),
        "PreviousPrioritiesConfig" => text::<PreviousPrioritiesConfig>(bytes),
        "Router" => text::<Router>(bytes),
        "WrrLocality" => text::<WrrLocality>(bytes),
        "LeastRequest" => text::<LeastRequest>(bytes),
        "RoundRobin" => text::<RoundRobin>(bytes),
        "DownstreamTlsContext" => text::<DownstreamTlsContext>(bytes),
        "UpstreamTlsContext" => text::<UpstreamTlsContext>(bytes),
        "TlsInspector" => text::<TlsInspector>(bytes),
        "HttpInspector" => text::<HttpInspector>(bytes),
        "OriginalDst" => text::<OriginalDst>(bytes),
        "HttpProtocolOptions" => text::<HttpProtocolOptions>(bytes),
        _ => panic!("{type_url} is not known here"),
    }
}

/// What the text of `Debug` says.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Text(String),
    /// A number, a boolean or the name of a variant without contents.
    Word(String),
    List(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
    Struct(String, Vec<(String, Tree)>),
    Variant(String, Vec<Tree>),
}

fn read(text: &str) -> Tree {
    let mut rest = text.chars().peekable();
    let tree = value(&mut rest);
    assert_eq!(rest.next(), None, "in {text}");
    tree
}

fn value(rest: &mut Peekable<Chars<'_>>) -> Tree {
    match rest.peek().copied().unwrap() {
        '"' => Tree::Text(string(rest)),
        '[' => Tree::List(sequence(rest, ']', value)),
        '{' => Tree::Map(sequence(rest, '}', |rest| {
            let key = value(rest);
            skip(rest, ':');
            (key, value(rest))
        })),
        _ => {
            let name = word(rest);
            match rest.peek().copied() {
                Some('(') => Tree::Variant(name, sequence(rest, ')', value)),
                Some(' ') if rest.clone().nth(1) == Some('{') => {
                    rest.next();
                    Tree::Struct(
                        name,
                        sequence(rest, '}', |rest| {
                            let field = word(rest);
                            skip(rest, ':');
                            (field.trim_start_matches("r#").to_owned(), value(rest))
                        }),
                    )
                }
                _ => Tree::Word(name),
            }
        }
    }
}

/// What stands between an opening bracket and `close`, separated by commas.
fn sequence<T>(
    rest: &mut Peekable<Chars<'_>>,
    close: char,
    item: impl Fn(&mut Peekable<Chars<'_>>) -> T,
) -> Vec<T> {
    rest.next();
    let mut items = Vec::new();
    loop {
        while rest.next_if(|c| *c == ' ' || *c == ',').is_some() {}
        if rest.next_if_eq(&close).is_some() {
            return items;
        }
        items.push(item(rest));
    }
}

fn skip(rest: &mut Peekable<Chars<'_>>, wanted: char) {
    assert_eq!(rest.next(), Some(wanted));
    while rest.next_if_eq(&' ').is_some() {}
}

fn word(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || "_.-#+".contains(*c)) {
        word.push(c);
    }
    assert!(!word.is_empty(), "at {:?}", rest.clone().take(40).collect::<String>());
    word
}

fn string(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut quoted = String::from(rest.next().unwrap());
    loop {
        let c = rest.next().unwrap();
        quoted.push(c);
        match c {
            '\\' => quoted.push(rest.next().unwrap()),
            '"' => break,
            _ => {}
        }
    }
    // Rust's escapes in our texts are JSON's.
    serde_json::from_str(&quoted.replace("\\'", "'")).unwrap()
}

/// YAML, fields in the order of the protocol.
#[derive(Clone, Debug, PartialEq)]
enum Plain {
    Scalar(String),
    List(Vec<Plain>),
    Map(Vec<(String, Plain)>),
}

fn plain(tree: Tree) -> Plain {
    match tree {
        Tree::Text(text) => Plain::text(&text),
        Tree::Word(word) => Plain::Scalar(word),
        Tree::List(items) => Plain::List(items.into_iter().map(plain).collect()),
        Tree::Map(entries) => {
            let entry = |(key, value)| match key {
                Tree::Text(text) | Tree::Word(text) => (text, plain(value)),
                key => panic!("{key:?} is no key"),
            };
            let mut entries: Vec<(String, Plain)> = entries.into_iter().map(entry).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Plain::Map(entries)
        }
        Tree::Variant(name, mut items) => {
            assert_eq!(items.len(), 1, "{name}");
            let inner = plain(items.remove(0));
            if name == "Some" { inner } else { Plain::Map(vec![(snake(&name), inner)]) }
        }
        Tree::Struct(name, fields) => message(&name, fields),
    }
}

fn message(name: &str, fields: Vec<(String, Tree)>) -> Plain {
    let find = |wanted: &str| fields.iter().find(|(field, _)| field == wanted).map(|(_, tree)| tree.clone());
    match name {
        "UInt32Value" | "BoolValue" | "DoubleValue" => plain(find("value").unwrap()),
        "Percent" => Plain::Scalar(format!("{}%", plain(find("value").unwrap()).flow())),
        "Duration" => duration(&find("seconds").unwrap(), &find("nanos").unwrap()),
        "Struct" => plain(find("fields").unwrap()),
        // A value is an option of a variant, whose name says what is seen.
        "Value" => match find("kind").unwrap() {
            Tree::Variant(_, mut some) => match some.remove(0) {
                Tree::Variant(_, mut inner) => plain(inner.remove(0)),
                other => plain(other),
            },
            other => plain(other),
        },
        "ListValue" => plain(find("values").unwrap()),
        "Any" => any(&find("type_url").unwrap(), &find("value").unwrap()),
        "SocketAddress" => {
            let port = match plain(find("port_specifier").unwrap()) {
                Plain::Map(one) => one[0].1.flow(),
                other => other.flow(),
            };
            let Some(Tree::Text(host)) = find("address") else { panic!("an address without a host") };
            Plain::text(&format!("{host}:{port}"))
        }
        _ => {
            let kept = fields.into_iter().filter(|(_, tree)| !is_default(tree)).map(field);
            let constant = |(name, value): &(String, Plain)| CONSTANTS.contains(&(name, &value.flow()));
            Plain::Map(kept.filter(|pair| !constant(pair)).collect())
        }
    }
}

/// A field; one of several alternatives goes by the name of the alternative, as in the protocol.
fn field((name, tree): (String, Tree)) -> (String, Plain) {
    if let Tree::Variant(some, items) = &tree
        && some == "Some"
        && let [Tree::Variant(alternative, inner)] = items.as_slice()
        && let [inner] = inner.as_slice()
    {
        return (snake(alternative), plain(inner.clone()));
    }
    (name, plain(tree))
}

fn any(type_url: &Tree, value: &Tree) -> Plain {
    let (Tree::Text(type_url), Tree::List(items)) = (type_url, value) else { panic!("{value:?} is no Any") };
    let byte = |item: &Tree| match item {
        Tree::Word(number) => number.parse().unwrap(),
        other => panic!("{other:?} is no byte"),
    };
    let bytes: Vec<u8> = items.iter().map(byte).collect();
    let name = type_url.rsplit('.').next().unwrap().to_owned();
    Plain::Map(vec![(name, plain(read(&unpacked(type_url, &bytes))))])
}

fn duration(seconds: &Tree, nanos: &Tree) -> Plain {
    let number = |tree: &Tree| match tree {
        Tree::Word(number) => number.parse::<u64>().unwrap(),
        other => panic!("{other:?} is no number"),
    };
    let time = std::time::Duration::new(number(seconds), u32::try_from(number(nanos)).unwrap());
    Plain::Scalar(if time.is_zero() { "0s".to_owned() } else { format!("{time:?}") })
}

fn is_default(tree: &Tree) -> bool {
    match tree {
        Tree::Text(text) => text.is_empty(),
        Tree::Word(word) => matches!(word.as_str(), "None" | "0" | "0.0" | "false"),
        Tree::List(items) => items.is_empty(),
        Tree::Map(entries) => entries.is_empty(),
        Tree::Struct(..) | Tree::Variant(..) => false,
    }
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

impl Plain {
    fn text(text: &str) -> Self {
        let bare = text.chars().next().is_some_and(char::is_alphabetic)
            && text.chars().all(|c| c.is_alphanumeric() || "_./|-:".contains(c))
            && !text.ends_with(':')
            && !matches!(text, "true" | "false" | "null");
        Self::Scalar(if bare { text.to_owned() } else { format!("{text:?}") })
    }

    /// On one line.
    fn flow(&self) -> String {
        match self {
            Self::Scalar(text) => text.clone(),
            Self::List(items) => {
                format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", "))
            }
            Self::Map(entries) => {
                let entry = |(key, value): &(String, Self)| format!("{key}: {}", value.flow());
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Whether it reads well on one line that begins at a column.
    fn fits(&self, column: usize) -> bool {
        let shallow = match self {
            Self::Scalar(_) => true,
            Self::List(items) => items.iter().all(|item| !matches!(item, Self::Map(map) if map.len() > 2)),
            Self::Map(entries) => !entries.iter().any(|(key, _)| key.starts_with('#')),
        };
        shallow && column + self.flow().chars().count() <= COLUMNS
    }

    /// Writes the lines of a map or list at an indentation.
    fn write(&self, indent: usize, out: &mut String) {
        let pad = " ".repeat(indent);
        match self {
            Self::Scalar(text) => out.push_str(&format!("{pad}{text}\n")),
            Self::Map(entries) => {
                for (key, value) in entries {
                    if key.starts_with('#') || value.fits(indent + key.len() + 2) {
                        out.push_str(&format!("{pad}{key}: {}\n", value.flow()));
                    } else {
                        out.push_str(&format!("{pad}{key}:\n"));
                        value.write(indent + if matches!(value, Self::List(_)) { 0 } else { 2 }, out);
                    }
                }
            }
            Self::List(items) => {
                for item in items {
                    if item.fits(indent + 2) {
                        out.push_str(&format!("{pad}- {}\n", item.flow()));
                        continue;
                    }
                    let mut lines = String::new();
                    item.write(indent + 2, &mut lines);
                    lines.replace_range(indent..indent + 1, "-");
                    out.push_str(&lines);
                }
            }
        }
    }
}
