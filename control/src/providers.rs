//! What the mesh's settings offer to documents by name: Istio's `extensionProviders`. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::access_log::{AccessLog, LogFormat, RawFile};

/// The provider that is always there: standard output in the mesh's format, as in Istio.
pub const PROVIDER_ENVOY: &str = "envoy";

/// How long a collector may take over HTTP, where nobody says.
const HTTP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Where collectors take spans over HTTP (OTLP).
const HTTP_PATH_DEFAULT: &str = "/v1/traces";

/// Providers by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Providers(BTreeMap<Arc<str>, Provider>);

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// A log file.
    Log(AccessLog),
    /// Where spans go.
    Spans(Collector),
}

/// A service of the mesh that takes spans (OTLP).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Collector {
    /// Its host.
    pub host: Arc<str>,
    /// Its namespace, where that is given.
    pub namespace: Option<Arc<str>>,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub transport: Transport,
}

/// How a collector is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http {
        /// Path.
        path: Arc<str>,
        /// Time for one request.
        timeout: Duration,
        /// Headers of each request.
        headers: Vec<(Arc<str>, Arc<str>)>,
    },
}

impl Default for Providers {
    fn default() -> Self {
        Self::with(LogFormat::istio_text())
    }
}

impl Providers {
    /// The one that is always there, whose format is the mesh's.
    fn with(format: LogFormat) -> Self {
        Self(BTreeMap::from([(PROVIDER_ENVOY.into(), Provider::Log(AccessLog::stdout(format)))]))
    }

    /// A provider by its name.
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.0.get(name)
    }

    /// Those that do what is wanted.
    pub fn names(&self, wanted: impl Fn(&Provider) -> bool) -> Vec<&str> {
        self.0.iter().filter(|(_, provider)| wanted(provider)).map(|(name, _)| &**name).collect()
    }

    /// Checks what a human wrote; `format` is the mesh's format of access logs.
    pub fn check(raw: Vec<RawProvider>, format: &LogFormat) -> Result<Self, String> {
        let mut found = Self::with(format.clone());
        let mut named = Vec::new();
        for RawProvider { name, file, spans } in raw {
            let bad = |problem: &str| format!("{name:?}: {problem}");
            if name.is_empty() || named.contains(&name) {
                return Err(bad("every provider needs a name of its own"));
            }
            let provider = match (file, spans) {
                (Some(file), None) => Provider::Log(file.check(format).map_err(|problem| bad(&problem))?),
                (None, Some(spans)) => Provider::Spans(spans.check().map_err(|problem| bad(&problem))?),
                _ => return Err(bad("say one of envoyFileAccessLog, opentelemetry")),
            };
            found.0.insert(name.as_str().into(), provider);
            named.push(name);
        }
        Ok(found)
    }
}

/// A provider, as Istio writes it: a name, and one of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawProvider {
    /// What documents name it.
    pub name: String,
    /// A log file.
    #[serde(rename = "envoyFileAccessLog", default, skip_serializing_if = "Option::is_none")]
    pub file: Option<RawFile>,
    /// A collector of spans.
    #[serde(rename = "opentelemetry", default, skip_serializing_if = "Option::is_none")]
    pub spans: Option<RawCollector>,
}

/// A collector, as Istio writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawCollector {
    /// Host of a service, perhaps with its namespace before it: `observability/otel.example`.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// Over HTTP; gRPC when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<RawHttp>,
}

/// HTTP to a collector, as Istio writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawHttp {
    /// Path; `/v1/traces` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Time for one request; 10 s when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Headers of each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<RawHeader>,
}

/// A header, as Istio writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawHeader {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

impl RawCollector {
    fn check(self) -> Result<Collector, String> {
        let (namespace, host) = match self.service.split_once('/') {
            Some((namespace, host)) => (Some(namespace.into()), host),
            None => (None, &*self.service),
        };
        if host.is_empty() || self.port == 0 {
            return Err("service and port are wanted".to_owned());
        }
        let transport = match self.http {
            None => Transport::Grpc,
            Some(http) => http.check()?,
        };
        Ok(Collector { host: host.to_ascii_lowercase().into(), namespace, port: self.port, transport })
    }
}

