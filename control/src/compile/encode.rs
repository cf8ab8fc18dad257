//! Plain values become protobuf. Nothing is decided here but the mesh's constants.

use std::time::Duration;

use prost::Message;
use weft_proto::xds::{
    envoy::config::core::v3::{
        Address, AggregatedConfigSource, ApiVersion, ConfigSource, Pipe, SocketAddress,
        address::Address as AddressKind, config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
    },
    google::protobuf::{
        self, Any, BoolValue, ListValue, Struct, UInt32Value, Value, value::Kind as ValueKind,
    },
};

mod access;
pub(crate) mod access_log;
mod check;
pub(crate) mod cluster;
mod filter;
pub(crate) mod grpc;
mod limits;
pub(crate) mod listener;
pub(crate) mod route;
pub(crate) mod tls;
mod tokens;
mod tracing;

fn any<M: Message>(name: &str, message: &M) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    })
}

fn duration(duration: Duration) -> Option<protobuf::Duration> {
    Some(protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    })
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn flag(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// An IP address or host name with a port, or the path of a unix socket.
fn address(text: &str, port: u16) -> Option<Address> {
    let path = text.strip_prefix("unix://").or_else(|| text.starts_with('/').then_some(text));
    let kind = match path {
        Some(path) => AddressKind::Pipe(Pipe { path: path.to_owned(), mode: 0 }),
        None => AddressKind::SocketAddress(SocketAddress {
            address: text.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        }),
    };
    Some(Address { address: Some(kind) })
}

fn text_value(text: &str) -> Value {
    Value { kind: Some(ValueKind::StringValue(text.to_owned())) }
}

fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
}

fn list_value(values: Vec<Value>) -> Value {
    Value { kind: Some(ValueKind::ListValue(ListValue { values })) }
}
