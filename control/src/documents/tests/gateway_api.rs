//! Documents of the Gateway API are refused with the exact place of what is wrong.

use super::super::{gateway_api::*, *};
use super::check_text;

/// `spec` starts on line 5 of the document.
fn document(kind: &str, spec: &str) -> String {
    format!("apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n{spec}\n")
}

#[track_caller]
fn route(rules: &str, expected: &str) {
    let parents = "  parentRefs: [{group: \"\", kind: Service, name: a}]";
    check_text(&document("HTTPRoute", &format!("{parents}\n  rules:\n{rules}")), expected);
}

#[track_caller]
fn listener(listener: &str, expected: &str) {
    check_text(
        &document("Gateway", &format!("  gatewayClassName: weft\n  listeners:\n  - {listener}")),
        expected,
    );
}

#[test]
fn parents_are_checked() {
    let route = |parents: &str, expected: &str| {
        check_text(&document("HTTPRoute", &format!("  parentRefs: {parents}")), expected);
    };
    route("[]", "f.yaml:5:15: error: spec.parentRefs: attaches to nothing (name a Gateway or a Service)");
    route(
        "[{kind: Gatway, name: a}]",
        "f.yaml:5:16: error: spec.parentRefs[0]: a route cannot attach to a Gatway of group \
         \"gateway.networking.k8s.io\" (to a Gateway (gateway.networking.k8s.io) or a Service (group \"\"))",
    );
    route(
        "[{group: \"\", kind: Service, name: a, sectionName: b}]",
        "f.yaml:5:65: error: spec.parentRefs[0].sectionName: a Service has no sections (give its port)",
    );
    route("[{name: a}, {name: a}]", "f.yaml:5:27: error: spec.parentRefs[1]: is named twice (remove one)");
    check_text(
        &document("HTTPRoute", "  parentRefs: [{name: a}]\n  hostnames: [10.0.0.1]"),
        "f.yaml:6:15: error: spec.hostnames[0]: \"10.0.0.1\" is no host name (name a host or *.suffix; none is all)",
    );
}

#[test]
fn rules_of_requests_are_checked() {
    route(
        "  - matches: [{path: {value: a}}]",
        "f.yaml:7:30: error: spec.rules[0].matches[0].path.value: \"a\" is no path (begin it with /)",
    );
    route(
        "  - matches: [{path: {value: /a//b}}]",
        "f.yaml:7:30: error: spec.rules[0].matches[0].path.value: \"/a//b\" has \"//\" in it (write the path in its \
         normal form)",
    );
    route(
        "  - matches: [{path: {type: Prefix, value: /a}}]",
        "f.yaml:7:29: error: spec.rules[0].matches[0].path.type: \"Prefix\" is no path match (Exact, PathPrefix or \
         RegularExpression)",
    );
    route(
        "  - matches: [{method: get}]",
        "f.yaml:7:24: error: spec.rules[0].matches[0].method: \"get\" is no method (GET, HEAD, POST, PUT, DELETE, \
         CONNECT, OPTIONS, TRACE, PATCH)",
    );
    route(
        "  - matches: [{headers: [{name: x, value: a}, {name: X, value: b}]}]",
        "f.yaml:7:47: error: spec.rules[0].matches[0].headers[1]: \"x\" is named twice (remove one)",
    );
    route(
        "  - timeouts: {request: 1s, backendRequest: 2s}",
        "f.yaml:7:15: error: spec.rules[0].timeouts: a try may take longer than the request (make backendRequest the \
         shorter)",
    );
    route(
        "  - sessionPersistence: {}",
        "f.yaml:7:5: error: spec.rules[0].sessionPersistence: is not supported (remove it)",
    );
    route(
        "  - backendRefs: [{name: a}]",
        "f.yaml:7:19: error: spec.rules[0].backendRefs[0]: names no port (give the Service's port)",
    );
    route(
        "  - backendRefs: [{name: a, port: 80, filters: [{type: RequestRedirect, requestRedirect: {}}]}]",
        "f.yaml:7:49: error: spec.rules[0].backendRefs[0].filters[0]: filter RequestRedirect is not supported for a \
         single backend (give it to the rule, or split the rule)",
    );
    route(
        "  - name: x\n  - name: x",
        "f.yaml:8:5: error: spec.rules[1].name: \"x\" is used twice (rename one)",
    );
}

