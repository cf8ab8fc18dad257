//! What a canary reads and writes, from texts to texts.

use super::*;
use crate::{
    documents,
    model::{Endpoint, ExportTo, Locality, Resolution, ServiceKey},
};

fn service(endpoints: &[(&str, u32)]) -> Arc<Service> {
    let each = endpoints.iter().flat_map(|(version, count)| (0..*count).map(move |n| (version, n)));
    let endpoint = |(version, n): (&&str, u32)| {
        let id: Arc<str> = format!("test/{version}-{n}").into();
        let endpoint = Endpoint {
            id: id.clone(),
            address: "10.0.0.1".into(),
            ports: BTreeMap::new(),
            weight: 1,
            health: Health::Healthy,
            locality: Locality::default(),
            labels: [(VERSION_LABEL.into(), Arc::from(*version))].into(),
            identity: "".into(),
            workload: "".into(),
            cluster: "".into(),
            mtls: false,
            network: "".into(),
            stale: false,
        };
        (id, Arc::new(endpoint))
    };
    let host: Arc<str> = "reviews.default.svc.cluster.local".into();
    Arc::new(Service {
        key: ServiceKey::new("default", "reviews"),
        hosts: vec!["reviews".into(), "reviews.default".into(), host.clone()],
        host,
        ports: Vec::new(),
        resolution: Resolution::Static,
        export_to: ExportTo::Everywhere,
        virtual_ip: None,
        addresses: Vec::new(),
        certificate_names: Vec::new(),
        endpoints: Arc::new(each.map(endpoint).collect()),
        sources: Vec::new(),
        conflicts: Vec::new(),
    })
}

fn read(endpoints: &[(&str, u32)], texts: &[&str]) -> Canary {
    let service = service(endpoints);
    let (found, problems) = documents::parse_all(texts.iter().map(|text| (*text, "test.yaml")));
    assert!(problems.is_empty(), "{problems:?}");
    let hosts = Hosts::of_services([&service], "cluster.local");
    Canary::read(&service, &found.into_iter().collect(), &hosts)
}

fn shares(text: &str) -> Shares {
    let part = |part: &str| {
        let (version, weight) = part.split_once('=').unwrap();
        (version.into(), weight.parse().unwrap())
    };
    text.split(',').map(part).collect()
}

fn weights(canary: &Canary) -> String {
    let parts: Vec<String> = canary.weights().iter().map(|(v, weight)| format!("{v}={weight}")).collect();
    parts.join(",")
}

/// Shifts, and answers with the texts written.
fn shift(canary: &Canary, to: &str) -> Result<Vec<String>, Obstacle> {
    let changes = canary.shift(&shares(to), &shares("v1=100,v2=0"), |_| false)?;
    Ok(changes.into_iter().map(|change| change.after).collect())
}

fn rules(subsets: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: reviews\nspec:\n  host: \
         reviews\n{subsets}"
    )
}

fn route(http: &str) -> String {
    format!(
        "# Ours.\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: reviews\nspec:\n  \
         hosts: [reviews]\n  http:\n{http}"
    )
}

const BOTH: &str =
    "  subsets:\n  - name: v1\n    labels: {version: v1}\n  - {name: canary, labels: {version: v2}}\n";
const TWO: [(&str, u32); 2] = [("v1", 3), ("v2", 1)];

/// What `remember` adds.
fn remembered(yaml: &str) -> String {
    let annotation = "metadata:\n  annotations: {weft.dev/canary-baseline: \"v1=100,v2=0\"}\n";
    yaml.replacen("metadata:\n", annotation, 1)
}

#[test]
fn without_documents_every_endpoint_gets_its_part_and_both_documents_are_written() {
    let canary = read(&TWO, &[]);
    assert_eq!(weights(&canary), "v1=75,v2=25");
    assert_eq!((canary.notes.len(), canary.route.is_none()), (1, true));
    let written = shift(&canary, "v1=95,v2=5").unwrap();
    let texts: Vec<&str> = written.iter().map(String::as_str).collect();
    let after = read(&TWO, &texts);
    assert_eq!((weights(&after), after.baseline.clone()), ("v1=95,v2=5".to_owned(), shares("v1=100,v2=0")));
    assert_eq!(after.stable().as_deref(), Some("v1"));
    assert!(after.obstacle.is_none() && after.notes.is_empty(), "{after:?}");
    // From here on it is an edit.
    let again = shift(&after, "v1=0,v2=100").unwrap();
    assert_eq!(again, [texts[1].replace("95", "0").replace("weight: 5", "weight: 100")]);
}

