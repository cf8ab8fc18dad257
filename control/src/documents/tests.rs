//! Documents are refused with the exact place of what is wrong.

use crate::model::Mesh;

use super::*;

mod gateway_api;
mod shaping;

/// `spec` starts on line 5 of the document.
fn document(kind: &str, spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n{spec}\n")
}

#[track_caller]
fn check_place(kind: &str, spec: &str, expected: &str) {
    check_text(&document(kind, spec), expected);
}

#[track_caller]
fn check_text(yaml: &str, expected: &str) {
    let (documents, problems) = parse(yaml, "f.yaml", 1);
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(found.join("\n"), expected, "for:\n{yaml}");
    assert_eq!(documents.len(), 0, "a broken document is left out");
}

fn route(rest: &str) -> String {
    format!("  hosts: [a]\n  http:\n  - route: [{{destination: {{host: a}}}}]\n{rest}")
}

#[test]
fn what_is_no_document_is_refused() {
    check_text("a: [1,\n", "f.yaml:1:4: error: bad YAML: unclosed bracket '['");
    check_text("- 1", "f.yaml:1:1: error: an object is wanted, not a list");
    check_text("kind: Gateway", "f.yaml:1:1: error: apiVersion: is missing");
    check_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}",
        "f.yaml:2:7: error: kind: kind v1 Service is not supported (networking.istio.io/v1 VirtualService, \
         DestinationRule, ServiceEntry, WorkloadEntry, WorkloadGroup, Sidecar, Gateway; security.istio.io/v1 \
         PeerAuthentication, RequestAuthentication, AuthorizationPolicy; telemetry.istio.io/v1 Telemetry; gateway.networking.k8s.io/v1 GatewayClass, Gateway, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, ReferenceGrant; v1 Namespace, Secret, ConfigMap; weft.dev/v1 \
         EndpointPolicy, HealthCheckPolicy, RateLimitPolicy are)",
    );
    check_text(
        "apiVersion: networking.istio.io/v2\nkind: Gateway\nmetadata: {name: a}",
        "f.yaml:1:13: error: apiVersion: version \"v2\" is not known (known are v1, v1beta1, v1alpha3)",
    );
    check_text(
        "apiVersion: networking.istio.io/v1\nkind: VirtualServce",
        "f.yaml:2:7: error: kind: kind VirtualServce is not supported (did you mean VirtualService?)",
    );
    check_text(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: A}\nspec: {servers: []}",
        "f.yaml:3:18: error: metadata.name: \"A\" is no name (lower-case letters, digits, - and . are allowed)",
    );
    check_text(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a, creationTimestamp: today}\nspec: \
         {servers: []}",
        "f.yaml:3:40: error: metadata.creationTimestamp: \"today\" is no time (write it like \
         2026-01-31T12:00:00Z)",
    );
    check_text(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nspec: {servers: []}",
        "f.yaml:1:1: error: metadata: is missing",
    );
}

