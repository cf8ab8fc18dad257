//! From what is known of a request to its line. Pure.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Version};
use tokio::time::Instant;

use super::{Notes, clock, millis};
use crate::{
    fault::Flags,
    request::record::Target,
    spec::{
        AddressPart, EndpointAddress, Field, GrpcForm, JsonValue, LogFormat, Operator, Part, RequestField,
    },
};

/// gRPC's status names by number.
const GRPC: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// What is known of a request or connection at its end, beside the notes.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// When it began.
    pub began: Instant,
    /// The same on the wall clock.
    pub time: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Status sent downstream; none on a TCP connection or before there was one.
    pub status: Option<u16>,
    /// Envoy's `RESPONSE_CODE_DETAILS`.
    pub details: Option<&'a str>,
    /// Flags.
    pub flags: Flags,
    /// `grpc-status`, where it is a gRPC call that has one.
    pub grpc_status: Option<u16>,
    /// Bytes of body that came from downstream.
    pub bytes_received: u64,
    /// Bytes of body sent downstream.
    pub bytes_sent: u64,
    /// When the last byte of the request had come.
    pub request_ended: Option<Instant>,
    /// Where it went last.
    pub target: &'a Target,
    /// Tries that were made.
    pub attempts: u32,
}

/// Appends the line, its end included.
pub fn line(format: &LogFormat, facts: &Facts<'_>, notes: &Notes, out: &mut String) {
    let line = Line { facts, notes };
    match format {
        LogFormat::Text { parts, absent } => line.text(parts, absent, out),
        LogFormat::Json { value, omit_empty } => {
            if !line.json(value, *omit_empty, out) {
                out.push_str("{}");
            }
            out.push('\n');
        }
    }
}

struct Line<'a> {
    facts: &'a Facts<'a>,
    notes: &'a Notes,
}

impl Line<'_> {
    fn text(&self, parts: &[Part], absent: &str, out: &mut String) {
        for part in parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(operator) => {
                    if !self.value(operator, out) {
                        out.push_str(absent);
                    }
                }
            }
        }
    }

    /// Appends a JSON value; false, and nothing appended, where it is empty and those are left out.
    fn json(&self, value: &JsonValue, omit_empty: bool, out: &mut String) -> bool {
        let start = out.len();
        match value {
            JsonValue::Fixed(text) => out.push_str(text),
            JsonValue::Text(parts) => {
                out.push('"');
                self.text(parts, if omit_empty { "" } else { "-" }, out);
                escape(out, start + 1);
                out.push('"');
            }
            JsonValue::Value(operator) if is_number(&operator.field) => {
                if !self.value(operator, out) {
                    return null(omit_empty, out);
                }
            }
            JsonValue::Value(operator) => {
                out.push('"');
                if !self.value(operator, out) {
                    out.truncate(start);
                    return null(omit_empty, out);
                }
                escape(out, start + 1);
                out.push('"');
            }
            JsonValue::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    self.json(item, false, out);
                }
                out.push(']');
            }
            JsonValue::Object(entries) => {
                out.push('{');
                for (key, value) in entries {
                    let before = out.len();
                    out.push_str(if before > start + 1 { "," } else { "" });
                    out.push_str(key);
                    if !self.json(value, omit_empty, out) {
                        out.truncate(before);
                    }
                }
                if omit_empty && out.len() == start + 1 {
                    out.truncate(start);
                    return false;
                }
                out.push('}');
            }
        }
        true
    }

    /// Appends a value; false, and nothing appended, where there is none.
    fn value(&self, operator: &Operator, out: &mut String) -> bool {
        let start = out.len();
        let found = self.field(&operator.field, out).is_some();
        if let Some(max) = operator.bytes_max
            && out.len() - start > max
        {
            out.truncate(out.floor_char_boundary(start + max));
        }
        found
    }

    fn field(&self, field: &Field, out: &mut String) -> Option<()> {
        let Self { facts, notes } = self;
        match field {
            Field::StartTime(parts) => clock::write(parts, facts.time, out),
            Field::Request(first, other) => {
                return self
                    .request(*first, out)
                    .or_else(|| other.and_then(|other| self.request(other, out)));
            }
            Field::Response(first, other) => return either(&notes.response, *first, *other, out),
            Field::Trailer(first, other) => return either(&notes.trailers, *first, *other, out),
            Field::ServiceTime => {
                let sent = facts.request_ended.unwrap_or(facts.began);
                number(millis(notes.answered?.saturating_duration_since(sent)), out);
            }
            Field::GrpcStatus(form) => grpc(*form, facts.grpc_status?, out),
            Field::Protocol => out.push_str(protocol(notes.protocol?)),
            Field::Status => number(facts.status.unwrap_or(0).into(), out),
            Field::Details => out.push_str(facts.details?),
            Field::Termination => out.push_str(notes.termination.as_ref()?.as_str()),
            Field::Flags => display(facts.flags, out),
            Field::BytesReceived => number(facts.bytes_received, out),
            Field::BytesSent => number(facts.bytes_sent, out),
            Field::Duration => number(millis(facts.duration), out),
            Field::RequestDuration => {
                number(millis(facts.request_ended?.saturating_duration_since(facts.began)), out);
            }
            Field::ResponseDuration => {
                number(millis(notes.answered?.saturating_duration_since(facts.began)), out);
            }
            Field::ResponseTxDuration => {
                let before = notes.answered?.saturating_duration_since(facts.began);
                number(millis(facts.duration.saturating_sub(before)), out);
            }
            Field::UpstreamRemote(part) => match facts.target {
                Target::Host(host) => match &host.spec.address {
                    EndpointAddress::Tcp(at) => address(*part, *at, out),
                    other if *part == AddressPart::Whole => display(other, out),
                    _ => return None,
                },
                Target::Cluster(_) | Target::None => return None,
            },
            Field::UpstreamLocal(part) => address(*part, notes.upstream_local?, out),
            Field::UpstreamCluster => match facts.target {
                Target::Host(host) => out.push_str(&host.cluster.name),
                Target::Cluster(cluster) => out.push_str(&cluster.spec.name),
                Target::None => return None,
            },
            Field::Attempts => number(facts.attempts.into(), out),
            Field::DownstreamRemote(part) => address(*part, notes.ends.remote?, out),
            Field::DownstreamLocal(part) => address(*part, notes.ends.local?, out),
            Field::RouteName => {
                out.push_str(notes.route.as_ref().map(|route| &*route.name).filter(|name| !name.is_empty())?);
            }
            Field::Never => return None,
        }
        Some(())
    }

    fn request(&self, field: RequestField, out: &mut String) -> Option<()> {
        let notes = self.notes;
        match field {
            RequestField::Method => out.push_str(notes.method.as_ref()?.as_str()),
            RequestField::Path => out.push_str(notes.path.as_ref()?.as_str()),
            RequestField::OriginalPath => out.push_str(notes.original_path.as_ref()?.as_str()),
            RequestField::Authority => header(notes.authority.as_ref()?, out),
            RequestField::Scheme => out.push_str(notes.scheme.as_ref()?.as_str()),
            RequestField::Header(slot) => header(notes.request.get(slot)?.as_ref()?, out),
        }
        Some(())
    }
}