#[test]
fn filters_are_checked() {
    let filters = |filters: &str, expected: &str| route(&format!("  - filters: {filters}"), expected);
    filters(
        "[{type: ExtensionRef, extensionRef: {group: a, kind: b, name: c}}]",
        "f.yaml:7:22: error: spec.rules[0].filters[0].type: filters of other APIs are not supported (use one of the \
         standard filters)",
    );
    filters(
        "[{type: URLRewrit}]",
        "f.yaml:7:22: error: spec.rules[0].filters[0].type: \"URLRewrit\" is no filter (did you mean URLRewrite?)",
    );
    filters(
        "[{type: URLRewrite, requestRedirect: {}}]",
        "f.yaml:7:15: error: spec.rules[0].filters[0].urlRewrite: is missing\n\
         f.yaml:7:34: error: spec.rules[0].filters[0].requestRedirect: unknown field (known are type, urlRewrite)",
    );
    filters(
        "[{type: URLRewrite, urlRewrite: {hostname: a.b}}, {type: URLRewrite, urlRewrite: {hostname: a.b}}]",
        "f.yaml:7:64: error: spec.rules[0].filters[1]: filter URLRewrite is given twice (keep one)",
    );
    filters(
        "[{type: RequestRedirect, requestRedirect: {statusCode: 200}}]",
        "f.yaml:7:69: error: spec.rules[0].filters[0].requestRedirect.statusCode: 200 is no redirect (301, 302, 303, \
         307 and 308 are)",
    );
    filters(
        "[{type: RequestRedirect, requestRedirect: {}}]\n    backendRefs: [{name: a, port: 80}]",
        "f.yaml:7:5: error: spec.rules[0]: redirects, and has backends (keep one of the two)",
    );
    filters(
        "[{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]",
        "f.yaml:7:5: error: spec.rules[0]: both redirects and rewrites (keep one of the filters)",
    );
    filters(
        "[{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]\n    matches: \
         [{path: {type: Exact, value: /a}}]",
        "f.yaml:7:5: error: spec.rules[0]: replaces a prefix, but not every match has one (match by PathPrefix, or \
         ReplaceFullPath)",
    );
    filters(
        "[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: a}]}}]",
        "f.yaml:7:82: error: spec.rules[0].filters[0].requestHeaderModifier.set[0].name: host cannot be changed as a \
         header (rewrite the authority or host name)",
    );
}

#[test]
fn copies_and_origins_are_checked() {
    let mirror = |mirror: &str, expected: &str| {
        let filter = format!("  - filters: [{{type: RequestMirror, requestMirror: {{{mirror}}}}}]");
        route(&filter, expected);
    };
    mirror(
        "backendRef: {name: a, port: 80, weight: 2}",
        "f.yaml:7:85: error: spec.rules[0].filters[0].requestMirror.backendRef.weight: unknown field (known are group, \
         kind, namespace, name, port)",
    );
    mirror(
        "backendRef: {name: a, port: 80}, percent: 1, fraction: {numerator: 1}",
        "f.yaml:7:108: error: spec.rules[0].filters[0].requestMirror.fraction: percent is given too (keep one of \
         percent and fraction)",
    );
    mirror(
        "backendRef: {name: a, port: 80}, fraction: {numerator: 3, denominator: 2}",
        "f.yaml:7:96: error: spec.rules[0].filters[0].requestMirror.fraction: is more than all (make numerator the \
         smaller)",
    );
    let cors = |cors: &str, expected: &str| {
        route(&format!("  - filters: [{{type: CORS, cors: {{{cors}}}}}]"), expected);
    };
    cors(
        "allowOrigins: [a.test]",
        "f.yaml:7:50: error: spec.rules[0].filters[0].cors.allowOrigins[0]: \"a.test\" is no origin (write \
         https://host, https://*.host or *)",
    );
    cors(
        "allowOrigins: ['*'], exposeHeaders: ['*'], allowCredentials: true",
        "f.yaml:7:34: error: spec.rules[0].filters[0].cors.exposeHeaders: no browser takes * where credentials are \
         allowed (name each)",
    );
    cors(
        "allowMethods: ['*', GET]",
        "f.yaml:7:34: error: spec.rules[0].filters[0].cors.allowMethods: allows every name, and names others (keep one \
         of the two)",
    );
    check_text(
        &document(
            "GRPCRoute",
            "  parentRefs: [{name: a}]\n  rules:\n  - filters: [{type: CORS, cors: {allowOrigins: ['*']}}]",
        ),
        "f.yaml:7:5: error: spec.rules[0]: a GRPCRoute has no filter CORS (remove the filter)",
    );
}

