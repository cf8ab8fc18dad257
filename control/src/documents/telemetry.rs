//! `Telemetry`: what proxies tell of their traffic: access logs and traces. Istio's fields.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    problem::Report,
    reader::{At, Located, nearest},
    target,
};

/// Most tags of a document, and bytes of each of their texts.
const TAGS_MAX: usize = 64;

/// What the proxies of a mesh, a namespace or a workload tell of their traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Labels of the workloads; none is every one of the namespace or, in the root namespace, of the mesh.
    pub selector: Option<BTreeMap<Arc<str>, Arc<str>>>,
    /// Access logs, in order.
    pub access_logging: Vec<AccessLogging>,
    /// Traces, in order.
    pub tracing: Vec<Tracing>,
}

/// One word on access logs.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogging {
    /// Which traffic it is about.
    pub mode: Mode,
    /// Providers of the mesh's settings; none named is those in force.
    pub providers: Vec<Located>,
    /// Whether it switches them off.
    pub disabled: bool,
}

/// One word on traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Which traffic it is about.
    pub mode: Mode,
    /// The provider of the mesh's settings; none is the one in force.
    pub provider: Option<Located>,
    /// Share of the requests without a trace of their own that begin one, in thousandths of a percent; none is as the next
    /// wider document says.
    pub sampling_milli: Option<u32>,
    /// Whether nothing is told; none is as the next wider document says.
    pub disabled: Option<bool>,
    /// Tags of every span, by name; none are those of the next wider document.
    pub tags: Option<BTreeMap<Arc<str>, Tag>>,
}

/// What a tag says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Always the same.
    Literal(Arc<str>),
    /// A variable of the proxy's environment, and what stands for one that is not there.
    Environment(Arc<str>, Arc<str>),
    /// A header of the request, and what stands for one that is not there.
    Header(Arc<str>, Arc<str>),
}

/// Which side of its traffic a proxy tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Both.
    #[default]
    ClientAndServer,
    /// What goes out.
    Client,
    /// What comes in.
    Server,
}

const MODES: [(&str, Mode); 3] =
    [("CLIENT_AND_SERVER", Mode::ClientAndServer), ("CLIENT", Mode::Client), ("SERVER", Mode::Server)];

impl Telemetry {
    /// Every provider that it names for access logs.
    pub fn log_providers(&self) -> impl Iterator<Item = &Located> {
        self.access_logging.iter().flat_map(|entry| &entry.providers)
    }

    /// Every provider that it names for traces.
    pub fn span_providers(&self) -> impl Iterator<Item = &Located> {
        self.tracing.iter().filter_map(|entry| entry.provider.as_ref())
    }
}

pub(super) fn read(spec: &At<'_>, report: &mut Report) -> Option<Telemetry> {
    let mut object = spec.object(report)?;
    let selector = object.field("selector", report).and_then(|at| target::selector(&at, report));
    let items = object.list("accessLogging", report);
    let access_logging = items.iter().filter_map(|at| access_logging(at, report)).collect();
    let items = object.list("tracing", report);
    let tracing = items.iter().filter_map(|at| tracing(at, report)).collect();
    object.unsupported(&["metrics", "targetRef", "targetRefs"], report);
    object.finish(report);
    Some(Telemetry { selector, access_logging, tracing })
}

fn access_logging(at: &At<'_>, report: &mut Report) -> Option<AccessLogging> {
    let mut object = at.object(report)?;
    let mode = object.field("match", report).map(|at| mode(&at, report)).unwrap_or_default();
    let items = object.list("providers", report);
    let providers = items.iter().filter_map(|at| provider(at, report)).collect();
    let disabled = object.field("disabled", report).and_then(|at| at.boolean(report)).unwrap_or(false);
    object.unsupported(&["filter"], report);
    object.finish(report);
    Some(AccessLogging { mode, providers, disabled })
}

fn tracing(at: &At<'_>, report: &mut Report) -> Option<Tracing> {
    let mut object = at.object(report)?;
    let mode = object.field("match", report).map(|at| mode(&at, report)).unwrap_or_default();
    let items = object.list("providers", report);
    if let Some(second) = items.get(1) {
        second.fail(report, "only one provider of traces is taken", "remove the others");
    }
    let provider = items.first().and_then(|at| provider(at, report));
    let sampling_milli =
        object.field("randomSamplingPercentage", report).and_then(|at| at.percent_milli(report));
    let disabled = object.field("disableSpanReporting", report).and_then(|at| at.boolean(report));
    let tags = object.field("customTags", report).map(|at| tags(&at, report));
    object.unsupported(&["useRequestIdForTraceSampling", "enableIstioTags"], report);
    object.finish(report);
    Some(Tracing { mode, provider, sampling_milli, disabled, tags })
}

fn tags(at: &At<'_>, report: &mut Report) -> BTreeMap<Arc<str>, Tag> {
    let entries = at.entries(report);
    if entries.len() > TAGS_MAX {
        at.fail(report, format!("more than {TAGS_MAX} tags"), "remove some");
    }
    entries.into_iter().filter_map(|(name, at)| Some((name.text, tag(&at, report)?))).collect()
}

