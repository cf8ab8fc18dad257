//! What the mesh's settings say of access logs: where proxies write them when no document says so, and in which format.
//! Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

const STDOUT: &str = "/dev/stdout";

/// Istio's text format.
const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
     %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
     \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
     %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
     \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
     %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Istio's JSON format, sorted by key.
const JSON: [(&str, &str); 24] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// An access log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessLog {
    /// A file, `/dev/stdout` or `/dev/stderr`, as each proxy sees it.
    pub path: Arc<str>,
    /// How lines look.
    pub format: LogFormat,
}

/// How lines look, in Envoy's format strings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// A line of text, its end included.
    Text(Arc<str>),
    /// A JSON object: values by key, sorted.
    Json(Arc<[(Arc<str>, Arc<str>)]>),
}

/// What a human wrote: Istio's `accessLogFile`, `accessLogEncoding` and `accessLogFormat`.
#[derive(Clone, Debug, Default)]
pub struct RawMeshLogs {
    /// Where every proxy writes; empty or none is nowhere.
    pub file: Option<String>,
    /// `text` or `json`, in any case.
    pub encoding: Option<String>,
    /// Instead of Istio's format: a format string or, with `json`, an object of them as text.
    pub format: Option<String>,
}

/// A log file, as Istio writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawFile {
    /// Where; `/dev/stdout` when left out.
    pub path: Option<String>,
    /// How lines look; the mesh's format when left out.
    #[serde(rename = "logFormat")]
    pub format: Option<RawFormat>,
}

/// A format, as Istio writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawFormat {
    /// A line of text.
    pub text: Option<String>,
    /// A JSON object.
    pub labels: Option<BTreeMap<String, String>>,
}

impl RawMeshLogs {
    /// Checks it; the option that is wrong, and what is wrong with it. What every proxy writes where no document says
    /// otherwise, and the mesh's format.
    pub fn check(self) -> Result<(Option<AccessLog>, LogFormat), (&'static str, String)> {
        let format = self.format()?;
        let path = self.file.filter(|path| !path.is_empty());
        Ok((path.map(|path| AccessLog { path: path.into(), format: format.clone() }), format))
    }

    fn format(&self) -> Result<LogFormat, (&'static str, String)> {
        let json = match self.encoding.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => {
                return Err(("access_log_encoding", format!("{other:?} is neither text nor json")));
            }
        };
        match (&self.format, json) {
            (None, false) => Ok(LogFormat::istio_text()),
            (None, true) => Ok(LogFormat::json(JSON)),
            (Some(text), false) => Ok(LogFormat::text(text)),
            (Some(text), true) => match serde_json::from_str::<BTreeMap<String, String>>(text) {
                Ok(labels) => Ok(LogFormat::json(labels)),
                Err(error) => Err(("access_log_format", format!("it is no JSON object of strings: {error}"))),
            },
        }
    }
}

impl RawFile {
    /// Checks it; `format` is the mesh's.
    pub(crate) fn check(self, format: &LogFormat) -> Result<AccessLog, String> {
        let format = match self.format {
            None => format.clone(),
            Some(RawFormat { text: Some(text), labels: None }) => LogFormat::text(&text),
            Some(RawFormat { text: None, labels: Some(labels) }) => LogFormat::json(labels),
            Some(_) => return Err("logFormat wants either text or labels".to_owned()),
        };
        Ok(AccessLog { path: self.path.as_deref().unwrap_or(STDOUT).into(), format })
    }
}

impl AccessLog {
    pub(crate) fn stdout(format: LogFormat) -> Self {
        Self { path: STDOUT.into(), format }
    }
}

impl LogFormat {
    pub(crate) fn istio_text() -> Self {
        Self::Text(TEXT.into())
    }

    /// Text ends its line whether the human wrote that or not.
    fn text(text: &str) -> Self {
        Self::Text(if text.ends_with('\n') { text.into() } else { format!("{text}\n").into() })
    }

    pub(crate) fn json<K: AsRef<str>, V: AsRef<str>>(labels: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Json(
            labels.into_iter().map(|(key, value)| (key.as_ref().into(), value.as_ref().into())).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(file: &str, encoding: Option<&str>, format: Option<&str>) -> RawMeshLogs {
        RawMeshLogs {
            file: Some(file.to_owned()),
            encoding: encoding.map(str::to_owned),
            format: format.map(str::to_owned),
        }
    }

    #[test]
    fn nothing_is_logged_by_default() {
        assert_eq!(RawMeshLogs::default().check().unwrap(), (None, LogFormat::istio_text()));
        assert_eq!(raw("", None, None).check().unwrap().0, None);
    }

    #[test]
    fn formats_are_istios_or_the_humans() {
        let format = |raw: RawMeshLogs| raw.check().unwrap().0.unwrap().format;
        assert_eq!(format(raw("/f", None, None)), LogFormat::istio_text());
        assert_eq!(format(raw("/f", Some("JSON"), None)), LogFormat::json(JSON));
        assert_eq!(format(raw("/f", None, Some("%PROTOCOL%"))), LogFormat::Text("%PROTOCOL%\n".into()));
        let object = r#"{"b": "%PROTOCOL%", "a": "x"}"#;
        let expected = LogFormat::json([("a", "x"), ("b", "%PROTOCOL%")]);
        assert_eq!(format(raw("/f", Some("json"), Some(object))), expected);
    }

    #[test]
    fn what_is_wrong_names_its_option() {
        let option = |raw: RawMeshLogs| raw.check().unwrap_err().0;
        assert_eq!(option(raw("/f", Some("xml"), None)), "access_log_encoding");
        assert_eq!(option(raw("/f", Some("json"), Some("[]"))), "access_log_format");
    }
}
