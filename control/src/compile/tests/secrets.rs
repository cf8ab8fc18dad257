//! Who receives which secret, and that nobody else sees it.

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use weft_proto::node::Role;

use super::*;
use crate::documents::secret::redacted;

pub(super) struct Issued {
    authority: String,
    pub(super) chain: String,
    pub(super) key: String,
}

pub(super) fn issue(name: &str) -> Issued {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    Issued { authority: authority.pem(), chain: leaf.pem(), key: key.serialize_pem() }
}

pub(super) fn secret(namespace: &str, name: &str, values: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: Opaque\nstringData:\n"
    );
    for (key, value) in values {
        text += &format!("  {key}: |\n");
        value.lines().for_each(|line| text += &format!("    {line}\n"));
    }
    text
}

pub(super) fn config_map(namespace: &str, name: &str, of: &Issued) -> String {
    let lines: String = of.authority.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n  ca.crt: |\n{lines}"
    )
}

fn gateway(mode: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: edge}}\nspec:\n  selector: {{app: edge}}\n  \
         servers:\n  - port: {{number: 443, name: https, protocol: HTTPS}}\n    hosts: [a.test]\n    \
         tls: {{mode: {mode}, credentialName: web}}\n"
    )
}

fn world(documents: &[String]) -> Arc<World> {
    let (found, problems) = documents::parse(&documents.join("---\n"), "test.yaml", 1);
    assert!(problems.is_empty(), "{problems:?}");
    let set = found.into_iter().collect();
    Compiler::default().update(mesh(&[]), Arc::new(set))
}

fn proxy(role: Role, namespace: &str) -> NodeMetadata {
    let labels = BTreeMap::from([("app".to_owned(), "edge".to_owned())]);
    NodeMetadata { role, namespace: namespace.into(), labels, ..NodeMetadata::default() }
}

fn names(set: &ResourceSet) -> Vec<&str> {
    set.of(Kind::Secret).map(|resource| &*resource.name).collect()
}

#[test]
fn a_gateway_receives_the_secrets_of_its_own_namespace_that_its_documents_name() {
    let of = issue("a.test");
    let (chain, key) = (("tls.crt", of.chain.as_str()), ("tls.key", of.key.as_str()));
    let own = secret("edge", "web", &[chain, key, ("ca.crt", &of.authority)]);
    let unused = secret("edge", "unused", &[chain, key]);
    let elsewhere = secret("other", "web", &[chain, key]);
    let documents = [own.clone(), unused, elsewhere.clone(), gateway("MUTUAL")];
    let world = world(&documents);
    let held = |role, namespace| world.resources(&proxy(role, namespace));
    assert_eq!(names(&held(Role::Gateway, "edge")), ["authorities|web", "certificate|web"]);
    assert_eq!(names(&held(Role::Gateway, "other")), ["certificate|web"]);
    assert_eq!(names(&held(Role::Gateway, "third")), [""; 0]);
    assert_eq!(names(&held(Role::Sidecar, "edge")), [""; 0]);

    let plain = world_of_simple(&own);
    assert_eq!(names(&plain.resources(&proxy(Role::Gateway, "edge"))), ["certificate|web"]);
}

