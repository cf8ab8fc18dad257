//! `AccessLog`: where, which and how; the formats are read here once.

mod format;
#[cfg(test)]
mod tests;

use std::{mem::take, path::PathBuf};

use http::HeaderName;
use weft_proto::xds::{
    envoy::{
        config::{
            accesslog::v3::{
                AccessLog as RawLog, AccessLogFilter, ComparisonFilter, RuntimeFilter,
                access_log::ConfigType, access_log_filter::FilterSpecifier, comparison_filter::Op,
            },
            core::v3::{
                SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format,
            },
        },
        extensions::access_loggers::{
            file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
            stream::v3::{StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log},
        },
        r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
    google::protobuf::Any,
};

use super::{At, Refusal, is, nothing_left, required, unknown_type, unpack};
use crate::{
    fault::flags,
    spec::{AccessLog, AccessLogs, Comparison, LogFilter, LogFormat, LogTarget},
};

/// Most logs of one listener.
const LOGS_MAX: usize = 16;
/// How deep `and_filter` and `or_filter` may nest.
const FILTER_DEPTH_MAX: u32 = 8;

/// Envoy's format where a log names none.
const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
     %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
     \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// The headers that the formats of a listener name, each once.
#[derive(Default)]
struct Names {
    request: Vec<HeaderName>,
    response: Vec<HeaderName>,
    trailers: Vec<HeaderName>,
}

pub(super) fn logs(raw: Vec<RawLog>) -> Result<AccessLogs, Refusal> {
    if raw.len() > LOGS_MAX {
        return Err(Refusal::new("access_log", format!("more than {LOGS_MAX} logs")));
    }
    let mut names = Names::default();
    let mut logs = Vec::with_capacity(raw.len());
    for (i, log) in raw.into_iter().enumerate() {
        logs.push(one(log, &mut names).at_index("access_log", i)?);
    }
    let Names { request: request_headers, response: response_headers, trailers } = names;
    Ok(AccessLogs { logs, request_headers, response_headers, trailers })
}

fn one(mut raw: RawLog, names: &mut Names) -> Result<AccessLog, Refusal> {
    let filter = raw.filter.take().map_or(Ok(LogFilter::All), |raw| filter(raw, 0)).at("filter")?;
    let Some(ConfigType::TypedConfig(any)) = raw.config_type else {
        return Err(Refusal::new("typed_config", "missing"));
    };
    let (target, format) = logger(&any, names).at("typed_config")?;
    Ok(AccessLog { target, filter, format })
}

fn logger(any: &Any, names: &mut Names) -> Result<(LogTarget, LogFormat), Refusal> {
    if is::<FileAccessLog>(any) {
        let raw: FileAccessLog = unpack(any)?;
        let path = PathBuf::from(required(raw.path, "path")?);
        let target = match path.to_str() {
            Some("/dev/stdout") => LogTarget::Stdout,
            Some("/dev/stderr") => LogTarget::Stderr,
            _ => LogTarget::File(path),
        };
        let format = match raw.access_log_format {
            None => default_format(names),
            Some(AccessLogFormat::LogFormat(format)) => substitution(format, names).at("log_format"),
            #[expect(deprecated, reason = "control planes still write it")]
            Some(AccessLogFormat::Format(text)) => format::text(&text, false, names).at("format"),
            #[expect(deprecated, reason = "control planes still write it")]
            Some(AccessLogFormat::JsonFormat(_) | AccessLogFormat::TypedJsonFormat(_)) => {
                Err(Refusal::new("", "not supported by this proxy; use log_format"))
            }
        }?;
        Ok((target, format))
    } else if is::<StdoutAccessLog>(any) {
        let raw: StdoutAccessLog = unpack(any)?;
        let format = match raw.access_log_format {
            None => default_format(names)?,
            Some(stdout_access_log::AccessLogFormat::LogFormat(format)) => {
                substitution(format, names).at("log_format")?
            }
        };
        Ok((LogTarget::Stdout, format))
    } else if is::<StderrAccessLog>(any) {
        let raw: StderrAccessLog = unpack(any)?;
        let format = match raw.access_log_format {
            None => default_format(names)?,
            Some(stderr_access_log::AccessLogFormat::LogFormat(format)) => {
                substitution(format, names).at("log_format")?
            }
        };
        Ok((LogTarget::Stderr, format))
    } else {
        Err(unknown_type(any))
    }
}

fn default_format(names: &mut Names) -> Result<LogFormat, Refusal> {
    format::text(DEFAULT_FORMAT, false, names)
}

fn substitution(mut raw: SubstitutionFormatString, names: &mut Names) -> Result<LogFormat, Refusal> {
    let omit_empty = take(&mut raw.omit_empty_values);
    let format = raw.format.take();
    // Keys are always sorted; the type of a log's content is nobody's concern.
    super::pass_over!(raw: json_format_options, content_type);
    nothing_left(&raw)?;
    match format {
        #[expect(deprecated, reason = "control planes still write it")]
        Some(Format::TextFormat(text)) => format::text(&text, omit_empty, names).at("text_format"),
        Some(Format::TextFormatSource(source)) => match source.specifier {
            Some(Specifier::InlineString(text)) => {
                format::text(&text, omit_empty, names).at("text_format_source.inline_string")
            }
            _ => Err(Refusal::new("text_format_source", "only inline_string is supported by this proxy")),
        },
        Some(Format::JsonFormat(object)) => {
            let value = format::json(object, names).at("json_format")?;
            Ok(LogFormat::Json { value, omit_empty })
        }
        None => Err(Refusal::new("format", "missing")),
    }
}

fn filter(raw: AccessLogFilter, depth: u32) -> Result<LogFilter, Refusal> {
    let unsupported = |field| Err(Refusal::new(field, "not supported by this proxy"));
    if depth > FILTER_DEPTH_MAX {
        return Err(Refusal::new("", format!("filters nest deeper than {FILTER_DEPTH_MAX}")));
    }
    let all = |raw: Vec<AccessLogFilter>, field| {
        let filters = raw.into_iter().enumerate();
        filters
            .map(|(i, raw)| filter(raw, depth + 1).at_index("filters", i))
            .collect::<Result<_, _>>()
            .at(field)
    };
    match raw.filter_specifier {
        Some(FilterSpecifier::StatusCodeFilter(raw)) => {
            comparison(raw.comparison).map(LogFilter::Status).at("status_code_filter.comparison")
        }
        Some(FilterSpecifier::DurationFilter(raw)) => {
            comparison(raw.comparison).map(LogFilter::Duration).at("duration_filter.comparison")
        }
        // Health checks of others are requests like any other here.
        Some(FilterSpecifier::NotHealthCheckFilter(_)) => Ok(LogFilter::All),
        Some(FilterSpecifier::RuntimeFilter(raw)) => fraction(raw).at("runtime_filter"),
        Some(FilterSpecifier::AndFilter(raw)) => all(raw.filters, "and_filter").map(LogFilter::And),
        Some(FilterSpecifier::OrFilter(raw)) => all(raw.filters, "or_filter").map(LogFilter::Or),
        Some(FilterSpecifier::ResponseFlagFilter(raw)) => {
            flags(&raw.flags).map(LogFilter::Flags).at("response_flag_filter")
        }
        Some(FilterSpecifier::GrpcStatusFilter(raw)) => {
            let statuses = raw.statuses.iter().filter_map(|status| u16::try_from(*status).ok()).collect();
            Ok(LogFilter::Grpc { statuses, exclude: raw.exclude })
        }
        Some(FilterSpecifier::TraceableFilter(_)) => unsupported("traceable_filter"),
        Some(FilterSpecifier::HeaderFilter(_)) => unsupported("header_filter"),
        Some(FilterSpecifier::MetadataFilter(_)) => unsupported("metadata_filter"),
        Some(FilterSpecifier::LogTypeFilter(_)) => unsupported("log_type_filter"),
        Some(FilterSpecifier::ExtensionFilter(raw)) => {
            Err(Refusal::new("extension_filter", format!("{:?} is not supported by this proxy", raw.name)))
        }
        None => Err(Refusal::new("filter_specifier", "missing")),
    }
}

/// The number compared with is the default: there are no runtime settings here that could change it.
fn comparison(raw: Option<ComparisonFilter>) -> Result<Comparison, Refusal> {
    let raw = raw.ok_or_else(|| Refusal::new("", "missing"))?;
    let value = raw.value.ok_or_else(|| Refusal::new("value", "missing"))?.default_value;
    match Op::try_from(raw.op) {
        Ok(Op::Eq) => Ok(Comparison::Equal(value)),
        Ok(Op::Ge) => Ok(Comparison::AtLeast(value)),
        Ok(Op::Le) => Ok(Comparison::AtMost(value)),
        Ok(Op::Ne) => Ok(Comparison::Not(value)),
        Err(_) => Err(Refusal::new("op", "an unknown value")),
    }
}

fn fraction(raw: RuntimeFilter) -> Result<LogFilter, Refusal> {
    let FractionalPercent { numerator, denominator } = raw.percent_sampled.unwrap_or_default();
    let ppm = match DenominatorType::try_from(denominator) {
        Ok(DenominatorType::Hundred) => numerator.saturating_mul(10_000),
        Ok(DenominatorType::TenThousand) => numerator.saturating_mul(100),
        Ok(DenominatorType::Million) => numerator,
        Err(_) => return Err(Refusal::new("percent_sampled.denominator", "an unknown value")),
    };
    Ok(LogFilter::Fraction(ppm))
}

fn flags(words: &[String]) -> Result<Option<Vec<&'static str>>, Refusal> {
    let flag = |(i, word): (usize, &String)| {
        let unknown = || Refusal::new("", format!("{word:?} is no response flag"));
        flags::known(word).ok_or_else(unknown).at_index("flags", i)
    };
    let known = words.iter().enumerate().map(flag).collect::<Result<Vec<_>, _>>()?;
    Ok((!known.is_empty()).then_some(known))
}