#[test]
fn virtual_services_are_checked() {
    let vs = |spec: &str, expected: &str| check_place("VirtualService", spec, expected);
    vs(
        "  http: [{delegate: {name: b}}]",
        "f.yaml:5:28: error: spec.http[0].delegate.name: delegates are not nested (only a document with hosts delegates)",
    );
    vs(
        "  gateways: [g]\n  http: [{directResponse: {status: 200}}]",
        "f.yaml:5:13: error: spec.gateways: a document without hosts has http alone (requests and their gateways are the \
         affair of the document that delegates; or add hosts)",
    );
    vs(
        "  host: [a]\n  hosts: [a]\n  http: [{directResponse: {status: 200}}]",
        "f.yaml:5:3: error: spec.host: unknown field (did you mean hosts?)",
    );
    vs(
        "  hosts: [a, b, a]\n  http: [{directResponse: {status: 200}}]",
        "f.yaml:5:17: error: spec.hosts[2]: host \"a\" is named twice (remove one)",
    );
    vs(
        "  hosts: [a_b..c]\n  http: [{directResponse: {status: 200}}]",
        "f.yaml:5:11: error: spec.hosts[0]: \"a_b..c\" is no host name (labels of letters, digits and - joined \
         by dots)",
    );
    vs("  hosts: [a]", "f.yaml:5:3: error: spec: has no routes (add spec.http, spec.tls or spec.tcp)");
    vs(
        &route("    timout: 1s"),
        "f.yaml:8:5: error: spec.http[0].timout: unknown field (did you mean timeout?)",
    );
    vs(
        &route("    timeout: 10"),
        "f.yaml:8:14: error: spec.http[0].timeout: a string is wanted, not a number (put it in quotes)",
    );
    vs(
        &route("    timeout: -10s"),
        "f.yaml:8:14: error: spec.http[0].timeout: duration \"-10s\" is negative (write it like 10s, 1.5s, 200ms \
         or 1h30m)",
    );
    vs(
        &route("    match:\n    - uri: {regex: \"a(\"}"),
        "f.yaml:9:20: error: spec.http[0].match[0].uri.regex: bad regular expression \"a(\": unclosed group (RE2 \
         syntax is wanted)",
    );
    vs(
        &route("    match:\n    - uri: {exact: /a, prefix: /b}"),
        "f.yaml:9:12: error: spec.http[0].match[0].uri: compares in more than one way (keep one of exact, prefix \
         and regex)",
    );
    vs(
        &route("    match:\n    - headers: {\"a b\": {exact: c}}"),
        "f.yaml:9:17: error: spec.http[0].match[0].headers[a b]: \"a b\" is no header name",
    );
    vs(
        &route("    match:\n    - headers: {x: {exact: 1}}"),
        "f.yaml:9:28: error: spec.http[0].match[0].headers[x].exact: a string is wanted, not a number (put it in \
         quotes)",
    );
    vs(
        &route("    redirect: {uri: /}"),
        "f.yaml:8:15: error: spec.http[0].redirect: a rule does one thing (keep one of route, redirect, \
         directResponse and delegate)",
    );
    vs(
        "  hosts: [a]\n  http:\n  - name: x",
        "f.yaml:7:5: error: spec.http[0]: does nothing (add route, redirect, directResponse or delegate)",
    );
    vs(
        "  hosts: [a]\n  http:\n  - redirect: {uri: /, redirectCode: 200}",
        "f.yaml:7:38: error: spec.http[0].redirect.redirectCode: 200 is no redirect (301, 302, 303, 307 and 308 \
         are)",
    );
    vs(
        &route("    retries: {attempts: 3, retryOn: \"5xx,conect-failure\"}"),
        "f.yaml:8:37: error: spec.http[0].retries.retryOn: \"conect-failure\" is no retry condition (did you mean \
         connect-failure?)",
    );
    vs(
        &route("    headers: {request: {add: {Host: a}}}"),
        "f.yaml:8:31: error: spec.http[0].headers.request.add[Host]: host cannot be changed as a header (rewrite \
         the authority or host name)",
    );
    vs(
        "  hosts: [a]\n  tls: [{route: [{destination: {host: a}}]}]",
        "f.yaml:6:9: error: spec.tls[0].match: is missing",
    );
    let tls =
        |rest: &str| format!("  hosts: [a.b]\n  tls:\n  - route: [{{destination: {{host: a}}}}]\n{rest}");
    vs(
        &tls("    match: [{sniHosts: [a.c]}]"),
        "f.yaml:8:25: error: spec.tls[0].match[0].sniHosts[0]: \"a.c\" is none of the hosts of the document (add it to spec.hosts)",
    );
    vs(
        &tls("    match: [{sniHosts: []}]"),
        "f.yaml:8:24: error: spec.tls[0].match[0].sniHosts: names no host (name at least one)",
    );
    vs(
        &tls("    match: [{sniHosts: [a.b], destinationSubnets: [x]}]"),
        "f.yaml:8:52: error: spec.tls[0].match[0].destinationSubnets[0]: \"x\" is no subnet (write it like 10.0.0.0/8)",
    );
    vs(
        &tls("    match: [{sniHosts: [a.b], sourceSubnet: 10.0.0.0/8}]"),
        "f.yaml:8:31: error: spec.tls[0].match[0].sourceSubnet: is not supported (remove it)",
    );
    vs(
        "  hosts: [a]\n  tcp: [{route: [{destination: {host: a}, headers: {request: {set: {a: b}}}}]}]",
        "f.yaml:6:17: error: spec.tcp[0].route: connections have no headers (remove headers)",
    );
}