#[test]
fn rules_of_calls_and_connections_are_checked() {
    let parents = "  parentRefs: [{name: a}]";
    let grpc = |rule: &str, expected: &str| {
        check_text(&document("GRPCRoute", &format!("{parents}\n  rules:\n  - {rule}")), expected);
    };
    grpc(
        "matches: [{method: {}}]",
        "f.yaml:7:24: error: spec.rules[0].matches[0].method: names neither service nor method (name one of the two)",
    );
    grpc(
        "matches: [{method: {service: a/b}}]",
        "f.yaml:7:34: error: spec.rules[0].matches[0].method.service: \"a/b\" is no name of a service or method \
         (letters, digits, _ and dots)",
    );
    grpc(
        "filters: [{type: URLRewrite, urlRewrite: {hostname: a.b}}]",
        "f.yaml:7:5: error: spec.rules[0]: a call is neither redirected nor rewritten (remove the filter)",
    );
    check_text(
        &document("TLSRoute", &format!("{parents}\n  rules: [{{backendRefs: [{{name: a, port: 443}}]}}]")),
        "f.yaml:5:3: error: spec.hostnames: names no server (name at least one)",
    );
    check_text(
        &document("TCPRoute", &format!("{parents}\n  rules: []")),
        "f.yaml:6:10: error: spec.rules: 0 rules (give exactly one: nothing tells two apart)",
    );
    check_text(
        &document("ReferenceGrant", "  from: []\n  to: [{group: \"\", kind: Service}]"),
        "f.yaml:5:9: error: spec.from: is empty (name at least one)",
    );
}

#[test]
fn gateways_are_checked() {
    listener(
        "{name: a, port: 80, protocol: HTTP, hostname: \"*\"}",
        "f.yaml:7:51: error: spec.listeners[0].hostname: \"*\" is no host name (name a host or *.suffix; none is all)",
    );
    listener(
        "{name: a, port: 80, protocol: HTTP, tls: {certificateRefs: [{name: a}]}}",
        "f.yaml:7:46: error: spec.listeners[0].tls: has TLS on a port without (set protocol HTTPS or TLS)",
    );
    listener(
        "{name: a, port: 443, protocol: HTTPS}",
        "f.yaml:7:5: error: spec.listeners[0]: has no TLS on a port with (add tls with certificateRefs)",
    );
    listener(
        "{name: a, port: 443, protocol: TLS, tls: {mode: Passthrough, certificateRefs: [{name: a}]}}",
        "f.yaml:7:46: error: spec.listeners[0].tls: shows no certificate in mode Passthrough (remove certificateRefs)",
    );
    let options = |options: &str, expected: &str| {
        let tls = format!("{{certificateRefs: [{{name: a}}], options: {{{options}}}}}");
        listener(&format!("{{name: a, port: 443, protocol: HTTPS, tls: {tls}}}"), expected);
    };
    options(
        "gateway.istio.io/tls-terminate-mod: MUTUAL",
        "f.yaml:7:89: error: spec.listeners[0].tls.options[gateway.istio.io/tls-terminate-mod]: option \
         \"gateway.istio.io/tls-terminate-mod\" is not supported (did you mean gateway.istio.io/tls-terminate-mode?)",
    );
    options(
        "gateway.istio.io/tls-terminate-mode: ISTIO_MUTUAL",
        "f.yaml:7:126: error: spec.listeners[0].tls.options[gateway.istio.io/tls-terminate-mode]: mode \"ISTIO_MUTUAL\" is \
         not supported (SIMPLE, MUTUAL or OPTIONAL_MUTUAL)",
    );
    options(
        "weft.dev/tls-min-version: TLSV1_3, weft.dev/tls-max-version: TLSV1_2",
        "f.yaml:7:88: error: spec.listeners[0].tls.options: weft.dev/tls-min-version is above weft.dev/tls-max-version",
    );
    listener(
        "{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}",
        "f.yaml:7:69: error: spec.listeners[0].allowedRoutes.namespaces: has no selector (add selector)",
    );
    listener(
        "{name: a, port: 80, protocol: HTTP}\n  - {name: a, port: 81, protocol: HTTP}",
        "f.yaml:8:12: error: spec.listeners[1].name: listener \"a\" is named twice (rename one)",
    );
    check_text(
        &document(
            "Gateway",
            "  gatewayClassName: weft\n  addresses: []\n  listeners: [{name: a, port: 80, protocol: HTTP}]",
        ),
        "f.yaml:6:3: error: spec.addresses: is not supported (remove it)",
    );
    check_text(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: a, namespace: b}\nspec: \
         {controllerName: a/b}",
        "f.yaml:3:32: error: metadata.namespace: a GatewayClass belongs to no namespace (remove it)",
    );
}