impl RawHttp {
    fn check(self) -> Result<Transport, String> {
        let path = self.path.as_deref().unwrap_or(HTTP_PATH_DEFAULT);
        if http::uri::PathAndQuery::try_from(path).is_err() || !path.starts_with('/') {
            return Err(format!("{path:?} is no path; write it like {HTTP_PATH_DEFAULT}"));
        }
        let timeout = match &self.timeout {
            None => HTTP_TIMEOUT_DEFAULT,
            Some(text) => humantime::parse_duration(text)
                .ok()
                .filter(|timeout| !timeout.is_zero())
                .ok_or_else(|| format!("timeout {text:?} is no time; write it like 10s"))?,
        };
        let header = |RawHeader { name, value }: RawHeader| {
            let fits =
                http::HeaderName::try_from(&name).is_ok() && http::HeaderValue::try_from(&value).is_ok();
            if fits {
                Ok((name.as_str().into(), value.as_str().into()))
            } else {
                Err(format!("{name:?} is no header"))
            }
        };
        let headers = self.headers.into_iter().map(header).collect::<Result<_, _>>()?;
        Ok(Transport::Http { path: path.into(), timeout, headers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Providers, String> {
        let raw: Vec<RawProvider> = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        Providers::check(raw, &LogFormat::istio_text())
    }

    #[track_caller]
    fn log(providers: &Providers, name: &str) -> AccessLog {
        match providers.get(name) {
            Some(Provider::Log(log)) => log.clone(),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn files_have_their_own_format_or_the_meshs() {
        let yaml = "
- {name: plain, envoyFileAccessLog: {path: /var/log/plain}}
- {name: short, envoyFileAccessLog: {logFormat: {text: '%RESPONSE_CODE%'}}}
- {name: json, envoyFileAccessLog: {path: /j, logFormat: {labels: {code: '%RESPONSE_CODE%'}}}}
";
        let found = read(yaml).unwrap();
        assert_eq!(found.names(|_| true), ["envoy", "json", "plain", "short"]);
        assert_eq!(&*log(&found, "short").path, "/dev/stdout");
        assert_eq!(log(&found, "plain").format, LogFormat::istio_text());
        assert_eq!(log(&found, "json").format, LogFormat::json([("code", "%RESPONSE_CODE%")]));
    }

    #[test]
    fn collectors_are_services_over_grpc_or_http() {
        let yaml = "
- {name: grpc, opentelemetry: {service: telemetry/Otel.example, port: 4317}}
- {name: http, opentelemetry: {service: otel.example, port: 4318, http: {timeout: 2s, headers: [{name: a, value: b}]}}}
";
        let found = read(yaml).unwrap();
        let collector = |name: &str| match found.get(name) {
            Some(Provider::Spans(collector)) => collector.clone(),
            other => panic!("{name}: {other:?}"),
        };
        let grpc = collector("grpc");
        assert_eq!(
            (&*grpc.host, grpc.namespace.as_deref(), grpc.port),
            ("otel.example", Some("telemetry"), 4317)
        );
        assert_eq!(grpc.transport, Transport::Grpc);
        let headers = vec![("a".into(), "b".into())];
        let expected =
            Transport::Http { path: "/v1/traces".into(), timeout: Duration::from_secs(2), headers };
        assert_eq!(collector("http").transport, expected);
    }

    #[test]
    fn what_is_wrong_names_its_provider() {
        let file = "envoyFileAccessLog: {}";
        for (yaml, expected) in [
            (format!("[{{name: a, {file}}}, {{name: a, {file}}}]"), "\"a\": every provider"),
            ("[{name: a}]".to_owned(), "\"a\": say one of"),
            (format!("[{{name: a, {file}, opentelemetry: {{service: s, port: 1}}}}]"), "\"a\": say one of"),
            ("[{name: a, opentelemetry: {service: s, port: 0}}]".to_owned(), "\"a\": service and port"),
            (
                "[{name: a, opentelemetry: {service: s, port: 1, http: {path: x}}}]".to_owned(),
                "\"a\": \"x\" is no path",
            ),
            (
                "[{name: a, opentelemetry: {service: s, port: 1, http: {timeout: x}}}]".to_owned(),
                "\"a\": timeout",
            ),
        ] {
            let error = read(&yaml).unwrap_err();
            assert!(error.starts_with(expected), "{yaml}: {error}");
        }
    }
}
