//! Tokens that are taken: what is read, and that a rule which could take anybody's is refused.

use super::*;
use crate::documents::{DocumentSpec, parse, target::TargetKind};

fn document(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: a}}\nspec:\n{spec}\n"
    )
}

#[track_caller]
fn read(spec: &str) -> RequestAuthentication {
    let (mut documents, problems) = parse(&document(spec), "f.yaml", 1);
    assert_eq!(problems, []);
    match documents.pop().unwrap().spec {
        DocumentSpec::RequestAuthentication(found) => found,
        other => panic!("{other:?}"),
    }
}

/// `spec` starts on line 5.
#[track_caller]
fn refused(spec: &str, expected: &str) {
    let (documents, problems) = parse(&document(spec), "f.yaml", 1);
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!((found.join("\n").as_str(), documents.len()), (expected, 0), "for:\n{spec}");
}

const KEY: &str = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#;

#[test]
fn rules_are_read_into_what_they_mean() {
    let found = read(&format!(
        "  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: g}}, {{kind: Service, name: s}}]\n  jwtRules:\n  - issuer: i\n    audiences: [x]\n    jwks: '{KEY}'\n    fromHeaders: [{{name: X-Token, prefix: 'T '}}]\n    fromParams: [t]\n    fromCookies: [c]\n    outputPayloadToHeader: X-Claims\n    outputClaimToHeaders: [{{header: x-sub, claim: sub}}]\n    forwardOriginalToken: true\n    spaceDelimitedClaims: [roles]\n    timeout: 2s"
    ));
    let kinds: Vec<_> = found.scope.targets.iter().map(|target| target.kind).collect();
    assert_eq!(kinds, [TargetKind::Gateway, TargetKind::Service]);
    let rule = JwtRule {
        issuer: "i".into(),
        audiences: vec!["x".into()],
        keys: KeySource::Inline(KEY.into()),
        from_headers: vec![("x-token".into(), "T ".into())],
        from_params: vec!["t".into()],
        from_cookies: vec!["c".into()],
        payload_header: Some("x-claims".into()),
        claim_headers: vec![("x-sub".into(), "sub".into())],
        forward: true,
        space_delimited: vec!["roles".into()],
        timeout: Duration::from_secs(2),
    };
    assert_eq!(found.rules, [rule]);
}

#[test]
fn an_issuer_tells_its_keys_where_nobody_else_does() {
    let keys = |rule: &str| read(&format!("  jwtRules: [{rule}]")).rules.remove(0).keys;
    assert_eq!(
        keys("{issuer: 'https://i.test/a/'}"),
        KeySource::Url("https://i.test/a/.well-known/openid-configuration".into())
    );
    assert_eq!(keys("{issuer: i, jwksUri: 'https://i.test/k'}"), KeySource::Url("https://i.test/k".into()));
}

#[test]
fn what_is_wrong_with_a_rule_has_its_place() {
    for (spec, expected) in [
        (
            "  jwtRules: [{jwks: '{}'}]",
            "f.yaml:5:14: error: spec.jwtRules[0].issuer: is missing\nf.yaml:5:21: error: spec.jwtRules[0].jwks: is no key set: \"keys\" is missing (a JSON object with \"keys\" (RFC 7517))",
        ),
        ("  jwtRules: [{issuer: ''}]", "f.yaml:5:23: error: spec.jwtRules[0].issuer: is empty"),
        (
            "  jwtRules: [{issuer: i}]",
            "f.yaml:5:23: error: spec.jwtRules[0].issuer: there are no keys, and the issuer is no URL that tells them (add jwks or jwksUri)",
        ),
        (
            "  jwtRules: [{issuer: i, jwksUri: 'ftp://a/b'}]",
            "f.yaml:5:35: error: spec.jwtRules[0].jwksUri: \"ftp://a/b\" is no URL of http or https (write it like https://issuer.example/keys)",
        ),
        (
            "  jwtRules: [{issuer: i, jwks: '{\"keys\":[{\"kty\":\"RSA\",\"d\":\"a\"}]}'}]",
            "f.yaml:5:32: error: spec.jwtRules[0].jwks: has a private key, which is its issuer's alone (a JSON object with \"keys\" (RFC 7517))",
        ),
        (
            "  jwtRules: [{issuer: i, jwks: '{\"keys\":[]}'}]",
            "f.yaml:5:32: error: spec.jwtRules[0].jwks: has no key of a kind that is known (RSA, EC, OKP, oct) (a JSON object with \"keys\" (RFC 7517))",
        ),
        (
            "  targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: a}]",
            "f.yaml:5:16: error: spec.targetRefs[0]: a policy cannot be attached to a ServiceEntry of group \"networking.istio.io\" (to a Gateway (group gateway.networking.k8s.io) or a Service (group \"\"))",
        ),
        (
            "  selector: {matchLabels: {a: b}}\n  targetRef: {kind: Service, name: a}",
            "f.yaml:6:14: error: spec.targetRef: a policy that selects workloads is attached to nothing (remove the selector or this)",
        ),
    ] {
        refused(spec, expected);
    }
}
