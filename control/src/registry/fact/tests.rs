//! What a source may not tell, and what stays in its place.

use weft_proto::registry::v1 as wire;

use super::*;

fn teller() -> Speaker {
    let hello = wire::Hello { source: "files".into(), incarnation: "1".into(), ..Default::default() };
    speaker(&hello).unwrap()
}

fn told(object: wire::upsert::Object) -> Result<Object, BadFact> {
    upsert(&teller(), wire::Upsert { object: Some(object) })
}

#[track_caller]
fn check(object: wire::upsert::Object, expected: &str, replaces: Option<Replaces>) {
    let refused = told(object).unwrap_err();
    assert_eq!((refused.to_string().as_str(), &refused.replaces), (expected, &replaces));
}

fn key(name: &str) -> Option<wire::ServiceKey> {
    Some(wire::ServiceKey { namespace: String::new(), name: name.to_owned() })
}

fn service(name: &str, ports: &[(&str, u32)]) -> wire::upsert::Object {
    let port = |(name, number): &(&str, u32)| wire::Port {
        name: (*name).to_owned(),
        number: *number,
        ..Default::default()
    };
    let ports = ports.iter().map(port).collect();
    wire::upsert::Object::Service(wire::Service { key: key(name), ports, ..Default::default() })
}

fn endpoint(id: &str, address: &str) -> wire::upsert::Object {
    let endpoint = wire::Endpoint {
        id: id.to_owned(),
        service: key("api"),
        address: address.to_owned(),
        ..Default::default()
    };
    wire::upsert::Object::Endpoint(endpoint)
}

fn document(yaml: &str) -> wire::upsert::Object {
    wire::upsert::Object::Document(wire::Document {
        yaml: yaml.to_owned(),
        origin: "a.yaml".to_owned(),
        line: 7,
    })
}

#[test]
fn a_refused_service_or_endpoint_is_named_with_its_field_and_leaves_its_predecessor() {
    let api = || Some(Replaces::One(Gone::Service(ServiceKey::new("default", "api"))));
    check(
        service("api", &[("http", 0)]),
        "service default/api: ports[0].number: 0 is no port; 1 to 65535 is wanted",
        api(),
    );
    check(
        service("api", &[("http", 80), ("http", 81)]),
        "service default/api: ports[1]: http:81 repeats the name or number of another port",
        api(),
    );
    check(
        service("A_B", &[]),
        "service \"/A_B\": name: \"A_B\" is no host name; lower-case letters, digits and dashes in labels of 1 to 63",
        None,
    );
    check(
        endpoint("1", "0.0.0.0"),
        "endpoint \"1\": address: 0.0.0.0 is no address to connect to; register the address that peers reach",
        Some(Replaces::One(Gone::Endpoint("files/1".into()))),
    );
}

#[test]
fn a_document_that_cannot_be_named_leaves_those_of_its_origin() {
    let refused = told(document("kind: [")).unwrap_err();
    assert!(refused.to_string().starts_with("document a.yaml:7: kind and metadata.name cannot be read"));
    assert_eq!(refused.replaces, Some(Replaces::DocumentsOf("a.yaml".into())));
}

#[test]
fn a_document_that_can_be_named_but_not_read_is_taken_with_its_complaint() {
    let yaml =
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {servers: [], x: 1}";
    let Object::Document(fact) = told(document(yaml)).unwrap() else { panic!("no document") };
    assert_eq!(fact.key.to_string(), "Gateway/default/a");
    assert_eq!(
        fact.complaint.as_deref(),
        Some("a.yaml:10:21: error: spec.x: unknown field (known are selector, servers)")
    );
}