#[test]
fn weights_are_edited_in_place_and_all_else_stays() {
    let http = "  - match: [{headers: {end-user: {exact: jason}}}] # testers\n    route: [{destination: {host: reviews, subset: \
                canary}}]\n  - timeout: 3s\n    route:\n    - destination: {host: reviews, subset: v1} # most\n      weight: \
                90\n    - destination:\n        host: reviews.default\n        subset: canary\n      weight: 10 # few\n";
    let (rules, route) = (rules(BOTH), route(http));
    let canary = read(&TWO, &[&rules, &route]);
    assert_eq!(weights(&canary), "v1=90,v2=10");
    assert_eq!(canary.notes, ["1 rules before the one that is shown stay as they are"]);
    let written = shift(&canary, "v1=50,v2=50").unwrap();
    assert_eq!(written, [remembered(&route).replace("weight: 90", "weight: 50").replace("10 #", "50 #")]);
    let changes = canary.shift(&shares("v1=50,v2=50"), &shares("v1=100"), |_| false).unwrap();
    assert_eq!(
        (&*changes[0].key(), changes[0].before.as_deref()),
        ("VirtualService/default/reviews", Some(&*route))
    );
}

#[test]
fn a_destination_without_weight_or_subset_gets_them() {
    let rules = rules(BOTH);
    for (http, expected) in [
        (
            "  - route:\n    - destination: {host: reviews, subset: v1}\n",
            "  - route:\n    - destination: {host: reviews, subset: canary}\n      weight: 5\n    - weight: 95\n      \
             destination: {host: reviews, subset: v1}\n",
        ),
        (
            "  - route: [{destination: {host: reviews, port: {number: 80}}}]\n",
            "  - route: [{destination: {host: reviews, subset: canary, port: {number: 80}}, weight: 5}, {weight: 95, \
             destination: {subset: v1, host: reviews, port: {number: 80}}}]\n",
        ),
    ] {
        let route = route(http);
        let canary = read(&TWO, &[&rules, &route]);
        let written = shift(&canary, "v1=95,v2=5").unwrap();
        assert_eq!(written, [remembered(&route).replace(http, expected)]);
        assert_eq!(weights(&read(&TWO, &[&rules, &written[0]])), "v1=95,v2=5");
    }
}

#[test]
fn subsets_that_are_missing_are_added() {
    let only = "  subsets:\n  - name: v1\n    labels: {version: v1}\n";
    for subsets in [only, "", "  subsets: [{name: v1, labels: {version: v1}}]\n"] {
        let (rules, route) = (rules(subsets), route("  - route: [{destination: {host: reviews}}]\n"));
        let written = shift(&read(&TWO, &[&rules, &route]), "v1=95,v2=5").unwrap();
        let after = read(&TWO, &[&written[0], &written[1]]);
        assert_eq!(weights(&after), "v1=95,v2=5", "{written:?}");
        assert_eq!(after.versions[&Arc::from("v2")].subset.as_deref(), Some("v2"));
    }
}

#[test]
fn versions_that_are_no_names_become_subsets_all_the_same() {
    let canary = read(&[("1.0", 1), ("2 beta", 1)], &[]);
    let changes = canary.shift(&shares("1.0=90,2 beta=10"), &Shares::new(), |_| false).unwrap();
    let texts: Vec<&str> = changes.iter().map(|change| change.after.as_str()).collect();
    assert_eq!(weights(&read(&[("1.0", 1), ("2 beta", 1)], &texts)), "1.0=90,2 beta=10", "{texts:?}");
}

#[test]
fn a_document_of_that_name_that_is_about_something_else_stays() {
    let canary = read(&TWO, &[]);
    let taken = |key: &str| key == "VirtualService/default/reviews";
    let changes = canary.shift(&shares("v1=95,v2=5"), &Shares::new(), taken).unwrap();
    let keys: Vec<_> = changes.iter().map(|change| change.key().to_string()).collect();
    assert_eq!(keys, ["DestinationRule/default/reviews", "VirtualService/default/reviews-canary"]);
}

#[test]
fn what_a_program_should_not_edit_is_refused_with_what_to_do() {
    for (http, field, hint) in [
        (
            "  - match: [{uri: {prefix: /a}}]\n    route: [{destination: {host: reviews}}]\n",
            "spec.http",
            "without match",
        ),
        ("  - redirect: {uri: /b}\n", "spec.http[0]", "route"),
        ("  - route: [{destination: {host: ratings}}]\n", "spec.http[0].route", "by hand"),
        (
            "  - route:\n    - {destination: {host: reviews, subset: v1}, weight: 50}\n    - {destination: {host: reviews}, \
             weight: 50}\n",
            "spec.http[0].route",
            "subset",
        ),
        (
            "  - route:\n    - destination: {host: reviews, subset: v1}\n      headers: {request: {set: {a: b}}}\n",
            "spec.http[0].route",
            "by hand",
        ),
    ] {
        let (rules, route) = (rules(BOTH), route(http));
        let obstacle = shift(&read(&TWO, &[&rules, &route]), "v1=95,v2=5").unwrap_err();
        assert_eq!(
            (&*obstacle.document, &*obstacle.field),
            ("VirtualService/default/reviews", field),
            "{http}"
        );
        assert!(obstacle.hint.contains(hint), "{obstacle:?}");
    }
}

#[test]
fn a_baseline_that_cannot_be_read_is_none() {
    for (text, expected) in [("v1=100,v2=0", 2), ("", 0), ("v1", 0), ("v1=many", 0)] {
        let yaml = format!("metadata: {{annotations: {{{BASELINE}: {text:?}}}}}");
        assert_eq!(baseline(&yaml).len(), expected, "{text}");
    }
}