#[test]
fn routes_are_checked() {
    let vs = |spec: &str, expected: &str| {
        check_place("VirtualService", &format!("  hosts: [a]\n  http:\n  - route:\n{spec}"), expected);
    };
    vs(
        "    - destination: {host: a}\n      weight: 50\n    - destination: {host: b}\n      weight: 40",
        "f.yaml:8:7: error: spec.http[0].route: the weights sum to 90, not to 100 (make them sum to 100)",
    );
    vs(
        "    - destination: {host: a}\n      weight: -1",
        "f.yaml:9:15: error: spec.http[0].route[0].weight: -1 is out of range (0 to 1000000 are allowed)",
    );
    vs(
        "    - destination: {host: a, port: {number: 70000}}",
        "f.yaml:8:45: error: spec.http[0].route[0].destination.port.number: 70000 is out of range (1 to 65535 are \
         allowed)",
    );
    vs(
        "    - destination: {host: \"*.a\"}",
        "f.yaml:8:27: error: spec.http[0].route[0].destination.host: a destination cannot be a wildcard (name one \
         service)",
    );
    vs("    - weight: 100", "f.yaml:8:7: error: spec.http[0].route[0].destination: is missing");
    vs(
        "    - destination: {host: a, subset: 1}",
        "f.yaml:8:38: error: spec.http[0].route[0].destination.subset: a string is wanted, not a number (put it in \
         quotes)",
    );
}

