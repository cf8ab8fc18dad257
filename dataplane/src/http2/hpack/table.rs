//! Header fields, the table of those that everybody knows (RFC 7541, appendix A) and that of those that came before. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, StatusCode, header,
    uri::{Authority, PathAndQuery, Scheme},
};

/// What a field counts beside its bytes (RFC 7541, 4.1).
pub const FIELD_OVERHEAD_BYTES: usize = 32;
/// Size of the table that a peer may fill, the standard's own.
pub const TABLE_BYTES_MAX: usize = 4096;

/// What a field is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:path`
    Path,
    /// `:status`
    Status,
    /// A field proper.
    Regular(HeaderName),
    /// No name that a field may have.
    Bad,
}

/// A field, its value read once however often it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `:method`
    Method(Method),
    /// `:scheme`
    Scheme(Scheme),
    /// `:authority`
    Authority(Authority),
    /// `:path`
    Path(PathAndQuery),
    /// `:status`
    Status(StatusCode),
    /// A field proper.
    Regular(HeaderName, HeaderValue),
    /// One that makes its message malformed. It has its place in the table all the same.
    Bad(Name),
}

impl Name {
    /// Of the text; upper case is bad (RFC 9113, 8.2.1).
    pub fn read(text: &[u8]) -> Self {
        match text {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":status" => Self::Status,
            text => HeaderName::from_lowercase(text).map_or(Self::Bad, Self::Regular),
        }
    }

    /// Bytes of the text, where it is known.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Method | Self::Scheme | Self::Status => 7,
            Self::Authority => 10,
            Self::Path => 5,
            Self::Regular(name) => name.as_str().len(),
            Self::Bad => 0,
        }
    }

    /// The field of this name with such a value. One that is `sensitive` is in nobody's table (RFC 7541, 6.2.3).
    pub fn with(self, value: &[u8], sensitive: bool) -> Field {
        let field = match self {
            Self::Method => Method::from_bytes(value).ok().map(Field::Method),
            Self::Scheme => Scheme::try_from(value).ok().map(Field::Scheme),
            Self::Authority => Authority::try_from(value).ok().map(Field::Authority),
            Self::Path if value.is_empty() => None,
            Self::Path => {
                PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(value)).ok().map(Field::Path)
            }
            Self::Status => StatusCode::from_bytes(value).ok().map(Field::Status),
            Self::Regular(name) => {
                return match HeaderValue::from_bytes(value) {
                    Ok(mut value) => {
                        value.set_sensitive(sensitive);
                        Field::Regular(name, value)
                    }
                    Err(_) => Field::Bad(Self::Regular(name)),
                };
            }
            Self::Bad => None,
        };
        field.unwrap_or(Field::Bad(self))
    }
}

impl Field {
    /// What it is called.
    pub fn name(&self) -> Name {
        match self {
            Self::Method(_) => Name::Method,
            Self::Scheme(_) => Name::Scheme,
            Self::Authority(_) => Name::Authority,
            Self::Path(_) => Name::Path,
            Self::Status(_) => Name::Status,
            Self::Regular(name, _) => Name::Regular(name.clone()),
            Self::Bad(name) => name.clone(),
        }
    }
}

/// Index of the last field that everybody knows.
pub const STATIC_LAST: usize = 61;

/// The regular fields that everybody knows, from index 15; all have empty values but for 16, `accept-encoding`.
const REGULAR_FIRST: usize = 15;
static REGULAR: [HeaderName; STATIC_LAST - REGULAR_FIRST + 1] = [
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::ACCEPT_RANGES,
    header::ACCEPT,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::AGE,
    header::ALLOW,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::ETAG,
    header::EXPECT,
    header::EXPIRES,
    HeaderName::from_static("from"),
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LAST_MODIFIED,
    header::LINK,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::REFERER,
    header::REFRESH,
    header::RETRY_AFTER,
    header::SERVER,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TRANSFER_ENCODING,
    header::USER_AGENT,
    header::VARY,
    header::VIA,
    header::WWW_AUTHENTICATE,
];

/// The field at an index of the table that everybody knows, and its size.
fn known(index: usize) -> Option<(Field, usize)> {
    let (field, value_bytes) = match index {
        1 => (Field::Bad(Name::Authority), 0), // Empty, which no authority is.
        2 => (Field::Method(Method::GET), 3),
        3 => (Field::Method(Method::POST), 4),
        4 => (Field::Path(PathAndQuery::from_static("/")), 1),
        5 => (Field::Path(PathAndQuery::from_static("/index.html")), 11),
        6 => (Field::Scheme(Scheme::HTTP), 4),
        7 => (Field::Scheme(Scheme::HTTPS), 5),
        8 => (Field::Status(StatusCode::OK), 3),
        9 => (Field::Status(StatusCode::NO_CONTENT), 3),
        10 => (Field::Status(StatusCode::PARTIAL_CONTENT), 3),
        11 => (Field::Status(StatusCode::NOT_MODIFIED), 3),
        12 => (Field::Status(StatusCode::BAD_REQUEST), 3),
        13 => (Field::Status(StatusCode::NOT_FOUND), 3),
        14 => (Field::Status(StatusCode::INTERNAL_SERVER_ERROR), 3),
        16 => (Field::Regular(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate")), 13),
        _ => {
            let name = REGULAR.get(index.checked_sub(REGULAR_FIRST)?)?;
            (Field::Regular(name.clone(), HeaderValue::from_static("")), 0)
        }
    };
    let bytes = field.name().bytes() + value_bytes + FIELD_OVERHEAD_BYTES;
    Some((field, bytes))
}

/// The fields that came before, the newest first.
#[derive(Debug)]
pub struct Table {
    fields: VecDeque<(Field, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { fields: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES_MAX }
    }
}

impl Table {
    /// The size at an index, for a look before the field is taken.
    pub fn size(&self, index: usize) -> Option<usize> {
        match index.checked_sub(STATIC_LAST + 1) {
            Some(index) => self.fields.get(index).map(|(_, bytes)| *bytes),
            None => known(index).map(|(_, bytes)| bytes),
        }
    }

    /// The field at an index, over both tables, and its size.
    pub fn get(&self, index: usize) -> Option<(Field, usize)> {
        match index.checked_sub(STATIC_LAST + 1) {
            Some(index) => self.fields.get(index).cloned(),
            None => known(index),
        }
    }

    /// The name at an index, over both tables.
    pub fn name(&self, index: usize) -> Option<Name> {
        if let Some(name) = index.checked_sub(REGULAR_FIRST).and_then(|index| REGULAR.get(index)) {
            return Some(Name::Regular(name.clone()));
        }
        match index.checked_sub(STATIC_LAST + 1) {
            Some(index) => self.fields.get(index).map(|(field, _)| field.name()),
            None => known(index).map(|(field, _)| field.name()),
        }
    }

    /// Takes in a field; the oldest make room. One that is larger than the table empties it (RFC 7541, 4.4).
    pub fn insert(&mut self, field: Field, bytes: usize) {
        self.shrink(self.bytes_max.saturating_sub(bytes));
        if bytes <= self.bytes_max {
            self.bytes += bytes;
            self.fields.push_front((field, bytes));
        }
    }

    /// Changes the size; false where it is more than was allowed.
    pub fn resize(&mut self, bytes_max: usize) -> bool {
        if bytes_max > TABLE_BYTES_MAX {
            return false;
        }
        self.bytes_max = bytes_max;
        self.shrink(bytes_max);
        true
    }

    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some((_, bytes)) = self.fields.pop_back() else { return };
            self.bytes -= bytes;
        }
    }
}
