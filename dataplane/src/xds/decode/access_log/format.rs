//! Envoy's format strings: `text %OPERATOR(arguments):N% text`. An operator that is not known is refused by its name.

use http::HeaderName;
use weft_proto::xds::google::protobuf::{Struct, Value, value::Kind};

use super::{At, Names, Refusal};
use crate::spec::{
    AddressPart, Field, GrpcForm, JsonValue, LogFormat, Operator, Part, RequestField, TimePart,
};

/// How deep a JSON format may nest.
const DEPTH_MAX: u32 = 8;
/// Envoy's format of `START_TIME`.
const START_TIME: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";
/// Written by Envoy from its own measure of the upstream, which no header carries here.
const SERVICE_TIME: &str = "x-envoy-upstream-service-time";

/// A text format.
pub(super) fn text(text: &str, omit_empty: bool, names: &mut Names) -> Result<LogFormat, Refusal> {
    let absent = if omit_empty { "" } else { "-" };
    Ok(LogFormat::Text { parts: parts(text, names)?, absent })
}

/// A JSON format.
pub(super) fn json(object: Struct, names: &mut Names) -> Result<JsonValue, Refusal> {
    let kind = Kind::StructValue(object);
    value(Value { kind: Some(kind) }, names, 0)
}

fn value(raw: Value, names: &mut Names, depth: u32) -> Result<JsonValue, Refusal> {
    if depth > DEPTH_MAX {
        return Err(Refusal::new("", format!("nests deeper than {DEPTH_MAX}")));
    }
    let fixed = |text: String| Ok(JsonValue::Fixed(text.into()));
    match raw.kind {
        None | Some(Kind::NullValue(_)) => fixed("null".to_owned()),
        Some(Kind::BoolValue(yes)) => fixed(yes.to_string()),
        Some(Kind::NumberValue(number)) => fixed(number.to_string()),
        Some(Kind::StringValue(text)) => {
            let mut parts = parts(&text, names)?;
            Ok(match (parts.len(), parts.pop()) {
                (1, Some(Part::Value(operator))) => JsonValue::Value(operator),
                (0, _) => JsonValue::Fixed("\"\"".into()),
                (1, Some(Part::Text(text))) => JsonValue::Fixed(quoted(&text).into()),
                (_, last) => {
                    parts.extend(last);
                    JsonValue::Text(parts)
                }
            })
        }
        Some(Kind::ListValue(list)) => {
            let items = list.values.into_iter().enumerate();
            let items = items.map(|(i, item)| value(item, names, depth + 1).at_index("", i));
            items.collect::<Result<_, _>>().map(JsonValue::List)
        }
        Some(Kind::StructValue(object)) => {
            let mut entries: Vec<(String, Value)> = object.fields.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            let entry = |(key, inner): (String, Value)| {
                let inner = value(inner, names, depth + 1).at(&key)?;
                Ok((format!("{}:", quoted(&key)).into(), inner))
            };
            entries.into_iter().map(entry).collect::<Result<_, _>>().map(JsonValue::Object)
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn parts(text: &str, names: &mut Names) -> Result<Vec<Part>, Refusal> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            plain.push('%');
            rest = after;
            continue;
        }
        let (operator, after) = operator(after, names)?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain).into()));
        }
        match operator {
            Read::Value(operator) => parts.push(Part::Value(operator)),
            Read::Fixed(text) => plain = text,
        }
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(parts)
}

enum Read {
    Value(Operator),
    /// Known now and for ever.
    Fixed(String),
}