#[test]
fn the_other_kinds_are_checked() {
    let dr = |spec: &str, expected: &str| check_place("DestinationRule", spec, expected);
    dr("  subsets: []", "f.yaml:5:3: error: spec.host: is missing");
    dr(
        "  host: a\n  subsets: [{name: v1}, {name: v1}]",
        "f.yaml:6:32: error: spec.subsets[1].name: subset \"v1\" is named twice (remove one)",
    );
    dr(
        "  host: a\n  subsets: [{name: v1, labels: {version: 1}}]",
        "f.yaml:6:42: error: spec.subsets[0].labels[version]: a string is wanted, not a number (put it in quotes)",
    );
    dr(
        "  host: a\n  trafficPolicy: {loadBalancer: {simple: RANDON}}",
        "f.yaml:6:42: error: spec.trafficPolicy.loadBalancer.simple: \"RANDON\" is no load balancer (did you mean \
         RANDOM?)",
    );
    dr(
        "  host: a\n  trafficPolicy: {outlierDetection: {interval: 0s}}",
        "f.yaml:6:48: error: spec.trafficPolicy.outlierDetection.interval: is too short (at least 1ms)",
    );
    dr(
        "  host: a\n  trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0s}}}",
        "f.yaml:6:58: error: spec.trafficPolicy.connectionPool.tcp.connectTimeout: must be more than zero",
    );
    let port = "  ports: [{number: 80, name: http, protocol: HTTP}]";
    let policy = |policy: &str, expected: &str| {
        check_place("DestinationRule", &format!("  host: a\n  trafficPolicy:\n    {policy}"), expected);
    };
    policy(
        "loadBalancer: {consistentHash: {httpHeaderName: x, useSourceIp: true}}",
        "f.yaml:7:36: error: spec.trafficPolicy.loadBalancer.consistentHash: hashes more than one thing (give one of \
         httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName)",
    );
    policy(
        "loadBalancer: {consistentHash: {}}",
        "f.yaml:7:36: error: spec.trafficPolicy.loadBalancer.consistentHash: says not what is hashed (give one of \
         httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName)",
    );
    policy(
        "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 100}}}",
        "f.yaml:7:76: error: spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: 100 is no prime (a \
         prime such as 65537 is wanted)",
    );
    policy(
        "loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}",
        "f.yaml:7:52: error: spec.trafficPolicy.loadBalancer.consistentHash: simple is given too (keep one of simple \
         and consistentHash)",
    );
    policy(
        "loadBalancer: {warmup: {duration: 10s, aggression: 0.5}}",
        "f.yaml:7:56: error: spec.trafficPolicy.loadBalancer.warmup.aggression: 0.5 is out of range (1 to 100 are \
         allowed)",
    );
    policy(
        "retryBudget: {percent: 101}",
        "f.yaml:7:28: error: spec.trafficPolicy.retryBudget.percent: 101 is out of range (0 to 100 are allowed)",
    );
    policy(
        "loadBalancer: {simple: PASSTHROUGH}",
        "f.yaml:7:28: error: spec.trafficPolicy.loadBalancer.simple: PASSTHROUGH is not supported (use \
         ROUND_ROBIN, LEAST_REQUEST or RANDOM)",
    );
    policy(
        "loadBalancer: {localityLbSetting: {enable: true}}",
        "f.yaml:7:40: error: spec.trafficPolicy.loadBalancer.localityLbSetting.enable: unknown field (did you mean \
         enabled?)",
    );
    policy(
        "tls: {mode: STRICT}",
        "f.yaml:7:17: error: spec.trafficPolicy.tls.mode: mode \"STRICT\" is not supported (DISABLE, SIMPLE, MUTUAL or \
         ISTIO_MUTUAL)",
    );
    policy(
        "tls: {mode: MUTUAL}",
        "f.yaml:7:10: error: spec.trafficPolicy.tls: needs a certificate to show (set clientCertificate and privateKey, or credentialName)",
    );
    policy(
        "tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}",
        "f.yaml:7:10: error: spec.trafficPolicy.tls: insecureSkipVerify leaves nothing to verify (remove it, or what is to be verified)",
    );
    policy(
        "portLevelSettings: [{port: {number: 80}}, {port: {number: 80}}]",
        "f.yaml:7:47: error: spec.trafficPolicy.portLevelSettings[1]: port 80 is set twice (keep one)",
    );
    policy(
        "connectionPool: {tcp: {maxConnections: -1}}",
        "f.yaml:7:44: error: spec.trafficPolicy.connectionPool.tcp.maxConnections: -1 is out of range (0 to \
         2147483647 are allowed)",
    );
    policy(
        "connectionPool: {http: {h2UpgradePolicy: ALWAYS}}",
        "f.yaml:7:46: error: spec.trafficPolicy.connectionPool.http.h2UpgradePolicy: \"ALWAYS\" is no policy \
         (DEFAULT, UPGRADE or DO_NOT_UPGRADE)",
    );
    policy(
        "connectionPool: {http: {useClientProtocol: 1}}",
        "f.yaml:7:48: error: spec.trafficPolicy.connectionPool.http.useClientProtocol: true or false is wanted, not a number",
    );
    policy(
        "connectionPool: {tcp: {tcpKeepalive: {probes: 200}}}",
        "f.yaml:7:51: error: spec.trafficPolicy.connectionPool.tcp.tcpKeepalive.probes: 200 is out of range (1 to \
         127 are allowed)",
    );
    check_place(
        "ServiceEntry",
        &format!("  hosts: [a.b]\n{port}\n  resolution: STATIC\n  endpoints: [{{address: c.d}}]"),
        "f.yaml:8:25: error: spec.endpoints[0].address: \"c.d\" is no IP address (or set spec.resolution: DNS)",
    );
    check_place(
        "ServiceEntry",
        "  hosts: [a.b]\n  ports:\n  - {number: 80, name: http}\n  - {number: 80, name: web}",
        "f.yaml:8:5: error: spec.ports[1]: port 80 (web) is named twice (remove one)",
    );
    let server = |protocol: &str, rest: &str| {
        format!(
            "  servers:\n  - hosts: [a]\n    port: {{number: 443, name: a, protocol: {protocol}}}\n{rest}"
        )
    };
    for (protocol, rest, expected) in [
        ("HTTPS", "", "f.yaml:6:5: error: spec.servers[0]: says nothing of its TLS (add tls.mode)"),
        (
            "HTTP",
            "    tls: {mode: SIMPLE, credentialName: a}",
            "f.yaml:8:10: error: spec.servers[0].tls: protocol HTTP is plain text (set port.protocol: HTTPS)",
        ),
        (
            "UDP",
            "",
            "f.yaml:7:44: error: spec.servers[0].port.protocol: protocol \"UDP\" is not supported (HTTP, HTTPS, HTTP2, GRPC, TCP or TLS)",
        ),
        (
            "HTTPS",
            "    tls: {mode: SIMPLE}",
            "f.yaml:8:10: error: spec.servers[0].tls: needs a certificate (set credentialName, or serverCertificate and privateKey)",
        ),
        (
            "HTTPS",
            "    tls: {mode: AUTO_PASSTHROUGH}",
            "f.yaml:8:17: error: spec.servers[0].tls.mode: mode \"AUTO_PASSTHROUGH\" is not supported (PASSTHROUGH, SIMPLE, MUTUAL, OPTIONAL_MUTUAL or ISTIO_MUTUAL)",
        ),
        (
            "HTTPS",
            "    tls: {mode: SIMPLE, serverCertificate: /a}",
            "f.yaml:8:10: error: spec.servers[0].tls: serverCertificate and privateKey belong together (set both)",
        ),
        (
            "HTTPS",
            "    tls: {mode: MUTUAL, serverCertificate: /a, privateKey: /b}",
            "f.yaml:8:10: error: spec.servers[0].tls: needs caCertificates to verify clients with (add it)",
        ),
        (
            "HTTPS",
            "    tls: {mode: SIMPLE, serverCertificate: a, privateKey: /b}",
            "f.yaml:8:44: error: spec.servers[0].tls.serverCertificate: \"a\" is no whole path (begin it with /)",
        ),
        (
            "TLS",
            "    tls: {mode: PASSTHROUGH, credentialName: a}",
            "f.yaml:8:10: error: spec.servers[0].tls: certificates are not used where TLS goes through (set mode: SIMPLE)",
        ),
        (
            "HTTPS",
            "    tls: {mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}",
            "f.yaml:8:10: error: spec.servers[0].tls: minProtocolVersion is above maxProtocolVersion",
        ),
        (
            "HTTP",
            "    bind: unix:///a",
            "f.yaml:8:11: error: spec.servers[0].bind: \"unix:///a\" is no IP address",
        ),
    ] {
        check_place("Gateway", &server(protocol, rest), expected);
    }
}

