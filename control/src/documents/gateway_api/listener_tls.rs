//! Reads `tls` of a listener.

use std::sync::Arc;

use super::{ListenerTls, refs};
use crate::documents::{
    ServerMode, TlsVersion,
    problem::Report,
    reader::{At, nearest},
    tls,
};

/// What `options` may say: Istio's words where it has some.
const OPTIONS: [&str; 4] = [TERMINATE_MODE, CIPHER_SUITES, MIN_VERSION, MAX_VERSION];

const TERMINATE_MODE: &str = "gateway.istio.io/tls-terminate-mode";
const CIPHER_SUITES: &str = "gateway.istio.io/tls-cipher-suites";
const MIN_VERSION: &str = "weft.dev/tls-min-version";
const MAX_VERSION: &str = "weft.dev/tls-max-version";

/// What the options say.
#[derive(Default)]
struct Options {
    mode: Option<ServerMode>,
    suites: Vec<Arc<str>>,
    min: Option<TlsVersion>,
    max: Option<TlsVersion>,
}

pub(super) fn read(at: &At<'_>, report: &mut Report) -> Option<ListenerTls> {
    let mut object = at.object(report)?;
    let mode_at = object.field("mode", report);
    let terminates = match mode_at.as_ref().and_then(|at| at.text(report)).as_deref() {
        None | Some("Terminate") => true,
        Some("Passthrough") => false,
        Some(other) => {
            let at = mode_at.as_ref().unwrap_or(at);
            at.fail(report, format!("{other:?} is no mode"), "Terminate or Passthrough");
            return None;
        }
    };
    let items = object.list("certificateRefs", report);
    let certificates: Vec<_> = items.iter().filter_map(|at| refs::object(at, "", "Secret", report)).collect();
    let options_at = object.field("options", report);
    let Options { mode, suites, min, max } = options(options_at.as_ref(), report);
    object.unsupported(&["frontendValidation"], report);
    object.finish(report);
    if terminates && items.is_empty() {
        at.fail(report, "has no certificate to show", "add certificateRefs");
    }
    if !terminates && !items.is_empty() {
        at.fail(report, "shows no certificate in mode Passthrough", "remove certificateRefs");
    }
    if let (false, Some(at)) = (terminates, &options_at) {
        at.fail(report, "mean nothing in mode Passthrough", "remove them");
    }
    let mode = if terminates { mode.unwrap_or(ServerMode::Simple) } else { ServerMode::Passthrough };
    Some(ListenerTls { mode, certificates, authorities: None, min, max, suites, place: at.place })
}

fn options(at: Option<&At<'_>>, report: &mut Report) -> Options {
    let mut found = Options::default();
    for (key, value) in at.map(|at| at.entries(report)).unwrap_or_default() {
        match &*key.text {
            TERMINATE_MODE => found.mode = terminate_mode(&value, report),
            CIPHER_SUITES => {
                let text = value.text(report).unwrap_or_default();
                let suites = text.split(',').map(str::trim).filter(|suite| !suite.is_empty());
                found.suites = suites.map(Arc::from).collect();
            }
            MIN_VERSION => found.min = tls::version(&value, report),
            MAX_VERSION => found.max = tls::version(&value, report),
            other => {
                let message = format!("option {other:?} is not supported");
                report.error(key.place, &key.field, message, nearest(other, &OPTIONS));
            }
        }
    }
    if let (Some(at), Some(min), Some(max)) = (at, found.min, found.max)
        && min > max
    {
        at.fail(report, format!("{MIN_VERSION} is above {MAX_VERSION}"), "");
    }
    found
}

fn terminate_mode(at: &At<'_>, report: &mut Report) -> Option<ServerMode> {
    match &*at.text(report)? {
        "SIMPLE" => Some(ServerMode::Simple),
        "MUTUAL" => Some(ServerMode::Mutual),
        "OPTIONAL_MUTUAL" => Some(ServerMode::OptionalMutual),
        other => {
            let known = "SIMPLE, MUTUAL or OPTIONAL_MUTUAL";
            at.fail(report, format!("mode {other:?} is not supported"), known);
            None
        }
    }
}
