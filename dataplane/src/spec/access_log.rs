//! What is written of each request or connection when it ends, where, and of which ones.

use std::{path::PathBuf, sync::Arc};

use http::HeaderName;

/// The access logs of one listener.
#[derive(Clone, Debug, Default)]
pub struct AccessLogs {
    /// Each with its own place, filter and format.
    pub logs: Vec<AccessLog>,
    /// Request headers that the logs name; [`RequestField::Header`] counts into them.
    pub request_headers: Vec<HeaderName>,
    /// Response headers that the logs name.
    pub response_headers: Vec<HeaderName>,
    /// Response trailers that the logs name.
    pub trailers: Vec<HeaderName>,
}

/// One access log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where lines go.
    pub target: LogTarget,
    /// Which requests are written.
    pub filter: LogFilter,
    /// How a line looks.
    pub format: LogFormat,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// A file, which is made if it is missing.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which requests are written (`AccessLogFilter`).
#[derive(Clone, Debug)]
pub enum LogFilter {
    /// All.
    All,
    /// By response status.
    Status(Comparison),
    /// By duration in milliseconds.
    Duration(Comparison),
    /// Those with any of these flags; with none named, those with any flag.
    Flags(Option<Vec<&'static str>>),
    /// By gRPC status: those that are in the list, or those that are not.
    Grpc {
        /// gRPC status codes.
        statuses: Vec<u16>,
        /// Those that are not in the list.
        exclude: bool,
    },
    /// A share of them, in millionths.
    Fraction(u32),
    /// Those that pass all.
    And(Vec<LogFilter>),
    /// Those that pass any.
    Or(Vec<LogFilter>),
}

/// A number compared with a fixed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Equal(u32),
    /// Greater or equal.
    AtLeast(u32),
    /// Less or equal.
    AtMost(u32),
    /// Not equal.
    Not(u32),
}

/// How a line looks.
#[derive(Clone, Debug)]
pub enum LogFormat {
    /// Text with operators. A value that there is not is `-`, or nothing where empty values are left out.
    Text {
        /// In order.
        parts: Vec<Part>,
        /// What stands for a value that there is not.
        absent: &'static str,
    },
    /// A JSON object and a line feed. A value that there is not is null, or its key is left out.
    Json {
        /// The object.
        value: JsonValue,
        /// Leaves out keys without a value.
        omit_empty: bool,
    },
}

/// A piece of text.
#[derive(Clone, Debug)]
pub enum Part {
    /// As it stands.
    Text(Box<str>),
    /// A value.
    Value(Operator),
}

/// A JSON value.
#[derive(Clone, Debug)]
pub enum JsonValue {
    /// As it stands, encoded.
    Fixed(Box<str>),
    /// A value, as a number where it is one.
    Value(Operator),
    /// A string of several parts.
    Text(Vec<Part>),
    /// Keys, encoded with quotes and colon, sorted.
    Object(Vec<(Box<str>, JsonValue)>),
    /// A list.
    List(Vec<JsonValue>),
}

/// A value of the request or connection: Envoy's command operators.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Which.
    pub field: Field,
    /// Longest text, bytes (`%..%:N`).
    pub bytes_max: Option<usize>,
}

/// What an operator names.
#[derive(Clone, Debug)]
pub enum Field {
    /// `START_TIME`.
    StartTime(Vec<TimePart>),
    /// `REQ`, with the alternative where the first is absent.
    Request(RequestField, Option<RequestField>),
    /// `RESP`: numbers of headers in [`AccessLogs::response_headers`].
    Response(usize, Option<usize>),
    /// `RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)`: milliseconds from the end of the request to the head of the response.
    ServiceTime,
    /// `TRAILER`: numbers of trailers.
    Trailer(usize, Option<usize>),
    /// `GRPC_STATUS`.
    GrpcStatus(GrpcForm),
    /// `PROTOCOL`.
    Protocol,
    /// `RESPONSE_CODE`.
    Status,
    /// `RESPONSE_CODE_DETAILS`.
    Details,
    /// `CONNECTION_TERMINATION_DETAILS`.
    Termination,
    /// `RESPONSE_FLAGS`.
    Flags,
    /// `BYTES_RECEIVED`.
    BytesReceived,
    /// `BYTES_SENT`.
    BytesSent,
    /// `DURATION`, ms.
    Duration,
    /// `REQUEST_DURATION`, ms until the last byte of the request had come.
    RequestDuration,
    /// `RESPONSE_DURATION`, ms until the upstream's response head had come.
    ResponseDuration,
    /// `RESPONSE_TX_DURATION`, ms from there to the end.
    ResponseTxDuration,
    /// `UPSTREAM_HOST`, `UPSTREAM_REMOTE_ADDRESS`.
    UpstreamRemote(AddressPart),
    /// `UPSTREAM_LOCAL_ADDRESS`.
    UpstreamLocal(AddressPart),
    /// `UPSTREAM_CLUSTER`.
    UpstreamCluster,
    /// `UPSTREAM_REQUEST_ATTEMPT_COUNT`.
    Attempts,
    /// `DOWNSTREAM_REMOTE_ADDRESS`, `DOWNSTREAM_DIRECT_REMOTE_ADDRESS`.
    DownstreamRemote(AddressPart),
    /// `DOWNSTREAM_LOCAL_ADDRESS`.
    DownstreamLocal(AddressPart),
    /// `ROUTE_NAME`.
    RouteName,
    /// What is never known here, such as `REQUESTED_SERVER_NAME` on a plain connection.
    Never,
}

/// A part of the request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestField {
    /// `:method`.
    Method,
    /// `:path`, as it went upstream.
    Path,
    /// `x-envoy-original-path`: the path as it came, where it was rewritten.
    OriginalPath,
    /// `:authority` and `host`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// A header, by its number in [`AccessLogs::request_headers`].
    Header(usize),
}

/// How a gRPC status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcForm {
    /// `DeadlineExceeded`.
    Camel,
    /// `DEADLINE_EXCEEDED`.
    Snake,
    /// `4`.
    Number,
}

/// What of an address is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPart {
    /// All.
    Whole,
    /// Without the port.
    Ip,
    /// The port alone.
    Port,
}

/// A piece of a time, in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimePart {
    /// As it stands.
    Text(Box<str>),
    /// `%Y`.
    Year,
    /// `%m`.
    Month,
    /// `%b`, `%h`: `Jan`.
    MonthName,
    /// `%d`.
    Day,
    /// `%H`.
    Hour,
    /// `%M`.
    Minute,
    /// `%S`.
    Second,
    /// `%s`: seconds since 1970.
    Epoch,
    /// Digits of the fraction of a second: `%3f`; 9 for `%f`.
    Fraction(u8),
}

impl AccessLogs {
    /// Shared, unless there is no log at all.
    pub fn shared(self) -> Option<Arc<Self>> {
        (!self.logs.is_empty()).then(|| Arc::new(self))
    }
}