#[test]
fn one_broken_document_leaves_the_others_and_lines_count_on() {
    let good = document("DestinationRule", "  host: a");
    let yaml = format!("# first\n{good}---\nkind: [\n---\n{}---\n{good}", good.replace("name: a", "name: b"));
    let (documents, problems) = parse(&yaml, "f.yaml", 10);
    let lines: Vec<u32> = documents.iter().map(|document| document.line).collect();
    assert_eq!(lines, [10, 19]);
    assert_eq!(problems.len(), 2);
    assert_eq!(problems[0].line, 17, "{}", problems[0]);
    assert_eq!(
        problems[1].to_string(),
        "f.yaml:27:18: error: metadata.name: DestinationRule/default/a is defined twice (rename or remove one)"
    );
}

#[test]
fn every_version_that_istio_accepts_is_read() {
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let yaml = document("DestinationRule", "  host: a").replace("/v1", &format!("/{version}"));
        assert_eq!(parse(&yaml, "f", 1).1, []);
    }
}

#[test]
fn an_alias_bomb_is_an_error() {
    let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..9 {
        let items = vec![format!("*a{}", i - 1); 10].join(", ");
        yaml.push_str(&format!("a{i}: &a{i} [{items}]\n"));
    }
    let (documents, problems) = parse(&yaml, "f", 1);
    assert_eq!((documents.len(), problems.len()), (0, 1));
}

