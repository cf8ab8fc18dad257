//! Access logs, in Envoy's own messages: a file, and a format.

use weft_proto::xds::{
    envoy::{
        config::{
            accesslog::v3::{AccessLog as Encoded, access_log::ConfigType},
            core::v3::{
                DataSource, SubstitutionFormatString, data_source::Specifier,
                substitution_format_string::Format,
            },
        },
        extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
    },
    google::protobuf::Struct,
};

use super::{any, text_value};
use crate::access_log::{AccessLog, LogFormat};

const FILE: &str = "envoy.access_loggers.file";
const FILE_TYPE: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";

pub(crate) fn logs(logs: &[AccessLog]) -> Vec<Encoded> {
    logs.iter().map(log).collect()
}

fn log(log: &AccessLog) -> Encoded {
    let format = match &log.format {
        LogFormat::Text(text) => Format::TextFormatSource(DataSource {
            specifier: Some(Specifier::InlineString(text.to_string())),
            ..Default::default()
        }),
        LogFormat::Json(labels) => Format::JsonFormat(Struct {
            fields: labels.iter().map(|(key, value)| (key.to_string(), text_value(value))).collect(),
        }),
    };
    let format = SubstitutionFormatString { format: Some(format), ..Default::default() };
    let file = FileAccessLog {
        path: log.path.to_string(),
        access_log_format: Some(AccessLogFormat::LogFormat(format)),
    };
    Encoded {
        name: FILE.to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(FILE_TYPE, &file))),
        ..Default::default()
    }
}
