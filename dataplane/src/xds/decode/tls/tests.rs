//! Which contexts and secrets are taken, and by which field the others are refused.

use weft_proto::xds::{
    envoy::{
        config::core::v3::{AggregatedConfigSource, ConfigSource, config_source::ConfigSourceSpecifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, SubjectAltNameMatcher, TlsCertificate, TlsSessionTicketKeys,
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::BoolValue,
};

use super::*;
use crate::{
    spec::{AuthoritiesSource, CertificateSource},
    tls::testing::{Ca, dns},
};

fn file(path: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::Filename(path.into())), ..Default::default() })
}

fn text(text: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineString(text.into())), ..Default::default() })
}

fn from_files() -> TlsCertificate {
    TlsCertificate { certificate_chain: file("/c"), private_key: file("/k"), ..Default::default() }
}

fn sds(name: &str) -> SdsSecretConfig {
    let specifier = ConfigSourceSpecifier::Ads(AggregatedConfigSource {});
    let sds_config = Some(ConfigSource { config_source_specifier: Some(specifier), ..Default::default() });
    SdsSecretConfig { name: name.into(), sds_config }
}

fn with_parameters(tls_params: TlsParameters) -> CommonTlsContext {
    CommonTlsContext { tls_params: Some(tls_params), ..Default::default() }
}

fn validating(context: CertificateValidationContext) -> CommonTlsContext {
    let validation_context_type = Some(ValidationContextType::ValidationContext(context));
    CommonTlsContext { validation_context_type, ..Default::default() }
}

#[track_caller]
fn refused(context: CommonTlsContext, field: &str) {
    assert_eq!(common(context).unwrap_err().field, field);
}

#[test]
fn certificates_come_from_the_message_from_files_or_by_name() {
    let issued = Ca::new("ca").issue(&dns("a.test"));
    let inline = TlsCertificate {
        certificate_chain: text(&issued.chain),
        private_key: text(&issued.key),
        ..Default::default()
    };
    let half = TlsCertificate { private_key: file("/k"), ..inline.clone() };
    let found = common(CommonTlsContext {
        tls_certificates: vec![inline.clone(), from_files(), half],
        tls_certificate_sds_secret_configs: vec![sds("s")],
        ..Default::default()
    });
    let found = found.unwrap().certificates;
    assert!(matches!(&found[0], SecretRef::Given(CertificateSource::Parsed(_))));
    assert!(matches!(&found[1], SecretRef::Given(CertificateSource::Files { chain: Data::File(_), .. })));
    assert!(matches!(&found[2], SecretRef::Given(CertificateSource::Files { chain: Data::Inline(_), .. })));
    assert!(matches!(&found[3], SecretRef::Named(SecretName::Stream(name)) if &**name == "s"));

    let other = Ca::new("ca").issue(&dns("a.test"));
    let strange = TlsCertificate { private_key: text(&other.key), ..inline.clone() };
    let context = CommonTlsContext { tls_certificates: vec![strange], ..Default::default() };
    let refusal = common(context).unwrap_err();
    assert_eq!(refusal.field, "tls_certificates[0].private_key");
    assert!(!refusal.problem.contains(other.key.lines().nth(1).unwrap()));
    let locked = TlsCertificate { password: text("x"), ..inline };
    let context = CommonTlsContext { tls_certificates: vec![locked], ..Default::default() };
    refused(context, "tls_certificates[0].password");
}

#[test]
fn versions_below_1_2_are_never_spoken() {
    let versions = |min: TlsProtocol, max: TlsProtocol| {
        let (minimum, maximum) = (min.into(), max.into());
        let parameters = TlsParameters {
            tls_minimum_protocol_version: minimum,
            tls_maximum_protocol_version: maximum,
            ..Default::default()
        };
        let found = common(with_parameters(parameters)).ok()?.versions;
        Some(found.iter().map(|version| version.version).collect::<Vec<_>>())
    };
    let (both, new, old) = (
        Some(vec![ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2]),
        Some(vec![ProtocolVersion::TLSv1_3]),
        Some(vec![ProtocolVersion::TLSv1_2]),
    );
    assert_eq!(versions(TlsProtocol::TlsAuto, TlsProtocol::TlsAuto), both);
    assert_eq!(versions(TlsProtocol::TlSv10, TlsProtocol::TlSv13), both);
    assert_eq!(versions(TlsProtocol::TlSv13, TlsProtocol::TlsAuto), new);
    assert_eq!(versions(TlsProtocol::TlsAuto, TlsProtocol::TlSv12), old);
    assert_eq!(versions(TlsProtocol::TlsAuto, TlsProtocol::TlSv11), None);
    assert_eq!(versions(TlsProtocol::TlSv13, TlsProtocol::TlSv12), None);
}

#[test]
fn suites_and_groups_are_those_that_are_listed() {
    let suites = |list: &[&str]| {
        let cipher_suites = list.iter().map(|name| (*name).to_owned()).collect();
        let found = common(with_parameters(TlsParameters { cipher_suites, ..Default::default() }));
        found.map(|found| found.provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).count())
    };
    assert_eq!(suites(&[]).unwrap(), 6);
    assert_eq!(suites(&["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA"]).unwrap(), 1);
    let equals = "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]";
    assert_eq!(suites(&[equals, "ECDHE-RSA-AES256-GCM-SHA384"]).unwrap(), 3);
    for unusable in [&["AES128-SHA"][..], &["NULL"], &["ECDHE-RSA-AES128-GCM-SHA256", "RC4"]] {
        assert_eq!(suites(unusable).unwrap_err().field, "tls_params.cipher_suites", "{unusable:?}");
    }
    let groups = TlsParameters { ecdh_curves: vec!["P-256".into()], ..Default::default() };
    assert_eq!(common(with_parameters(groups)).unwrap().provider.kx_groups.len(), 1);
    let groups = TlsParameters { ecdh_curves: vec!["P-521".into()], ..Default::default() };
    refused(with_parameters(groups), "tls_params.ecdh_curves");
    let signatures = TlsParameters { signature_algorithms: vec!["x".into()], ..Default::default() };
    refused(with_parameters(signatures), "tls_params.signature_algorithms");
}

