//! Policies of access: what is taken, and that what could be read as "everything" by an oversight is refused.

use super::*;
use crate::documents::{DocumentSpec, parse};

fn policy(metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a{metadata}}}\nspec:\n{spec}\n"
    )
}

#[track_caller]
fn read(yaml: &str) -> AuthorizationPolicy {
    let (mut documents, problems) = parse(yaml, "f.yaml", 1);
    assert_eq!(problems, []);
    match documents.pop().unwrap().spec {
        DocumentSpec::AuthorizationPolicy(policy) => policy,
        other => panic!("{other:?}"),
    }
}

/// `spec` starts on line 5.
#[track_caller]
fn refused(spec: &str, expected: &str) {
    let (documents, problems) = parse(&policy("", spec), "f.yaml", 1);
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!((found.join("\n").as_str(), documents.len()), (expected, 0), "for:\n{spec}");
}

#[test]
fn values_are_read_into_what_they_mean() {
    let text = |text: &str| TextPattern::Exact(text.into());
    let found = read(&policy(
        "",
        "  rules:\n  - from: [{source: {principals: ['*', 'a*', '*b', c]}}]\n    to: [{operation: {paths: ['/{*}/x', /y], ports: ['80'], notMethods: [GET]}}]\n    when: [{key: 'request.auth.claims[a][b.c]', values: [d]}, {key: 'request.headers[X-A]', notValues: [e]}]",
    ));
    let rule = &found.rules[0];
    let values =
        vec![TextPattern::Any, TextPattern::Prefix("a".into()), TextPattern::Suffix("b".into()), text("c")];
    assert_eq!(rule.from, [vec![Clause::Principal(Values { any: values, none: Vec::new() })]]);
    let paths = vec![PathPattern::Template("/{*}/x".into()), PathPattern::Text(text("/y"))];
    assert_eq!(
        rule.to,
        [vec![
            Clause::Port(Values { any: vec![80], none: Vec::new() }),
            Clause::Method(Values { any: Vec::new(), none: vec![text("GET")] }),
            Clause::Path(Values { any: paths, none: Vec::new() }),
        ]]
    );
    assert_eq!(
        rule.when,
        [
            Clause::Claim(vec!["a".into(), "b.c".into()], Values { any: vec![text("d")], none: Vec::new() }),
            Clause::Header("x-a".into(), Values { any: Vec::new(), none: vec![text("e")] }),
        ]
    );
    assert_eq!((found.action, found.dry_run, found.scope), (AccessAction::Allow, false, Scope::default()));
}

#[test]
fn a_policy_says_of_itself_that_it_is_only_watched() {
    let with =
        |value: &str| policy(&format!(", annotations: {{istio.io/dry-run: {value}}}"), "  action: DENY");
    assert!(read(&with("'true'")).dry_run);
    assert!(!read(&with("'false'")).dry_run);
    let (_, problems) = parse(&with("'yes'"), "f.yaml", 1);
    assert_eq!(problems[0].field, "metadata.annotations[istio.io/dry-run]");
    let other = policy(", annotations: {a: b}", "  {}");
    assert!(!read(&other).dry_run, "other annotations are the operator's own");
}

#[test]
fn what_would_hold_for_everything_by_an_oversight_is_refused() {
    refused(
        "  rules: [{from: []}]",
        "f.yaml:5:18: error: spec.rules[0].from: is empty (remove it, or say what it is for)",
    );
    refused(
        "  rules: [{from: [{source: {}}]}]",
        "f.yaml:5:28: error: spec.rules[0].from[0].source: says nothing (remove it, or say what it is for)",
    );
    refused(
        "  rules: [{from: [{source: {principals: []}}]}]",
        "f.yaml:5:41: error: spec.rules[0].from[0].source.principals: is empty (remove it, or say what it is for)",
    );
    refused("  rules: [{to: [{}]}]", "f.yaml:5:17: error: spec.rules[0].to[0].operation: is missing");
    refused(
        "  rules: [{when: [{key: source.ip}]}]",
        "f.yaml:5:19: error: spec.rules[0].when[0]: says no values (give values or notValues)",
    );
    refused(
        "  rules: [{to: [{operation: {hosts: ['']}}]}]",
        "f.yaml:5:38: error: spec.rules[0].to[0].operation.hosts[0]: is empty (write * for any value)",
    );
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let at = "f.yaml:5:";
    for (spec, expected) in [
        ("  action: LOG", "11: error: spec.action: \"LOG\" is no action (ALLOW, DENY or AUDIT)"),
        ("  targetRefs: []", "15: error: spec.targetRefs: is empty (name what it is for, or remove it)"),
        ("  rules: [{form: []}]", "12: error: spec.rules[0].form: unknown field (did you mean from?)"),
        (
            "  rules: [{to: [{operation: {paths: ['/a*b']}}]}]",
            "38: error: spec.rules[0].to[0].operation.paths[0]: \"/a*b\" has a * that means nothing (it stands at one end, or alone)",
        ),
        (
            "  rules: [{to: [{operation: {paths: ['/{a}']}}]}]",
            "38: error: spec.rules[0].to[0].operation.paths[0]: \"/{a}\": a wildcard is a whole segment (segments are literal, {*} or a last {**})",
        ),
        (
            "  rules: [{to: [{operation: {paths: ['/{**}/{*}']}}]}]",
            "38: error: spec.rules[0].to[0].operation.paths[0]: \"/{**}/{*}\": no wildcard may follow {**} (segments are literal, {*} or a last {**})",
        ),
        (
            "  rules: [{to: [{operation: {ports: ['http']}}]}]",
            "38: error: spec.rules[0].to[0].operation.ports[0]: \"http\" is no port (write it like \"80\")",
        ),
        (
            "  rules: [{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}]",
            "40: error: spec.rules[0].from[0].source.ipBlocks[0]: \"10.0.0.0/33\" is no address (write it like 10.0.0.1 or 10.0.0.0/8)",
        ),
        (
            "  rules: [{from: [{source: {serviceAccounts: [a/b/c]}}]}]",
            "47: error: spec.rules[0].from[0].source.serviceAccounts[0]: \"a/b/c\" is no service account (write it like namespace/account)",
        ),
    ] {
        refused(spec, &format!("{at}{expected}"));
    }
    let (_, problems) =
        parse(&policy("", "  rules: [{when: [{key: request.time, values: [a]}]}]"), "f.yaml", 1);
    assert_eq!(problems[0].field, "spec.rules[0].when[0].key");
}