fn null(omit_empty: bool, out: &mut String) -> bool {
    if !omit_empty {
        out.push_str("null");
    }
    !omit_empty
}

fn either(slots: &[Option<HeaderValue>], first: usize, other: Option<usize>, out: &mut String) -> Option<()> {
    let at = |slot: usize| slots.get(slot)?.as_ref();
    header(at(first).or_else(|| other.and_then(at))?, out);
    Some(())
}

fn header(value: &HeaderValue, out: &mut String) {
    out.push_str(&String::from_utf8_lossy(value.as_bytes()));
}

/// Values that JSON has as numbers.
fn is_number(field: &Field) -> bool {
    match field {
        Field::Status
        | Field::BytesReceived
        | Field::BytesSent
        | Field::Duration
        | Field::RequestDuration
        | Field::ResponseDuration
        | Field::ResponseTxDuration
        | Field::Attempts
        | Field::GrpcStatus(GrpcForm::Number) => true,
        Field::UpstreamRemote(part)
        | Field::UpstreamLocal(part)
        | Field::DownstreamRemote(part)
        | Field::DownstreamLocal(part) => *part == AddressPart::Port,
        Field::StartTime(_)
        | Field::Request(..)
        | Field::Response(..)
        | Field::ServiceTime
        | Field::Trailer(..)
        | Field::GrpcStatus(_)
        | Field::Protocol
        | Field::Details
        | Field::Termination
        | Field::Flags
        | Field::UpstreamCluster
        | Field::RouteName
        | Field::Never => false,
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn grpc(form: GrpcForm, status: u16, out: &mut String) {
    match (form, GRPC.get(usize::from(status))) {
        (GrpcForm::Camel, Some(name)) => out.push_str(name),
        (GrpcForm::Snake, Some(name)) => {
            for (i, c) in name.char_indices() {
                if i > 0 && c.is_ascii_uppercase() && *name != "OK" {
                    out.push('_');
                }
                out.push(c.to_ascii_uppercase());
            }
        }
        (GrpcForm::Number, _) | (_, None) => number(status.into(), out),
    }
}

fn address(part: AddressPart, address: SocketAddr, out: &mut String) {
    match part {
        AddressPart::Whole => display(address, out),
        AddressPart::Ip => display(address.ip(), out),
        AddressPart::Port => number(address.port().into(), out),
    }
}

fn number(number: u64, out: &mut String) {
    display(number, out);
}

fn display(value: impl fmt::Display, out: &mut String) {
    // Writing into a string cannot fail.
    let _ = write!(out, "{value}");
}

/// Escapes what was appended since `from` as in a JSON string. Most values need none.
fn escape(out: &mut String, from: usize) {
    let special = |b: &u8| *b < 0x20 || matches!(b, b'"' | b'\\');
    let Some(first) = out.as_bytes()[from..].iter().position(special) else { return };
    let rest = out.split_off(from + first);
    for c in rest.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => display(format_args!("\\u{:04x}", u32::from(c)), out),
            c => out.push(c),
        }
    }
}