#[test]
fn validation_contexts_are_taken_whole_or_refused() {
    let exact = MatchPattern::Exact("a".into());
    let matcher = StringMatcher { match_pattern: Some(exact), ..Default::default() };
    let san = SubjectAltNameMatcher { san_type: 3, matcher: Some(matcher.clone()), oid: String::new() };
    let context = CertificateValidationContext {
        trusted_ca: file("/ca"),
        match_typed_subject_alt_names: vec![san.clone()],
        match_subject_alt_names: vec![matcher],
        verify_certificate_hash: vec!["00:".repeat(31) + "ff"],
        verify_certificate_spki: vec!["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into()],
        ..Default::default()
    };
    let found = common(validating(context.clone())).unwrap().validation.unwrap().given;
    assert!(matches!(found.authorities, Some(AuthoritiesSource::File(_))));
    assert_eq!((found.names.len(), found.certificate_pins[0][31], found.key_pins.len()), (5, 255, 1));

    let field = "validation_context.match_typed_subject_alt_names";
    refused(validating(CertificateValidationContext { trusted_ca: None, ..context.clone() }), field);
    for (context, field) in [
        (
            CertificateValidationContext { allow_expired_certificate: true, ..context.clone() },
            "allow_expired_certificate",
        ),
        (
            CertificateValidationContext { verify_certificate_hash: vec!["0".into()], ..context.clone() },
            "verify_certificate_hash",
        ),
        (
            CertificateValidationContext { verify_certificate_spki: vec!["0".into()], ..context.clone() },
            "verify_certificate_spki",
        ),
        (CertificateValidationContext { trusted_ca: text("no PEM"), ..context.clone() }, "trusted_ca"),
        (
            CertificateValidationContext { system_root_certs: Some(Default::default()), ..context.clone() },
            "system_root_certs",
        ),
        (
            CertificateValidationContext {
                match_typed_subject_alt_names: vec![SubjectAltNameMatcher { san_type: 5, ..san }],
                ..context
            },
            "match_typed_subject_alt_names[0].san_type",
        ),
    ] {
        refused(validating(context), &format!("validation_context.{field}"));
    }
}

#[test]
fn a_server_needs_a_certificate_and_what_it_verifies_clients_with() {
    let server = |raw| downstream_context(raw, None, [0; 32]).map_err(|refusal| refusal.field);
    let empty = DownstreamTlsContext::default();
    assert_eq!(server(empty.clone()).unwrap_err(), "common_tls_context");
    let common_tls_context =
        Some(CommonTlsContext { tls_certificates: vec![from_files()], ..Default::default() });
    let plain = DownstreamTlsContext { common_tls_context, ..empty };
    assert!(server(plain.clone()).unwrap().resumption);
    let on = || Some(BoolValue { value: true });
    for (raw, field) in [
        (
            DownstreamTlsContext { require_client_certificate: on(), ..plain.clone() },
            "require_client_certificate",
        ),
        (DownstreamTlsContext { ocsp_staple_policy: 2, ..plain.clone() }, "ocsp_staple_policy"),
        (
            DownstreamTlsContext {
                session_ticket_keys_type: Some(SessionTicketKeysType::SessionTicketKeys(
                    TlsSessionTicketKeys::default(),
                )),
                ..plain.clone()
            },
            "session_ticket_keys",
        ),
    ] {
        assert_eq!(server(raw).unwrap_err(), field);
    }
    let stateless = Some(SessionTicketKeysType::DisableStatelessSessionResumption(true));
    assert!(
        !server(DownstreamTlsContext { session_ticket_keys_type: stateless, ..plain }).unwrap().resumption
    );
}

#[test]
fn a_client_asks_for_the_name_that_it_is_told() {
    let client = |raw| upstream_context(raw, [0; 32]).map_err(|refusal| refusal.field);
    let empty = UpstreamTlsContext::default();
    assert_eq!(client(empty.clone()).unwrap().sni, Sni::Absent);
    let named = client(UpstreamTlsContext { sni: "a.test".into(), ..empty.clone() }).unwrap();
    assert_eq!(named.sni, Sni::Name(ServerName::try_from("a.test").unwrap()));
    assert_eq!(
        client(UpstreamTlsContext { auto_host_sni: true, ..empty.clone() }).unwrap().sni,
        Sni::Endpoint
    );
    for (raw, field) in [
        (UpstreamTlsContext { sni: "a b".into(), ..empty.clone() }, "sni"),
        (UpstreamTlsContext { allow_renegotiation: true, ..empty.clone() }, "allow_renegotiation"),
    ] {
        assert_eq!(client(raw).unwrap_err(), field);
    }
    let two = CommonTlsContext { tls_certificates: vec![from_files(), from_files()], ..Default::default() };
    let two = UpstreamTlsContext { common_tls_context: Some(two), ..empty };
    assert_eq!(client(two).unwrap_err(), "common_tls_context");
}
