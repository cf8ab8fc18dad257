//! What a listener tells of its traffic: the mesh's settings, then `Telemetry` documents of the root namespace, of the
//! workload's namespace, and of the workload. What is nearer has the last word; of documents of one place the oldest. Pure.
//!
//! As in Istio: an entry that names providers takes the place of those further away, one without means those in force,
//! and what is disabled is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{access::Workload, ir::Direction};
use crate::{
    access_log::AccessLog,
    documents::{AccessLogging, Document, DocumentSet, Mode, ROOT_NAMESPACE, Tag, Telemetry, Tracing},
    providers::{Collector, PROVIDER_ENVOY, Provider, Providers},
};

/// Share of requests that begin a trace where no document says: Istio's one percent.
const SAMPLING_MILLI_DEFAULT: u32 = 1000;

/// Stands for the log of the mesh's settings, which has no name.
const MESH_WIDE: &str = "";

/// What the mesh's settings say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    /// Where every proxy logs.
    pub(crate) log: Option<&'a AccessLog>,
    pub(crate) providers: &'a Providers,
}

/// What is told of a workload's traffic in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) logs: Vec<AccessLog>,
    pub(crate) spans: Option<Spans>,
    /// Keys of the documents that say so.
    pub(crate) documents: Vec<Arc<str>>,
}

/// Spans, and who gets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spans {
    pub(crate) collector: Collector,
    pub(crate) sampling_milli: u32,
    pub(crate) tags: BTreeMap<Arc<str>, Tag>,
}

/// What is told where only the mesh's documents count.
pub(crate) fn of_mesh(settings: Settings<'_>, documents: &DocumentSet, direction: Direction) -> Told {
    let labels = BTreeMap::new();
    of(settings, documents, Workload { namespace: ROOT_NAMESPACE, labels: &labels, targets: &[] }, direction)
}

/// What is told of a workload's traffic.
pub(crate) fn of(
    settings: Settings<'_>,
    documents: &DocumentSet,
    workload: Workload<'_>,
    direction: Direction,
) -> Told {
    let levels: Vec<_> = levels(documents, workload);
    let mut told = Told::default();
    let mut names: BTreeSet<&str> = settings.log.iter().map(|_| MESH_WIDE).collect();
    for (_, telemetry) in &levels {
        let mut replaced = false;
        for entry in telemetry.access_logging.iter().filter(|entry| concerns(entry.mode, direction)) {
            apply(entry, &mut names, &mut replaced);
        }
    }
    let log = |name: &&str| match (*name, settings.providers.get(name)) {
        (MESH_WIDE, _) => settings.log.cloned(),
        (_, Some(Provider::Log(log))) => Some(log.clone()),
        (_, Some(Provider::Spans(_)) | None) => None,
    };
    told.logs.extend(names.iter().filter_map(log));
    let tracing = levels.iter().flat_map(|(_, telemetry)| &telemetry.tracing);
    told.spans = spans(settings.providers, tracing.filter(|entry| concerns(entry.mode, direction)));
    told.documents.extend(levels.iter().map(|(document, _)| document.key()));
    told
}

/// The documents that count for a workload, the nearest last; those that say something of logs and those that say
/// something of traces may be different ones of one place.
fn levels<'a>(documents: &'a DocumentSet, workload: Workload<'_>) -> Vec<(&'a Arc<Document>, &'a Telemetry)> {
    let oldest = |of: &dyn Fn(&Document, &Telemetry) -> bool| {
        let find = |says: fn(&Telemetry) -> bool| {
            documents.telemetries().find(|(document, telemetry)| says(telemetry) && of(document, telemetry))
        };
        let logs = find(|telemetry| !telemetry.access_logging.is_empty());
        let traces = find(|telemetry| !telemetry.tracing.is_empty());
        let same = logs.zip(traces).is_some_and(|((a, _), (b, _))| Arc::ptr_eq(a, b));
        [logs, traces.filter(|_| !same)].into_iter().flatten()
    };
    let own = |document: &Document| *document.namespace == *workload.namespace;
    let root = |document: &Document| *document.namespace == *ROOT_NAMESPACE;
    let selects = |labels: &BTreeMap<Arc<str>, Arc<str>>| {
        labels.iter().all(|(name, value)| workload.labels.get(&**name).is_some_and(|own| **own == **value))
    };
    let mesh = oldest(&|document, telemetry| root(document) && telemetry.selector.is_none());
    let namespace =
        oldest(&|document, telemetry| own(document) && !root(document) && telemetry.selector.is_none());
    let narrow =
        oldest(&|document, telemetry| own(document) && telemetry.selector.as_ref().is_some_and(selects));
    mesh.chain(namespace).chain(narrow).collect()
}