/// An operator after its first `%`, and what comes after its last.
fn operator<'a>(text: &'a str, names: &mut Names) -> Result<(Read, &'a str), Refusal> {
    let unclosed = || Refusal::new("", format!("%{} has no closing %", text.escape_debug()));
    let end = text.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
    let (name, rest) = text.split_at(end.ok_or_else(unclosed)?);
    let (arguments, rest) = match rest.strip_prefix('(') {
        None => (None, rest),
        Some(inner) => {
            let (arguments, rest) = inner.split_once(')').ok_or_else(unclosed)?;
            (Some(arguments), rest)
        }
    };
    let (tail, rest) = rest.split_once('%').ok_or_else(unclosed)?;
    let bytes_max = match tail.strip_prefix(':') {
        None if tail.is_empty() => None,
        None => return Err(Refusal::new("", format!("%{name}% is followed by {tail:?}"))),
        Some(number) => {
            let bad = |_| Refusal::new("", format!("%{name}%: {number:?} is no length"));
            Some(number.parse().map_err(bad)?)
        }
    };
    if name == "HOSTNAME" && arguments.is_none() {
        let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        return Ok((Read::Fixed(name.trim().to_owned()), rest));
    }
    if let ("ENVIRONMENT", Some(variable)) = (name, arguments) {
        return Ok((Read::Fixed(std::env::var(variable).unwrap_or_else(|_| "-".to_owned())), rest));
    }
    let field = match arguments {
        None => plain_field(name),
        Some(arguments) => field_of(name, arguments, names)?,
    };
    let unknown = || Refusal::new("", format!("operator %{name}% is not supported by this proxy"));
    let field = field.ok_or_else(unknown)?;
    Ok((Read::Value(Operator { field, bytes_max }), rest))
}

/// Operators without arguments.
fn plain_field(name: &str) -> Option<Field> {
    use AddressPart::{Ip, Port, Whole};
    Some(match name {
        "START_TIME" => return time(START_TIME).ok().map(Field::StartTime),
        "PROTOCOL" => Field::Protocol,
        "RESPONSE_CODE" => Field::Status,
        "RESPONSE_CODE_DETAILS" => Field::Details,
        "RESPONSE_FLAGS" => Field::Flags,
        "GRPC_STATUS" => Field::GrpcStatus(GrpcForm::Camel),
        "GRPC_STATUS_NUMBER" => Field::GrpcStatus(GrpcForm::Number),
        "BYTES_RECEIVED" => Field::BytesReceived,
        "BYTES_SENT" => Field::BytesSent,
        "DURATION" => Field::Duration,
        "REQUEST_DURATION" | "REQUEST_TX_DURATION" => Field::RequestDuration,
        "RESPONSE_DURATION" => Field::ResponseDuration,
        "RESPONSE_TX_DURATION" => Field::ResponseTxDuration,
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Field::UpstreamRemote(Whole),
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Field::UpstreamRemote(Ip),
        "UPSTREAM_REMOTE_PORT" => Field::UpstreamRemote(Port),
        "UPSTREAM_LOCAL_ADDRESS" => Field::UpstreamLocal(Whole),
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Field::UpstreamLocal(Ip),
        "UPSTREAM_LOCAL_PORT" => Field::UpstreamLocal(Port),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Field::UpstreamCluster,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Field::Attempts,
        "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Field::DownstreamRemote(Whole),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
            Field::DownstreamRemote(Ip)
        }
        "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT" => Field::DownstreamRemote(Port),
        "DOWNSTREAM_LOCAL_ADDRESS" => Field::DownstreamLocal(Whole),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Field::DownstreamLocal(Ip),
        "DOWNSTREAM_LOCAL_PORT" => Field::DownstreamLocal(Port),
        "ROUTE_NAME" => Field::RouteName,
        "REQUESTED_SERVER_NAME" | "UPSTREAM_TRANSPORT_FAILURE_REASON" => Field::Never,
        "CONNECTION_TERMINATION_DETAILS" => Field::Termination,
        "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => Field::Never,
        "DOWNSTREAM_TLS_VERSION" | "DOWNSTREAM_TLS_CIPHER" | "DOWNSTREAM_TLS_SESSION_ID" => Field::Never,
        "DOWNSTREAM_PEER_URI_SAN" | "DOWNSTREAM_LOCAL_URI_SAN" | "DOWNSTREAM_PEER_SUBJECT" => Field::Never,
        _ => return None,
    })
}

