//! What shapes the requests of a rule: faults, mirrors, origins, answers, redirects, retries.

use std::time::Duration;

use super::*;

#[track_caller]
fn refused(rest: &str, expected: &str) {
    check_place("VirtualService", &route(&format!("    {rest}")), expected);
}

/// The only rule of a document that routes and says `rest`.
#[track_caller]
fn rule(rest: &str) -> HttpRoute {
    only(&route(&format!("    {rest}")))
}

#[track_caller]
fn only(spec: &str) -> HttpRoute {
    let (documents, problems) = parse(&document("VirtualService", spec), "f.yaml", 1);
    assert_eq!(problems, []);
    match documents.into_iter().next().unwrap().spec {
        DocumentSpec::VirtualService(mut service) => service.http.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn faults_are_read_with_their_shares() {
    let fault = rule("fault: {delay: {fixedDelay: 7s, percentage: {value: 0.01}}}").fault.unwrap();
    assert_eq!(fault.delay, Some(Delay { time: Duration::from_secs(7), ppm: 100 }));
    let fault = rule("fault: {abort: {httpStatus: 503, percentage: {value: 100}}}").fault.unwrap();
    assert_eq!(fault.abort, Some(Abort { status: AbortStatus::Http(503), ppm: 1_000_000 }));
    let fault = rule("fault: {abort: {grpcStatus: UNAVAILABLE, percent: 5}}").fault.unwrap();
    assert_eq!(fault.abort, Some(Abort { status: AbortStatus::Grpc(14), ppm: 50_000 }));
    let fault = rule("fault: {abort: {httpStatus: 500}, delay: {fixedDelay: 1s}}").fault.unwrap();
    assert_eq!(fault.effective(), None, "without a share no request is meant");
}

#[test]
fn faults_are_checked() {
    refused("fault: {}", "f.yaml:8:12: error: spec.http[0].fault: injects nothing (add delay or abort)");
    refused(
        "fault: {delay: {fixedDelay: 0s}}",
        "f.yaml:8:33: error: spec.http[0].fault.delay.fixedDelay: must be more than zero",
    );
    refused(
        "fault: {delay: {exponentialDelay: 1s, fixedDelay: 1s}}",
        "f.yaml:8:21: error: spec.http[0].fault.delay.exponentialDelay: is not supported (remove it)",
    );
    refused(
        "fault: {abort: {httpStatus: 600}}",
        "f.yaml:8:33: error: spec.http[0].fault.abort.httpStatus: 600 is out of range (200 to 599 are allowed)",
    );
    refused(
        "fault: {abort: {grpcStatus: UNAVAILABEL}}",
        "f.yaml:8:33: error: spec.http[0].fault.abort.grpcStatus: \"UNAVAILABEL\" is no gRPC status (did you mean \
         UNAVAILABLE?)",
    );
    refused(
        "fault: {abort: {percentage: {value: 1}}}",
        "f.yaml:8:20: error: spec.http[0].fault.abort: says not what is answered (add httpStatus or grpcStatus)",
    );
    refused(
        "fault: {abort: {httpStatus: 500, grpcStatus: OK}}",
        "f.yaml:8:50: error: spec.http[0].fault.abort.grpcStatus: httpStatus is given too (keep one of httpStatus \
         and grpcStatus)",
    );
    refused(
        "fault: {abort: {httpStatus: 500, percentage: {value: 101}}}",
        "f.yaml:8:58: error: spec.http[0].fault.abort.percentage.value: 101 is out of range (0 to 100 are allowed)",
    );
}

#[test]
fn mirrors_are_read_in_both_forms() {
    let of = |rest| -> Vec<(String, u32)> {
        rule(rest).mirrors.iter().map(|mirror| (mirror.host.text.to_string(), mirror.ppm)).collect()
    };
    assert_eq!(of("mirror: {host: b}"), [("b".to_owned(), 1_000_000)]);
    assert_eq!(of("mirror: {host: b}\n    mirrorPercentage: {value: 12.5}"), [("b".to_owned(), 125_000)]);
    assert_eq!(of("mirror: {host: b}\n    mirrorPercent: 3"), [("b".to_owned(), 30_000)]);
    let several = "mirrors: [{destination: {host: b}}, {destination: {host: c}, percentage: {value: 1}}]";
    assert_eq!(of(several), [("b".to_owned(), 1_000_000), ("c".to_owned(), 10_000)]);
}

#[test]
fn mirrors_are_checked() {
    refused(
        "mirror: {host: b}\n    mirrors: [{destination: {host: c}}]",
        "f.yaml:9:14: error: spec.http[0].mirrors: mirror is given too (keep one of mirror and mirrors)",
    );
    refused(
        "mirror: {host: \"*.b\"}",
        "f.yaml:8:20: error: spec.http[0].mirror.host: a destination cannot be a wildcard (name one service)",
    );
    refused("mirrors: [{}]", "f.yaml:8:15: error: spec.http[0].mirrors[0].destination: is missing");
    let missing = document("VirtualService", &route("    mirror: {host: a, subset: v2}"));
    let problem = "f.yaml:8:31: error: spec.http[0].mirror.subset: subset \"v2\" needs a DestinationRule of \"a\" \
                   (apply one that defines it)";
    assert!(found(&missing).contains(&problem.to_owned()), "{:#?}", found(&missing));
}

#[test]
fn origins_are_read_and_checked() {
    let policy = "corsPolicy:\n      allowOrigins: [{exact: https://a.test}, {prefix: https://b}, {regex: .*}]\n      \
                  allowMethods: [GET, PUT]\n      allowHeaders: [x-a, \"*\"]\n      maxAge: 24h\n      \
                  allowCredentials: true\n      unmatchedPreflights: IGNORE";
    let cors = rule(policy).cors.unwrap();
    assert_eq!((cors.origins.len(), cors.methods.len(), cors.headers.len()), (3, 2, 2));
    assert_eq!((cors.max_age, cors.credentials), (Some(Duration::from_secs(86_400)), Some(true)));
    assert!(!cors.forward_unmatched);
    let old = rule("corsPolicy: {allowOrigin: [\"*\"]}").cors.unwrap();
    assert_eq!((old.origins, old.forward_unmatched), (vec![StringMatch::Exact("*".into())], true));
    refused(
        "corsPolicy: {allowMethods: [\"GET, PUT\"]}",
        "f.yaml:8:33: error: spec.http[0].corsPolicy.allowMethods[0]: \"GET, PUT\" is no name (one name in each \
         entry)",
    );
    refused(
        "corsPolicy: {unmatchedPreflights: IGNOR}",
        "f.yaml:8:39: error: spec.http[0].corsPolicy.unmatchedPreflights: \"IGNOR\" is unknown (did you mean \
         IGNORE?)",
    );
    refused(
        "corsPolicy: {allowOrigins: [{}]}",
        "f.yaml:8:33: error: spec.http[0].corsPolicy.allowOrigins[0]: says nothing to compare with (add exact, \
         prefix or regex)",
    );
}

fn instead(action: &str) -> String {
    format!("  hosts: [a]\n  http:\n  - {action}")
}

#[test]
fn an_answer_is_text_or_bytes() {
    let body = |action: &str| match only(&instead(action)).action {
        HttpAction::Direct(direct) => direct.body.to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(body("directResponse: {status: 200, body: {string: hi}}"), b"hi");
    assert_eq!(body("directResponse: {status: 200, body: {bytes: /wA=}}"), [0xff, 0]);
    assert_eq!(body("directResponse: {status: 200}"), b"");
    let refused = |action: &str, expected: &str| check_place("VirtualService", &instead(action), expected);
    refused(
        "directResponse: {status: 200, body: {string: hi, bytes: aGk=}}",
        "f.yaml:7:41: error: spec.http[0].directResponse.body: string and bytes are both given (keep one of them)",
    );
    refused(
        "directResponse: {status: 200, body: {bytes: \"?\"}}",
        "f.yaml:7:49: error: spec.http[0].directResponse.body.bytes: is not base64: Invalid symbol 63, offset 0.",
    );
    refused(
        "directResponse: {status: 200, body: {}}",
        "f.yaml:7:41: error: spec.http[0].directResponse.body: says no body (add string or bytes, or remove body)",
    );
}

#[test]
fn redirects_name_a_path_and_a_port_in_one_way() {
    let of = |action: &str| match only(&instead(action)).action {
        HttpAction::Redirect(redirect) => (redirect.path, redirect.port),
        other => panic!("{other:?}"),
    };
    assert_eq!(of("redirect: {derivePort: FROM_REQUEST_PORT}"), (None, Some(RedirectPort::OfRequest)));
    assert_eq!(of("redirect: {derivePort: FROM_PROTOCOL_DEFAULT}"), (None, Some(RedirectPort::OfScheme)));
    assert_eq!(of("redirect: {prefixRewrite: /b}"), (Some(RedirectPath::Prefix("/b".into())), None));
    let refused = |action: &str, expected: &str| check_place("VirtualService", &instead(action), expected);
    refused(
        "redirect: {port: 80, derivePort: FROM_REQUEST_PORT}",
        "f.yaml:7:38: error: spec.http[0].redirect.derivePort: port is given too (keep one of port and derivePort)",
    );
    refused(
        "redirect: {uri: /a, prefixRewrite: /b}",
        "f.yaml:7:40: error: spec.http[0].redirect.prefixRewrite: uri is given too (keep one of uri and \
         prefixRewrite)",
    );
    refused(
        "redirect: {derivePort: FROM_REQUEST_PROT}",
        "f.yaml:7:28: error: spec.http[0].redirect.derivePort: \"FROM_REQUEST_PROT\" is unknown (did you mean \
         FROM_REQUEST_PORT?)",
    );
}

#[test]
fn retries_avoid_what_was_tried_unless_told_otherwise() {
    assert!(rule("retries: {attempts: 1}").retries.unwrap().avoid_tried);
    assert!(!rule("retries: {retryIgnorePreviousHosts: false}").retries.unwrap().avoid_tried);
}