fn tag(at: &At<'_>, report: &mut Report) -> Option<Tag> {
    let mut object = at.object(report)?;
    let literal = object.field("literal", report).and_then(|at| {
        let mut object = at.object(report)?;
        let value = object.required("value", report).and_then(|at| filled(&at, report));
        object.finish(report);
        value.map(Tag::Literal)
    });
    let environment = object.field("environment", report).and_then(|at| {
        let (name, otherwise) = named(&at, report)?;
        Some(Tag::Environment(name, otherwise))
    });
    let header = object.field("header", report).and_then(|at| {
        let (name, otherwise) = named(&at, report)?;
        if http::HeaderName::try_from(&*name).is_err() {
            at.fail(report, format!("{name:?} is no header's name"), "");
        }
        Some(Tag::Header(name.to_ascii_lowercase().into(), otherwise))
    });
    object.unsupported(&["formatter"], report);
    object.finish(report);
    let mut given = [literal, environment, header].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(tag), None) => Some(tag),
        _ => {
            at.fail(report, "one of literal, environment, header is wanted", "");
            None
        }
    }
}

fn named(at: &At<'_>, report: &mut Report) -> Option<(Arc<str>, Arc<str>)> {
    let mut object = at.object(report)?;
    let name = object.required("name", report).and_then(|at| filled(&at, report));
    let otherwise = object.field("defaultValue", report).and_then(|at| at.text(report)).unwrap_or_default();
    object.finish(report);
    Some((name?, otherwise))
}

fn filled(at: &At<'_>, report: &mut Report) -> Option<Arc<str>> {
    let text = at.text(report)?;
    if text.is_empty() {
        at.fail(report, "must not be empty", "");
        return None;
    }
    Some(text)
}

fn provider(at: &At<'_>, report: &mut Report) -> Option<Located> {
    let mut object = at.object(report)?;
    let name = object.required("name", report).and_then(|at| at.located(report));
    object.finish(report);
    name
}

fn mode(at: &At<'_>, report: &mut Report) -> Mode {
    let Some(mut object) = at.object(report) else { return Mode::default() };
    let mode = object.field("mode", report).and_then(|at| {
        let text = at.text(report)?;
        let found = MODES.iter().find(|(name, _)| *name == &*text);
        if found.is_none() {
            at.fail(report, format!("{text:?} is no mode"), nearest(&text, &MODES.map(|(name, _)| name)));
        }
        found.map(|(_, mode)| *mode)
    });
    object.finish(report);
    mode.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[track_caller]
    fn check(spec: &str, expected: &[&str]) {
        let yaml = format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: a}}\nspec:\n  {spec}\n"
        );
        let (_, problems) = parse(&yaml, "f", 1);
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{spec}");
    }

    #[test]
    fn what_istio_says_is_taken() {
        check("{}", &[]);
        check(
            "accessLogging: [{match: {mode: SERVER}, providers: [{name: a}, {name: b}]}, {disabled: true}]",
            &[],
        );
        check("tracing: [{providers: [{name: otel}], randomSamplingPercentage: 12.5}]", &[]);
        check("tracing: [{customTags: {a: {literal: {value: b}}, c: {header: {name: x-d}}}}]", &[]);
        check("tracing: [{customTags: {a: {environment: {name: B, defaultValue: c}}}}]", &[]);
        check("tracing: [{match: {mode: CLIENT}, disableSpanReporting: true}]", &[]);
    }

    #[test]
    fn nothing_else_is() {
        for (spec, expected) in [
            ("metrics: []", "f:5:3: error: spec.metrics: is not supported (remove it)"),
            (
                "accessLogging: [{match: {mode: CLIENTS}}]",
                "f:5:34: error: spec.accessLogging[0].match.mode: \"CLIENTS\" is no mode (did you mean CLIENT?)",
            ),
            (
                "accessLogging: [{providers: [{}]}]",
                "f:5:32: error: spec.accessLogging[0].providers[0].name: is missing",
            ),
            (
                "accessLogging: [{filter: {expression: response.code >= 400}}]",
                "f:5:20: error: spec.accessLogging[0].filter: is not supported (remove it)",
            ),
            (
                "tracing: [{randomSamplingPercentage: 101}]",
                "f:5:40: error: spec.tracing[0].randomSamplingPercentage: 101 is out of range (0 to 100 are allowed)",
            ),
            (
                "tracing: [{providers: [{name: a}, {name: b}]}]",
                "f:5:37: error: spec.tracing[0].providers[1]: only one provider of traces is taken (remove the others)",
            ),
            (
                "tracing: [{customTags: {a: {}}}]",
                "f:5:30: error: spec.tracing[0].customTags[a]: one of literal, environment, header is wanted",
            ),
            (
                "tracing: [{customTags: {a: {literal: {value: ''}}}}]",
                "f:5:48: error: spec.tracing[0].customTags[a].literal.value: must not be empty",
            ),
        ] {
            // What a field says that is wrong makes what it stands in wrong, too.
            let yaml = format!(
                "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: a}}\nspec:\n  {spec}\n"
            );
            let (documents, problems) = parse(&yaml, "f", 1);
            assert!(documents.is_empty());
            assert_eq!(problems.first().map(ToString::to_string).as_deref(), Some(expected));
        }
    }
}