/// A gateway of the Gateway API whose listener refers to secrets, and a grant of namespace `other` for one of them.
fn edge_gateway(options: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: edge}}\nspec:\n  \
         gatewayClassName: weft\n  listeners:\n  - name: a\n    port: 443\n    protocol: HTTPS\n    tls:\n      \
         certificateRefs: [{{name: web}}, {{name: granted, namespace: other}}, {{name: private, namespace: other}}]\n      \
         options: {{{options}}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {{name: a, \
         namespace: other}}\nspec:\n  from: [{{group: gateway.networking.k8s.io, kind: Gateway, namespace: edge}}]\n  \
         to: [{{group: \"\", kind: Secret, name: granted}}]\n"
    )
}

#[test]
fn a_listener_has_the_secrets_that_it_refers_to_and_may() {
    let of = issue("a.test");
    let values = [("tls.crt", of.chain.as_str()), ("tls.key", of.key.as_str()), ("ca.crt", &of.authority)];
    let all = [("edge", "web"), ("edge", "unused"), ("other", "granted"), ("other", "private")];
    let mut documents: Vec<String> = all.map(|(namespace, name)| secret(namespace, name, &values)).into();
    documents.push(edge_gateway(""));
    let plain = world(&documents);
    documents.pop();
    documents.push(edge_gateway("gateway.istio.io/tls-terminate-mode: MUTUAL"));
    let mutual = world(&documents);
    let shown = ["certificate|edge/web", "certificate|other/granted"];
    for (role, namespace, plainly, mutually) in [
        (Role::Gateway, "edge", &shown[..], &["authorities|edge/web", shown[0], shown[1]][..]),
        (Role::Gateway, documents::ROOT_NAMESPACE, &shown, &["authorities|edge/web", shown[0], shown[1]]),
        // It serves the gateway, and has nothing to show there.
        (Role::Gateway, "other", &[], &[]),
        (Role::Sidecar, "edge", &[], &[]),
    ] {
        let node = proxy(role, namespace);
        assert_eq!(names(&plain.resources(&node)), plainly, "{namespace}");
        assert_eq!(names(&mutual.resources(&node)), mutually, "{namespace}");
    }
}

#[test]
fn a_grant_that_is_gone_takes_the_secret_with_it() {
    let of = issue("a.test");
    let values = [("tls.crt", of.chain.as_str()), ("tls.key", of.key.as_str())];
    let granted = secret("other", "granted", &values);
    let with = [granted, edge_gateway("")].join("---\n");
    let (gateway, _) =
        with.split_once("---\napiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant").unwrap();
    let mut compiler = Compiler::default();
    let held = [&with, gateway].map(|yaml| {
        let (found, problems) = documents::parse(yaml, "test.yaml", 1);
        assert!(problems.is_empty(), "{problems:?}");
        let world = compiler.update(mesh(&[]), Arc::new(found.into_iter().collect()));
        let set = world.resources(&proxy(Role::Gateway, "edge"));
        let listener = set.find(Kind::Listener, "gateway|443").unwrap();
        let text = String::from_utf8_lossy(&listener.bytes);
        (names(&set).len(), text.contains("certificate|other/granted|missing"))
    });
    // Another one that may be shown takes its place; here there is none.
    assert_eq!(held, [(1, false), (0, true)]);
}

fn world_of_simple(secret: &str) -> Arc<World> {
    world(&[secret.to_owned(), gateway("SIMPLE")])
}

#[test]
fn a_secret_that_is_gone_changes_what_the_listener_asks_for() {
    let of = issue("a.test");
    let with = world_of_simple(&secret("edge", "web", &[("cert", &of.chain), ("key", &of.key)]));
    let without = world(&[gateway("SIMPLE")]);
    let listener = |world: &World| {
        let set = world.resources(&proxy(Role::Gateway, "edge"));
        let listener = set.find(Kind::Listener, "gateway|443").unwrap().clone();
        String::from_utf8_lossy(&listener.bytes).contains("certificate|web|missing")
    };
    assert_eq!((listener(&with), listener(&without)), (false, true));
}

#[test]
fn authorities_may_stand_in_a_secret_beside() {
    let of = issue("a.test");
    let own = secret("edge", "web", &[("cert", &of.chain), ("key", &of.key)]);
    let beside = secret("edge", "web-cacert", &[("cacert", &of.authority)]);
    let world = world(&[own, beside, gateway("OPTIONAL_MUTUAL")]);
    let set = world.resources(&proxy(Role::Gateway, "edge"));
    assert_eq!(names(&set), ["authorities|web", "certificate|web"]);
}

#[test]
fn only_a_new_certificate_is_another_version_of_its_secret() {
    let (old, new) = (issue("a.test"), issue("a.test"));
    let version = |of: &Issued| {
        let world = world_of_simple(&secret("edge", "web", &[("tls.crt", &of.chain), ("tls.key", &of.key)]));
        let set = world.resources(&proxy(Role::Gateway, "edge"));
        (
            set.find(Kind::Secret, "certificate|web").unwrap().version,
            set.find(Kind::Listener, "gateway|443").unwrap().version,
        )
    };
    assert_eq!(version(&old), version(&old));
    assert_ne!(version(&old).0, version(&new).0);
    assert_eq!(version(&old).1, version(&new).1);
}

#[test]
fn neither_text_nor_key_are_shown() {
    let of = issue("a.test");
    let text = secret("edge", "web", &[("tls.crt", &of.chain), ("tls.key", &of.key)]);
    let (found, _) = documents::parse(&text, "test.yaml", 1);
    let world = world(&[text.clone(), gateway("SIMPLE")]);
    let set = world.resources(&proxy(Role::Gateway, "edge"));
    let shown = [
        redacted("Secret", &text),
        redacted("Secret", "{"),
        format!("{found:?}"),
        format!("{set:?}"),
        format!("{world:?}"),
    ];
    for text in shown {
        for line in of.key.lines().chain(of.chain.lines()).filter(|line| !line.starts_with('-')) {
            assert!(!text.contains(line), "{text}");
        }
    }
    assert!(redacted("Secret", &text).contains("tls.key: ("));
}

#[test]
fn what_is_wrong_with_a_secret_is_told_without_its_content() {
    let (of, other) = (issue("a.test"), issue("b.test"));
    for (values, expected) in [
        (&[("tls.crt", of.chain.as_str())][..], "tls.key is missing"),
        (&[("tls.crt", &of.chain), ("tls.key", &other.key)], "does not belong to the certificate"),
        (&[("tls.crt", "nonsense"), ("tls.key", &of.key)], "holds no PEM certificate"),
        (&[("tls.crt", &of.chain), ("tls.key", "nonsense")], "holds no PEM private key"),
        (&[("tls.crt", &of.chain), ("cert", &of.chain), ("tls.key", &of.key)], "mean the same"),
        (&[("ca.crt", &of.key)], "holds no PEM certificate"),
        (&[("ca.crl", &of.key)], "holds no PEM revocation list"),
        (&[("password", "x")], "password is not used by proxies"),
    ] {
        let (found, problems) = documents::parse(&secret("edge", "web", values), "test.yaml", 1);
        assert!(found.is_empty());
        assert!(
            problems.iter().any(|problem| problem.message.contains(expected)),
            "{expected}: {problems:?}"
        );
    }
    let encoded = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ntype: kubernetes.io/tls\ndata: {tls.crt: '!secret!'}\n";
    let (_, problems) = documents::parse(encoded, "test.yaml", 1);
    assert!(problems.iter().any(|problem| problem.message.contains("is not base64")), "{problems:?}");
    assert!(!format!("{problems:?}").contains("!secret!"));
}
