//! Spans in the words of OTLP (`opentelemetry.proto.trace.v1`), field by field into a buffer. Pure.
//!
//! A batch is what was said before it and the encoded spans after one another, since repeated fields of protobuf are: a
//! request's end costs one encoding, and no span is built first.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// Most bytes of a text in a span.
const TEXT_BYTES_MAX: usize = 1024;

/// `ScopeSpans.spans`, `ScopeSpans.scope`, `ResourceSpans.scope_spans` and so on.
mod field {
    pub(super) const RESOURCE_SPANS: u32 = 1;
    pub(super) const RESOURCE: u32 = 1;
    pub(super) const SCOPE_SPANS: u32 = 2;
    pub(super) const SCOPE: u32 = 1;
    pub(super) const SPANS: u32 = 2;
    pub(super) const RESOURCE_ATTRIBUTES: u32 = 1;
    pub(super) const NAME: u32 = 1;
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const STRING: u32 = 1;
    pub(super) const BOOL: u32 = 2;
    pub(super) const INT: u32 = 3;
    pub(super) const SPAN_ATTRIBUTES: u32 = 9;
    pub(super) const STATUS: u32 = 15;
    pub(super) const STATUS_CODE: u32 = 3;
}

/// `SpanFlags`: the sampled bit, and that we know whether the parent is remote, and that it is.
const FLAGS_SAMPLED_REMOTE: u32 = 0x301;
/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// `SpanKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The workload is called.
    Server = 2,
    /// The workload calls.
    Client = 3,
}

/// What a span says beside its attributes.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// The trace.
    pub trace: u128,
    /// The span.
    pub span: u64,
    /// Its parent; zero is none.
    pub parent: u64,
    /// W3C's `tracestate`.
    pub state: &'a str,
    /// The parts of its name, which a space stands between.
    pub name: [&'a str; 2],
    /// Who calls.
    pub kind: Kind,
    /// When it began, ns since 1970.
    pub began: u64,
    /// When it ended, ns since 1970.
    pub ended: u64,
    /// Whether it failed.
    pub failed: bool,
}

/// Appends a span with its attributes, as a batch has it; `scratch` is for encoding and left empty.
pub fn span(
    span: &Span<'_>,
    attributes: impl FnOnce(&mut BytesMut),
    scratch: &mut BytesMut,
    out: &mut BytesMut,
) {
    let buf = &mut *scratch;
    bytes(1, &span.trace.to_be_bytes(), buf);
    bytes(2, &span.span.to_be_bytes(), buf);
    if !span.state.is_empty() {
        bytes(3, span.state.as_bytes(), buf);
    }
    if span.parent != 0 {
        bytes(4, &span.parent.to_be_bytes(), buf);
    }
    let [first, second] = span.name.map(cut);
    encode_key(5, WireType::LengthDelimited, buf);
    encode_varint((first.len() + 1 + second.len()) as u64, buf);
    buf.put_slice(first.as_bytes());
    buf.put_u8(b' ');
    buf.put_slice(second.as_bytes());
    varint(6, span.kind as u64, buf);
    fixed64(7, span.began, buf);
    fixed64(8, span.ended, buf);
    attributes(buf);
    if span.failed {
        encode_key(field::STATUS, WireType::LengthDelimited, buf);
        encode_varint(2, buf);
        varint(field::STATUS_CODE, ERROR, buf);
    }
    encode_key(16, WireType::ThirtyTwoBit, buf);
    buf.put_u32_le(FLAGS_SAMPLED_REMOTE);
    bytes(field::SPANS, buf, out);
    scratch.clear();
}

/// Appends an attribute of a span with a text, cut where it is too long.
pub fn text(key: &str, value: &str, out: &mut BytesMut) {
    let value = cut(value);
    attribute(field::SPAN_ATTRIBUTES, key, message_len(value.len()), out);
    bytes(field::STRING, value.as_bytes(), out);
}

/// Appends an attribute of a span with a number.
pub fn number(key: &str, value: u64, out: &mut BytesMut) {
    attribute(field::SPAN_ATTRIBUTES, key, 1 + encoded_len_varint(value), out);
    varint(field::INT, value, out);
}

/// Appends an attribute of a span that is true.
pub fn truth(key: &str, out: &mut BytesMut) {
    attribute(field::SPAN_ATTRIBUTES, key, 2, out);
    varint(field::BOOL, 1, out);
}

/// `ExportTraceServiceRequest` of some encoded spans.
pub fn request(resource: &[u8], spans: &[u8]) -> Bytes {
    let mut scope = BytesMut::new();
    let mut name = BytesMut::new();
    bytes(field::NAME, b"weft", &mut name);
    bytes(field::SCOPE, &name, &mut scope);
    let mut out = BytesMut::with_capacity(spans.len() + resource.len() + 64);
    let scope_spans = scope.len() + spans.len();
    let resource_spans = message_len(resource.len()) + message_len(scope_spans);
    encode_key(field::RESOURCE_SPANS, WireType::LengthDelimited, &mut out);
    encode_varint(resource_spans as u64, &mut out);
    bytes(field::RESOURCE, resource, &mut out);
    encode_key(field::SCOPE_SPANS, WireType::LengthDelimited, &mut out);
    encode_varint(scope_spans as u64, &mut out);
    out.put_slice(&scope);
    out.put_slice(spans);
    out.freeze()
}

/// `Resource` with texts as attributes.
pub fn resource(attributes: &[(&str, &str)]) -> Bytes {
    let mut out = BytesMut::new();
    for (key, value) in attributes {
        let value = cut(value);
        attribute(field::RESOURCE_ATTRIBUTES, key, message_len(value.len()), &mut out);
        bytes(field::STRING, value.as_bytes(), &mut out);
    }
    out.freeze()
}

/// The head of a `KeyValue` as a repeated field, with its key; its `AnyValue` of so many bytes follows.
fn attribute(tag: u32, key: &str, value: usize, out: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint((message_len(key.len()) + message_len(value)) as u64, out);
    bytes(field::KEY, key.as_bytes(), out);
    encode_key(field::VALUE, WireType::LengthDelimited, out);
    encode_varint(value as u64, out);
}

/// Bytes of a field with so many bytes in it, whose number is below 16.
fn message_len(bytes: usize) -> usize {
    1 + encoded_len_varint(bytes as u64) + bytes
}

fn bytes(tag: u32, value: &[u8], out: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.put_slice(value);
}

fn varint(tag: u32, value: u64, out: &mut BytesMut) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

fn fixed64(tag: u32, value: u64, out: &mut BytesMut) {
    encode_key(tag, WireType::SixtyFourBit, out);
    out.put_u64_le(value);
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