fn found(yaml: &str) -> Vec<String> {
    let (documents, problems) = parse(yaml, "f.yaml", 1);
    assert_eq!(problems, []);
    check(&documents.into_iter().collect(), &Mesh::default()).iter().map(ToString::to_string).collect()
}

#[test]
fn a_route_to_a_missing_subset_is_an_error_with_its_place() {
    let vs = document(
        "VirtualService",
        "  hosts: [a]\n  http:\n  - route: [{destination: {host: a, subset: v2}}]",
    );
    let alone = found(&vs);
    assert!(
        alone.contains(
            &"f.yaml:7:45: error: spec.http[0].route[0].destination.subset: subset \"v2\" needs a DestinationRule \
              of \"a\" (apply one that defines it)"
                .to_owned()
        ),
        "{alone:#?}"
    );
    let dr = document("DestinationRule", "  host: a.default.svc.cluster.local\n  subsets: [{name: v1}]");
    let with_rule = found(&format!("{vs}---\n{dr}"));
    assert!(
        with_rule
            .iter()
            .any(|p| p.contains("no DestinationRule of \"a\" defines subset \"v2\" (did you mean v1?)"))
    );
    let healed = found(&format!("{vs}---\n{}", dr.replace("v1}", "v2}")));
    assert!(healed.iter().all(|problem| problem.contains("warning")), "{healed:#?}");
}

#[test]
fn a_host_routed_twice_is_a_conflict_that_the_first_by_name_wins() {
    let first = document("VirtualService", "  hosts: [a]\n  http: [{directResponse: {status: 200}}]");
    let second = first.replace("name: a", "name: b");
    let problems = found(&format!("{second}---\n{first}"));
    let conflict = "f.yaml:5:11: warning: spec.hosts[0]: conflict: VirtualService/default/a routes \"a\" already, and \
                    it wins (merge the two documents)";
    assert!(problems.contains(&conflict.to_owned()), "{problems:#?}");
}

#[test]
fn policies_of_health_checks_are_checked() {
    let check = |spec: &str, expected: &str| {
        let head = "apiVersion: weft.dev/v1\nkind: HealthCheckPolicy\nmetadata: {name: a}\nspec:\n  host: a\n  checks:\n";
        check_text(&format!("{head}{spec}\n"), expected);
    };
    check(
        "  - interval: 5s",
        "f.yaml:7:5: error: spec.checks[0]: says not what is asked (give one of httpGet, tcpSocket and grpc)",
    );
    check(
        "  - {tcpSocket: {}, grpc: {}}",
        "f.yaml:7:5: error: spec.checks[0]: asks more than one thing (give one of httpGet, tcpSocket and grpc)",
    );
    check(
        "  - {tcpSocket: {}}\n  - {port: {number: 80}, tcpSocket: {}}\n  - {port: {number: 80}, grpc: {}}",
        "f.yaml:9:5: error: spec.checks[2]: another check is for the same port (keep one: proxies make one check for a \
         port)",
    );
    check(
        "  - {httpGet: {path: healthz}}",
        "f.yaml:7:22: error: spec.checks[0].httpGet.path: \"healthz\" is no path (it begins with /)",
    );
    check(
        "  - {httpGet: {expectedStatuses: [\"299-200\"]}}",
        "f.yaml:7:35: error: spec.checks[0].httpGet.expectedStatuses[0]: \"299-200\" is no range of statuses (write it \
         like \"200\" or \"200-299\")",
    );
    check(
        "  - {httpGet: {scheme: HTTPS}}",
        "f.yaml:7:24: error: spec.checks[0].httpGet.scheme: only HTTP is supported (remove it)",
    );
    check(
        "  - {tcpSocket: {host: b}}",
        "f.yaml:7:18: error: spec.checks[0].tcpSocket.host: is not supported (remove it)",
    );
    check(
        "  - {tcpSocket: {}, interval: 0s}",
        "f.yaml:7:31: error: spec.checks[0].interval: must be more than zero",
    );
    check(
        "  - {tcpSocket: {}, healthyThreshold: 0}",
        "f.yaml:7:39: error: spec.checks[0].healthyThreshold: 0 is out of range (1 to 2147483647 are allowed)",
    );
}