#[test]
fn the_clients_of_gateways_are_checked() {
    let frontend = |frontend: &str, expected: &str| {
        let listeners = "listeners: [{name: a, port: 80, protocol: HTTP}]";
        let spec = format!("  gatewayClassName: weft\n  {listeners}\n  tls: {{frontend: {{{frontend}}}}}");
        check_text(&document("Gateway", &spec), expected);
    };
    frontend("perPort: []", "f.yaml:7:19: error: spec.tls.frontend.default: is missing");
    frontend(
        "default: {validation: {caCertificateRefs: []}}",
        "f.yaml:7:62: error: spec.tls.frontend.default.validation.caCertificateRefs: 0 references are not supported \
         (give one, to all authorities)",
    );
    frontend(
        "default: {validation: {caCertificateRefs: [{name: a}], mode: AllowInsecureFallback}}",
        "f.yaml:7:81: error: spec.tls.frontend.default.validation.mode: mode \"AllowInsecureFallback\" is not supported \
         (AllowValidOnly)",
    );
    frontend(
        "default: {}, perPort: [{port: 1, tls: {}}, {port: 1, tls: {}}]",
        "f.yaml:7:63: error: spec.tls.frontend.perPort[1]: names a port twice (keep one)",
    );
    check_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {ca.cert: x}",
        "f.yaml:4:8: error: data[ca.cert]: ca.cert is not used by proxies (did you mean ca.crt?)",
    );
    check_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {ca.crt: x}",
        "f.yaml:4:8: error: data[ca.crt]: holds no PEM certificate",
    );
}

#[test]
fn the_two_kinds_of_gateways_have_two_keys() {
    let edge =
        document("Gateway", "  gatewayClassName: weft\n  listeners: [{name: a, port: 80, protocol: HTTP}]");
    let istio =
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {servers: []}\n";
    let (documents, problems) = parse(&format!("{edge}---\n{istio}"), "f", 1);
    assert_eq!(problems, []);
    let keys: Vec<String> = documents.iter().map(|document| document.key().to_string()).collect();
    assert_eq!(keys, ["Gateway.gateway.networking.k8s.io/default/a", "Gateway/default/a"]);
    let kind = weft_proto::document::kind_in_keys("gateway.networking.k8s.io/v1", "Gateway");
    assert_eq!(kind, GATEWAY_KEY);
}

#[test]
fn labels_are_selected_as_kubernetes_does() {
    use LabelOperator::*;
    let labels = [("team", "a")].map(|(name, value)| (Arc::from(name), Arc::from(value))).into();
    for (name, operator, expected) in [
        ("team", In(vec!["a".into(), "b".into()]), true),
        ("team", In(vec!["b".into()]), false),
        ("other", In(vec!["a".into()]), false),
        ("team", NotIn(vec!["a".into()]), false),
        ("other", NotIn(vec!["a".into()]), true),
        ("team", Exists, true),
        ("other", Exists, false),
        ("team", DoesNotExist, false),
        ("other", DoesNotExist, true),
    ] {
        let selector = LabelSelector { expressions: vec![(name.into(), operator)], ..Default::default() };
        assert_eq!(selector.selects(&labels), expected, "{selector:?}");
    }
    assert!(LabelSelector::default().selects(&labels));
}