/// Operators with arguments.
fn field_of(name: &str, arguments: &str, names: &mut Names) -> Result<Option<Field>, Refusal> {
    let at = |refusal: Refusal| Refusal::new("", format!("%{name}({arguments})%: {}", refusal.problem));
    let either = arguments.split_once('?');
    let (first, other) = either.map_or((arguments, None), |(first, other)| (first, Some(other)));
    Ok(Some(match name {
        "START_TIME" => {
            Field::StartTime(time(if arguments.is_empty() { START_TIME } else { arguments }).map_err(at)?)
        }
        "REQ" => {
            let mut field = |text: &str| request_field(text, names).map_err(at);
            Field::Request(field(first)?, other.map(&mut field).transpose()?)
        }
        "RESP" if first.eq_ignore_ascii_case(SERVICE_TIME) && other.is_none() => Field::ServiceTime,
        "RESP" if first == ":STATUS" && other.is_none() => Field::Status,
        "RESP" => {
            let mut slot = |text: &str| slot(&mut names.response, text).map_err(at);
            Field::Response(slot(first)?, other.map(&mut slot).transpose()?)
        }
        "TRAILER" => {
            let mut slot = |text: &str| slot(&mut names.trailers, text).map_err(at);
            Field::Trailer(slot(first)?, other.map(&mut slot).transpose()?)
        }
        "GRPC_STATUS" => Field::GrpcStatus(match arguments {
            "" | "CAMEL_STRING" => GrpcForm::Camel,
            "SNAKE_STRING" => GrpcForm::Snake,
            "NUMBER" => GrpcForm::Number,
            _ => return Ok(None),
        }),
        _ => return Ok(None),
    }))
}

fn request_field(text: &str, names: &mut Names) -> Result<RequestField, Refusal> {
    Ok(match text.to_ascii_lowercase().as_str() {
        ":method" => RequestField::Method,
        ":path" => RequestField::Path,
        ":authority" | "host" => RequestField::Authority,
        ":scheme" => RequestField::Scheme,
        "x-envoy-original-path" => RequestField::OriginalPath,
        _ => RequestField::Header(slot(&mut names.request, text)?),
    })
}

/// The number of a header among those that are noted.
fn slot(names: &mut Vec<HeaderName>, text: &str) -> Result<usize, Refusal> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Refusal::new("", format!("{text:?} is no header name")))?;
    Ok(names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    }))
}

/// A format of times: `strftime`'s letters that are numbers, and `%f`, `%3f` and the like for fractions of a second.
fn time(format: &str) -> Result<Vec<TimePart>, Refusal> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            plain.push(letter);
            continue;
        }
        let found = match letters.next() {
            Some('%') => {
                plain.push('%');
                continue;
            }
            Some('Y') => vec![TimePart::Year],
            Some('m') => vec![TimePart::Month],
            Some('b' | 'h') => vec![TimePart::MonthName],
            Some('d') => vec![TimePart::Day],
            Some('H') => vec![TimePart::Hour],
            Some('M') => vec![TimePart::Minute],
            Some('S') => vec![TimePart::Second],
            Some('s') => vec![TimePart::Epoch],
            Some('f') => vec![TimePart::Fraction(9)],
            Some('E') => match (letters.next(), letters.next()) {
                (Some(digit @ '1'..='9'), Some('S')) => {
                    let digits = digit as u8 - b'0';
                    vec![TimePart::Second, TimePart::Text(".".into()), TimePart::Fraction(digits)]
                }
                _ => return Err(Refusal::new("", "%E in a time is supported as %E3S and the like")),
            },
            Some(digit @ '1'..='9') if letters.next() == Some('f') => {
                vec![TimePart::Fraction(digit as u8 - b'0')]
            }
            Some('F') => time("%Y-%m-%d")?,
            Some('T') => time("%H:%M:%S")?,
            Some('z') => {
                plain.push_str("+0000");
                continue;
            }
            Some('Z') => {
                plain.push_str("UTC");
                continue;
            }
            other => {
                let letter = other.map(String::from).unwrap_or_default();
                return Err(Refusal::new("", format!("%{letter} in a time is not supported by this proxy")));
            }
        };
        parts.extend(flush(&mut plain));
        parts.extend(found);
    }
    parts.extend(flush(&mut plain));
    Ok(parts)
}

fn flush(plain: &mut String) -> Option<TimePart> {
    (!plain.is_empty()).then(|| TimePart::Text(std::mem::take(plain).into()))
}