fn concerns(mode: Mode, direction: Direction) -> bool {
    match (mode, direction) {
        (Mode::ClientAndServer, _) | (Mode::Server, Direction::Inbound) => true,
        // A gateway is a client of what it leads to.
        (Mode::Client, Direction::Outbound | Direction::Gateway) => true,
        (Mode::Client, Direction::Inbound) => false,
        (Mode::Server, Direction::Outbound | Direction::Gateway) => false,
    }
}

fn apply<'a>(entry: &'a AccessLogging, names: &mut BTreeSet<&'a str>, replaced: &mut bool) {
    let named = entry.providers.iter().map(|provider| &*provider.text);
    match (entry.disabled, entry.providers.is_empty()) {
        (true, true) => names.clear(),
        (true, false) => names.retain(|name| !named.clone().any(|named| named == *name)),
        (false, true) => names.extend(names.is_empty().then_some(PROVIDER_ENVOY)),
        (false, false) => {
            if !std::mem::replace(replaced, true) {
                names.clear();
            }
            names.extend(named);
        }
    }
}

/// What the nearest words on traces come to; none where no collector is named.
fn spans<'a>(providers: &Providers, entries: impl Iterator<Item = &'a Tracing>) -> Option<Spans> {
    let (mut name, mut sampling, mut disabled, mut tags) = (None, None, false, None);
    for entry in entries {
        name = entry.provider.as_ref().or(name);
        sampling = entry.sampling_milli.or(sampling);
        disabled = entry.disabled.unwrap_or(disabled);
        tags = entry.tags.as_ref().or(tags);
    }
    match providers.get(&name?.text) {
        Some(Provider::Spans(collector)) if !disabled => Some(Spans {
            collector: collector.clone(),
            sampling_milli: sampling.unwrap_or(SAMPLING_MILLI_DEFAULT),
            tags: tags.cloned().unwrap_or_default(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access_log::LogFormat,
        documents,
        providers::{RawCollector, RawProvider},
    };

    const ROOT: &str = ROOT_NAMESPACE;

    fn told(mesh_wide: bool, texts: &[String], direction: Direction) -> Told {
        let (found, problems) = documents::parse(&texts.join("---\n"), "test", 1);
        assert_eq!(problems, []);
        let log = AccessLog { path: "/mesh".into(), format: LogFormat::istio_text() };
        let file = |name: &str| RawProvider {
            name: name.to_owned(),
            file: Some(serde_json::from_str(&format!("{{\"path\": \"/{name}\"}}")).unwrap()),
            ..RawProvider::default()
        };
        let collector = |name: &str| RawProvider {
            name: name.to_owned(),
            spans: Some(RawCollector { service: name.to_owned(), port: 4317, ..RawCollector::default() }),
            ..RawProvider::default()
        };
        let raw = vec![file("a"), file("b"), file("envoy"), collector("otel"), collector("other")];
        let providers = Providers::check(raw, &LogFormat::istio_text()).unwrap();
        let settings = Settings { log: mesh_wide.then_some(&log), providers: &providers };
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let workload = Workload { namespace: "shop", labels: &labels, targets: &[] };
        of(settings, &found.into_iter().collect(), workload, direction)
    }

    fn telemetry(namespace: &str, name: &str, selector: &str, spec: &str) -> String {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec:\n  selector: {{matchLabels: {{{selector}}}}}\n  {spec}\n"
        )
    }

    fn logging(namespace: &str, name: &str, selector: &str, entries: &str) -> String {
        telemetry(namespace, name, selector, &format!("accessLogging: {entries}"))
    }

    #[track_caller]
    fn check(mesh_wide: bool, texts: &[String], direction: Direction, expected: &[&str]) {
        let told = told(mesh_wide, texts, direction);
        assert_eq!(told.logs.iter().map(|log| &*log.path).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn without_documents_the_settings_decide() {
        check(false, &[], Direction::Outbound, &[]);
        check(true, &[], Direction::Outbound, &["/mesh"]);
    }

    #[test]
    fn what_is_nearer_has_the_last_word() {
        let mesh = || logging(ROOT, "all", "", "[{providers: [{name: a}]}]");
        let namespace = || logging("shop", "shop", "", "[{providers: [{name: b}]}]");
        let workload = || logging("shop", "web", "app: web", "[{disabled: true}]");
        let both =
            || logging("shop", "web", "app: web", "[{providers: [{name: a}]}, {providers: [{name: b}]}]");
        check(true, &[mesh()], Direction::Outbound, &["/a"]);
        check(true, &[mesh(), namespace()], Direction::Outbound, &["/b"]);
        check(true, &[mesh(), namespace(), workload()], Direction::Outbound, &[]);
        check(false, &[both()], Direction::Outbound, &["/a", "/b"]);
    }

    #[test]
    fn other_namespaces_and_workloads_are_left_alone() {
        let other = logging("other", "o", "", "[{disabled: true}]");
        let stranger = logging("shop", "s", "app: api", "[{disabled: true}]");
        let root = logging(ROOT, "r", "app: web", "[{disabled: true}]");
        check(true, &[other, stranger, root], Direction::Outbound, &["/mesh"]);
    }

    #[test]
    fn a_mode_is_one_side_of_the_traffic() {
        let client = || logging("shop", "s", "", "[{match: {mode: CLIENT}, disabled: true}]");
        check(true, &[client()], Direction::Outbound, &[]);
        check(true, &[client()], Direction::Gateway, &[]);
        check(true, &[client()], Direction::Inbound, &["/mesh"]);
        let server = logging("shop", "s", "", "[{match: {mode: SERVER}, providers: [{name: b}]}]");
        check(false, &[server], Direction::Inbound, &["/b"]);
    }

    #[test]
    fn without_a_provider_those_in_force_are_meant() {
        let empty = || logging("shop", "s", "", "[{}]");
        check(false, &[empty()], Direction::Outbound, &["/envoy"]);
        check(true, &[empty()], Direction::Outbound, &["/mesh"]);
        let off = "[{providers: [{name: a}, {name: b}]}, {providers: [{name: a}], disabled: true}]";
        check(false, &[logging("shop", "s", "", off)], Direction::Outbound, &["/b"]);
    }

    #[test]
    fn of_two_documents_in_one_place_the_first_decides_what_it_speaks_of() {
        let first = logging("shop", "a", "", "[{providers: [{name: a}]}]");
        let second = logging("shop", "b", "", "[{providers: [{name: b}]}]");
        let traces = telemetry("shop", "c", "", "tracing: [{providers: [{name: otel}]}]");
        let told = told(false, &[second, first, traces], Direction::Outbound);
        assert_eq!(told.logs.iter().map(|log| &*log.path).collect::<Vec<_>>(), ["/a"]);
        assert_eq!(told.spans.map(|spans| spans.collector.host).as_deref(), Some("otel"));
        assert_eq!(told.documents, ["Telemetry/shop/a".into(), "Telemetry/shop/c".into()]);
    }

    #[test]
    fn each_word_on_traces_stands_until_a_nearer_one() {
        let mesh = || {
            let tags = "customTags: {a: {literal: {value: b}}}";
            telemetry(ROOT, "m", "", &format!("tracing: [{{providers: [{{name: otel}}], {tags}}}]"))
        };
        let near = |entry: &str| telemetry("shop", "n", "", &format!("tracing: [{{{entry}}}]"));
        let spans = |texts: &[String], direction| told(false, texts, direction).spans;
        let found = spans(&[mesh()], Direction::Inbound).unwrap();
        assert_eq!((&*found.collector.host, found.sampling_milli, found.tags.len()), ("otel", 1000, 1));
        let found = spans(&[mesh(), near("randomSamplingPercentage: 50")], Direction::Inbound).unwrap();
        assert_eq!((&*found.collector.host, found.sampling_milli, found.tags.len()), ("otel", 50_000, 1));
        let found = spans(&[mesh(), near("providers: [{name: other}], customTags: {}")], Direction::Inbound);
        assert_eq!(found.map(|found| (found.collector.host, found.tags.len())), Some(("other".into(), 0)));
        assert_eq!(spans(&[mesh(), near("disableSpanReporting: true")], Direction::Inbound), None);
        let client = || near("match: {mode: CLIENT}, disableSpanReporting: true");
        assert!(spans(&[mesh(), client()], Direction::Inbound).is_some());
        assert_eq!(spans(&[mesh(), client()], Direction::Gateway), None);
        assert_eq!(spans(&[near("providers: [{name: a}]")], Direction::Inbound), None);
        assert_eq!(spans(&[near("randomSamplingPercentage: 50")], Direction::Inbound), None);
    }
}