#[test]
fn workloads_are_checked() {
    check_place("WorkloadEntry", "  labels: {a: b}", "f.yaml:5:3: error: spec.address: is missing");
    check_place(
        "WorkloadGroup",
        "  probe: {tcpSocket: {port: 80}}",
        "f.yaml:5:3: error: spec.template: is missing",
    );
    check_place(
        "WorkloadGroup",
        "  template: {}\n  probe: {exec: {command: [a]}}",
        "f.yaml:6:17: error: spec.probe.exec: proxies run no commands (use httpGet, tcpSocket or grpc)",
    );
    let several = "  hosts: [a.test]\n  resolution: DNS_ROUND_ROBIN\n  ports: [{number: 80, name: http}]\n  \
                   endpoints: [{address: b.test}, {address: c.test}]";
    let pattern = |host: &str, rest: &str| {
        format!("  hosts: [\"{host}\"]\n{rest}  ports: [{{number: 80, name: http}}]")
    };
    for (host, rest, expected) in [
        (
            "*.a.test",
            "  resolution: DNS\n",
            "f.yaml:5:11: error: spec.hosts[0]: nobody can resolve a pattern (set spec.resolution: NONE, or name each host)",
        ),
        ("*", "", "f.yaml:5:11: error: spec.hosts[0]: stands for every host (name a suffix: *.example.com)"),
    ] {
        check_place("ServiceEntry", &pattern(host, rest), expected);
    }
    check_place(
        "ServiceEntry",
        several,
        "f.yaml:8:34: error: spec.endpoints[1]: DNS_ROUND_ROBIN takes one endpoint, or the host itself (use DNS)",
    );
}

#[test]
fn a_sidecar_says_no_more_than_is_done() {
    check_place(
        "Sidecar",
        "  egress:\n  - hosts: [a]",
        "f.yaml:6:13: error: spec.egress[0].hosts[0]: \"a\" has no namespace (write ./host, */host or name/host)",
    );
    for (entry, expected) in [
        (
            "defaultEndpoint: '10.0.0.1:80'",
            "f.yaml:5:79: error: spec.ingress[0].defaultEndpoint: \"10.0.0.1:80\" is not beside the proxy (write \
             127.0.0.1:PORT, [::1]:PORT or unix:///path)",
        ),
        (
            "bind: 10.0.0.1, defaultEndpoint: 'unix:///a'",
            "f.yaml:5:68: error: spec.ingress[0].bind: captured ports have no address of their own (set captureMode: \
             NONE, or remove it)",
        ),
        (
            "tls: {}, defaultEndpoint: 'unix:///a'",
            "f.yaml:5:62: error: spec.ingress[0].tls: is not supported (remove it)",
        ),
    ] {
        let entry = format!("  ingress: [{{port: {{number: 80, name: http, protocol: HTTP}}, {entry}}}]");
        check_place("Sidecar", &entry, expected);
    }
    check_place(
        "Sidecar",
        "  egress: [{hosts: [./a]}, {hosts: [./b]}]",
        "f.yaml:5:12: error: spec.egress[0]: only the last entry may be without a port (give it one, or move its hosts)",
    );
    check_place(
        "Sidecar",
        "  egress: [{hosts: [./a], captureMode: NONE}]",
        "f.yaml:5:40: error: spec.egress[0].captureMode: only DEFAULT is supported (the proxy's own settings say what it \
         captures)",
    );
}

#[test]
fn a_document_is_exported_to_namespaces() {
    check_place(
        "DestinationRule",
        "  host: a\n  exportTo: [\"*\", b]",
        "f.yaml:6:14: error: spec.exportTo[0]: \"*\" stands alone (remove it, or the others)",
    );
    check_place(
        "DestinationRule",
        "  host: a\n  exportTo: [B]",
        "f.yaml:6:14: error: spec.exportTo[0]: \"B\" is no namespace (a name, . for this namespace, * for all, ~ for none)",
    );
}
