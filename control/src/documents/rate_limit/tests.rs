//! Limits: what is taken, and that what callers could get around is refused.

use super::*;
use crate::documents::{DocumentSpec, StringMatch, parse};

fn policy(spec: &str) -> String {
    format!("apiVersion: weft.dev/v1\nkind: RateLimitPolicy\nmetadata: {{name: a}}\nspec:\n{spec}\n")
}

#[track_caller]
fn read(spec: &str) -> RateLimitPolicy {
    let (mut documents, problems) = parse(&policy(spec), "f.yaml", 1);
    assert_eq!(problems, []);
    match documents.pop().unwrap().spec {
        DocumentSpec::RateLimitPolicy(policy) => policy,
        other => panic!("{other:?}"),
    }
}

/// `spec` starts on line 5.
#[track_caller]
fn refused(spec: &str, expected: &str) {
    let (documents, problems) = parse(&policy(spec), "f.yaml", 1);
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!((found.join("\n").as_str(), documents.len()), (expected, 0), "for:\n{spec}");
}

#[test]
fn limits_are_read_with_what_they_count_apart() {
    let found = read(
        "  selector: {matchLabels: {app: cart}}\n  dryRun: true\n  rules:\n  - name: writes\n    match: {path: {prefix: /items}, method: POST, host: '*.Shop.test', headers: {X-Tier: {exact: free}}}\n    key: [source.principal, remote.ip, 'request.headers[X-User]']\n    limit: {requests: 10, per: minute}\n  - {name: all, limit: {requests: 5, per: second, burst: 20}}",
    );
    assert!(found.dry_run && found.scope != crate::documents::Scope::default());
    let [writes, all] = found.rules.as_slice() else { panic!("{found:?}") };
    let matches = LimitMatch {
        path: Some(LimitPath::Prefix("/items".into())),
        method: Some("POST".into()),
        host: Some("*.shop.test".into()),
        headers: vec![("x-tier".into(), StringMatch::Exact("free".into()))],
    };
    let keys = vec![LimitKey::Principal, LimitKey::RemoteIp, LimitKey::Header("x-user".into())];
    assert_eq!(writes.subject, LimitSubject { matches, keys });
    assert_eq!(writes.rate, Rate { requests: 10, per: TimeUnit::Minute, burst: 10 });
    assert_eq!(all.rate, Rate { requests: 5, per: TimeUnit::Second, burst: 20 });
    assert_eq!(all.subject, LimitSubject::default());
}

#[test]
fn what_is_wrong_with_a_limit_is_told() {
    for (spec, expected) in [
        ("  rules: []", "f.yaml:5:10: error: spec.rules: is empty (add a rule, or delete the policy)"),
        (
            "  rules: [{name: a, limit: {requests: 0, per: second}}]",
            "f.yaml:5:39: error: spec.rules[0].limit.requests: 0 is out of range (1 to 4294967295 are allowed)",
        ),
        (
            "  rules: [{name: a, limit: {requests: 1, per: week}}]",
            "f.yaml:5:47: error: spec.rules[0].limit.per: \"week\" is no unit of time (second, minute, hour, day)",
        ),
        (
            "  rules: [{name: a, key: [source.principle], limit: {requests: 1, per: day}}]",
            "f.yaml:5:27: error: spec.rules[0].key[0]: \"source.principle\" is no key (did you mean source.principal?)",
        ),
        (
            "  rules: [{name: a, match: {path: {regex: /a}}, limit: {requests: 1, per: day}}]",
            "f.yaml:5:36: error: spec.rules[0].match.path.regex: is not supported (remove it)\nf.yaml:5:35: error: spec.rules[0].match.path: says nothing to compare with (add exact or prefix)",
        ),
        (
            "  rules: [{name: a, match: {}, limit: {requests: 1, per: day}}]",
            "f.yaml:5:28: error: spec.rules[0].match: says nothing (remove it: every request is the default)",
        ),
        (
            "  rules: [{name: a, limit: {requests: 1, per: day}}, {name: a, limit: {requests: 1, per: day}}]",
            "f.yaml:5:54: error: spec.rules[1]: another rule is named \"a\" (name each rule differently)",
        ),
        (
            "  rules: [{name: a b, limit: {requests: 1, per: day}}]",
            "f.yaml:5:18: error: spec.rules[0].name: \"a b\" is no name (letters, digits, -, _ and ., at most 63)",
        ),
    ] {
        refused(spec, expected);
    }
}
