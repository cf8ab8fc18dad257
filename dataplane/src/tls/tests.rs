//! Handshakes in memory: who is believed, what is agreed on, what is refused and why.

use regex::bytes::Regex;
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{
    client::{ClientContext, Purpose},
    hello::{First, HELLO_BYTES_MAX, Hello, HelloReader},
    server::{Accepted, ServerContext},
    testing::*,
    *,
};
use crate::{
    spec::{DownstreamTls, NameKind, NameMatch, Sni, UpstreamTls, Validation, ValueMatch},
    stream::Stream,
};

const A: &str = "spiffe://td/ns/default/sa/a";
const B: &str = "spiffe://td/ns/default/sa/b";

struct Shaken {
    server: Result<Accepted, Outcome>,
    client: Result<(Stream, Option<peer::Peer>), Outcome>,
}

/// Both sides' view of one handshake, after the first byte has gone each way: a client of TLS 1.3 hears only then that it
/// was refused.
async fn shake_for(purpose: Purpose, server: &ServerContext, client: &ClientContext) -> Shaken {
    let (near, far) = UnixStream::pair().unwrap();
    let name = client.name(&crate::spec::EndpointAddress::Unix("".into()), "host.test");
    let server_side = async {
        let mut accepted = server.accept(far.into()).await?;
        accepted.stream.write_all(b"x").await.map_err(|error| Outcome::of(&error))?;
        accepted.stream.flush().await.map_err(|error| Outcome::of(&error))?;
        Ok(accepted)
    };
    let client_side = async {
        let (mut stream, peer) = client.connect(near.into(), name, purpose).await?;
        stream.read_u8().await.map_err(|error| Outcome::of(&error))?;
        Ok((stream, peer))
    };
    let (server, client) = tokio::join!(server_side, client_side);
    Shaken { server, client }
}

async fn shake(down: &DownstreamTls, up: &UpstreamTls) -> Shaken {
    shake_for(Purpose::Http1, &server(down), &client(up)).await
}

/// Mutual TLS in which the client shows `shown` and must be one of `trust`.
#[track_caller]
fn client_is(shown: Option<&Issued>, trust: Validation, server_sees: Outcome, client_sees: Outcome) {
    let ca = Ca::new("servers");
    let down = downstream(&[&ca.issue(&dns("a.test"))], Some(trust));
    let up = upstream(shown.as_slice(), Some(ca.trusted()));
    let shaken = run(shake(&down, &up));
    let outcomes =
        (shaken.server.err().unwrap_or(Outcome::Done), shaken.client.err().unwrap_or(Outcome::Done));
    assert_eq!(outcomes, (server_sees, client_sees));
}

/// A server that shows `shown` to a client that believes `trust`.
#[track_caller]
fn server_is(shown: &Issued, trust: Validation, expected: Outcome) {
    let shaken = run(shake(&downstream(&[shown], None), &upstream(&[], Some(trust))));
    assert_eq!(shaken.client.err().unwrap_or(Outcome::Done), expected);
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn named(kind: NameKind, value: ValueMatch, trust: Validation) -> Validation {
    Validation { names: vec![NameMatch { kind, value }], ..trust }
}

fn exact(text: &str) -> ValueMatch {
    ValueMatch::Exact { text: text.to_owned(), ignore_case: false }
}

fn prefix(text: &str) -> ValueMatch {
    ValueMatch::Prefix { text: text.to_owned(), ignore_case: false }
}

#[test]
fn both_sides_know_each_other_after_mutual_tls() {
    let ca = Ca::new("mesh");
    let (a, b) = (ca.issue(&spiffe(A)), ca.issue(&spiffe(B)));
    let (down, up) = (downstream(&[&b], Some(ca.trusted())), upstream(&[&a], Some(ca.trusted())));
    let shaken = run(shake(&down, &up));
    let peer = shaken.server.unwrap().secured.peer.unwrap();
    assert_eq!((peer.principal(), peer.names.subject.as_str()), (Some(A), "O=Weft\\, \\\"tests\\\",CN=leaf"));
    let (_, peer) = shaken.client.unwrap();
    assert_eq!(peer.unwrap().principal(), Some(B));
    assert_eq!(
        (server(&down).own().map(|own| &**own), client(&up).own().map(|own| &**own)),
        (Some(B), Some(A))
    );
}

#[test]
fn clients_that_prove_nothing_are_refused() {
    let (ca, other) = (Ca::new("mesh"), Ca::new("other"));
    let issue = |leaf: Leaf| ca.issue(&leaf);
    client_is(None, ca.trusted(), Outcome::NoCertificate, Outcome::Refused);
    client_is(Some(&other.issue(&spiffe(A))), ca.trusted(), Outcome::Untrusted, Outcome::Refused);
    client_is(Some(&self_signed(&spiffe(A))), ca.trusted(), Outcome::Untrusted, Outcome::Refused);
    let past = issue(Leaf { years: (2020, 2021), ..spiffe(A) });
    client_is(Some(&past), ca.trusted(), Outcome::Expired, Outcome::Refused);
    let future = issue(Leaf { years: (2090, 2100), ..spiffe(A) });
    client_is(Some(&future), ca.trusted(), Outcome::Expired, Outcome::Refused);
    let servers_only = issue(Leaf { usages: vec![BOTH[0].clone()], ..spiffe(A) });
    client_is(Some(&servers_only), ca.trusted(), Outcome::BadCertificate, Outcome::Refused);
    let two = issue(Leaf { uris: vec![A, B], ..Leaf::default() });
    client_is(Some(&two), ca.trusted(), Outcome::WrongName, Outcome::Refused);
    let typed_wrongly = issue(Leaf { dns: vec!["spiffe://td/a"], ..Leaf::default() });
    client_is(Some(&typed_wrongly), ca.trusted(), Outcome::WrongName, Outcome::Refused);
    client_is(Some(&issue(spiffe(A))), ca.trusted(), Outcome::Done, Outcome::Done);
}

#[test]
fn servers_that_prove_nothing_are_refused() {
    let (ca, other) = (Ca::new("mesh"), Ca::new("other"));
    let issue = |leaf: Leaf| ca.issue(&leaf);
    server_is(&other.issue(&spiffe(A)), ca.trusted(), Outcome::Untrusted);
    server_is(&self_signed(&spiffe(A)), ca.trusted(), Outcome::Untrusted);
    server_is(&issue(Leaf { years: (2020, 2021), ..spiffe(A) }), ca.trusted(), Outcome::Expired);
    server_is(&issue(Leaf { years: (2090, 2100), ..spiffe(A) }), ca.trusted(), Outcome::Expired);
    let clients_only = issue(Leaf { usages: vec![BOTH[1].clone()], ..spiffe(A) });
    server_is(&clients_only, ca.trusted(), Outcome::BadCertificate);
    server_is(&issue(spiffe(A)), ca.trusted(), Outcome::Done);
}

#[test]
fn an_authority_is_no_leaf() {
    let ca = Ca::new("mesh");
    let down = downstream(&[&ca.itself()], None);
    let shaken = run(shake(&down, &upstream(&[], Some(ca.trusted()))));
    assert_eq!(shaken.client.err(), Some(Outcome::BadCertificate));
}

#[test]
fn chains_may_have_intermediates_up_to_a_depth() {
    let root = Ca::new("root");
    let deep = root.intermediate("one").intermediate("two").issue(&spiffe(A));
    server_is(&deep, root.trusted(), Outcome::Done);
    server_is(&deep, Validation { depth_max: Some(2), ..root.trusted() }, Outcome::Done);
    server_is(&deep, Validation { depth_max: Some(1), ..root.trusted() }, Outcome::BadCertificate);
    // Without the certificates in between there is no way to the root.
    let leaf_only = deep.chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned();
    server_is(&Issued { chain: leaf_only, key: deep.key }, root.trusted(), Outcome::Untrusted);
}

#[test]
fn names_are_matched_by_kind() {
    let ca = Ca::new("mesh");
    let is = |leaf: &Leaf, kind, value: ValueMatch, expected| {
        server_is(&ca.issue(leaf), named(kind, value, ca.trusted()), expected);
    };
    let (good, bad) = (Outcome::Done, Outcome::WrongName);
    is(&spiffe(A), NameKind::Uri, exact(A), good);
    is(&spiffe(B), NameKind::Uri, exact(A), bad);
    is(&spiffe(A), NameKind::Dns, exact(A), bad);
    is(&spiffe(A), NameKind::Uri, prefix("spiffe://td/ns/default/"), good);
    is(&spiffe(A), NameKind::Uri, prefix("spiffe://td/ns/other/"), bad);
    is(&spiffe(A), NameKind::Uri, ValueMatch::Suffix { text: "/sa/a".into(), ignore_case: false }, good);
    is(&spiffe(A), NameKind::Uri, ValueMatch::Regex(Regex::new("^(?:spiffe://td/.*/a)$").unwrap()), good);
    is(&spiffe(A), NameKind::Uri, ValueMatch::Regex(Regex::new("^(?:spiffe://td/)$").unwrap()), bad);
    is(&dns("a.test"), NameKind::Dns, exact("A.test"), good);
    is(&dns("*.test"), NameKind::Dns, exact("a.test"), good);
    is(&dns("*.test"), NameKind::Dns, exact("b.a.test"), bad);
    is(&dns("*.test"), NameKind::Dns, exact(".test"), bad);
    is(&dns("a.test"), NameKind::Uri, exact("a.test"), bad);
    is(&Leaf::default(), NameKind::Uri, exact(A), bad);
}

#[test]
fn revoked_certificates_are_refused() {
    let ca = Ca::new("mesh");
    let leaf = |serial| ca.issue(&Leaf { serial, ..spiffe(A) });
    let lists = Validation { revocations: Some(revocations(&ca.revoke(&[7]))), ..ca.trusted() };
    server_is(&leaf(7), lists.clone(), Outcome::Revoked);
    server_is(&leaf(8), lists.clone(), Outcome::Done);
    // An issuer without a list says nothing about its certificates.
    let below = ca.intermediate("below").issue(&spiffe(A));
    server_is(&below, lists, Outcome::Revoked);
}

#[test]
fn a_pinned_certificate_or_key_is_enough() {
    let ca = Ca::new("mesh");
    let (mine, other) = (ca.issue(&spiffe(A)), ca.issue(&spiffe(A)));
    let certificate = mine.certificate();
    let leaf = &certificate.key.cert[0];
    let parsed = webpki::EndEntityCert::try_from(leaf).unwrap();
    let key: [u8; 32] = Sha256::digest(parsed.subject_public_key_info()).into();
    let by_key = Validation { key_pins: vec![key], ..Validation::default() };
    let by_hash = Validation { certificate_pins: vec![Sha256::digest(leaf).into()], ..Validation::default() };
    for pins in [by_key, by_hash] {
        server_is(&mine, pins.clone(), Outcome::Done);
        server_is(&other, pins, Outcome::WrongName);
    }
}

#[test]
fn without_a_validation_context_everyone_is_taken_and_nobody_is_verified() {
    let up = upstream(&[], None);
    let shaken = run(shake(&downstream(&[&self_signed(&spiffe(A))], None), &up));
    let (_, peer) = shaken.client.unwrap();
    assert_eq!(peer.unwrap().principal(), None);
    let untrusted = Validation { accept_untrusted: true, ..Ca::new("mesh").trusted() };
    let shaken = run(shake(&downstream(&[&self_signed(&spiffe(A))], None), &upstream(&[], Some(untrusted))));
    assert_eq!(shaken.client.unwrap().1.unwrap().principal(), None);
}

#[test]
fn an_optional_client_certificate_is_verified_when_there_is_one() {
    let ca = Ca::new("mesh");
    let mut down = downstream(&[&ca.issue(&dns("a.test"))], Some(ca.trusted()));
    down.require_client_certificate = false;
    let shaken = run(shake(&down, &upstream(&[], Some(ca.trusted()))));
    assert!(shaken.server.unwrap().secured.peer.is_none() && shaken.client.is_ok());
    let stranger = Ca::new("other").issue(&spiffe(A));
    let shaken = run(shake(&down, &upstream(&[&stranger], Some(ca.trusted()))));
    assert_eq!(shaken.server.err(), Some(Outcome::Untrusted));
}

#[test]
fn the_name_asked_for_chooses_the_certificate() {
    let ca = Ca::new("servers");
    let shown = ["default.test", "a.test", "*.wild.test", "b.wild.test"].map(|name| ca.issue(&dns(name)));
    let down = downstream(&shown.each_ref(), None);
    for (asked, shown) in [
        ("a.test", "a.test"),
        ("A.TEST", "a.test"),
        ("x.wild.test", "*.wild.test"),
        ("b.wild.test", "b.wild.test"),
        ("x.y.wild.test", "default.test"),
        ("c.test", "default.test"),
    ] {
        let sni = Sni::Name(ServerName::try_from(asked).unwrap());
        let up = UpstreamTls { sni, ..upstream(&[], Some(ca.trusted())) };
        let (_, peer) = run(shake(&down, &up)).client.unwrap();
        assert_eq!(peer.unwrap().names.dns, [shown], "{asked}");
    }
}

#[test]
fn a_server_may_insist_on_a_name() {
    let ca = Ca::new("servers");
    let down = DownstreamTls { require_sni: true, ..downstream(&[&ca.issue(&dns("a.test"))], None) };
    let up = |sni| UpstreamTls { sni, ..upstream(&[], Some(ca.trusted())) };
    assert!(run(shake(&down, &up(Sni::Absent))).client.is_err());
    assert!(run(shake(&down, &up(Sni::Endpoint))).client.is_ok());
}

#[test]
fn the_certificate_must_be_for_the_name_asked_for_where_that_is_configured() {
    let ca = Ca::new("servers");
    let up = UpstreamTls { verify_sni: true, ..upstream(&[], Some(ca.trusted())) };
    let outcome = |name| run(shake(&downstream(&[&ca.issue(&dns(name))], None), &up)).client.err();
    assert_eq!(outcome("a.test"), None);
    assert_eq!(outcome("b.test"), Some(Outcome::WrongName));
}

#[test]
fn the_purpose_decides_the_protocol_where_nothing_else_does() {
    let ca = Ca::new("servers");
    let mut down = downstream(&[&ca.issue(&dns("a.test"))], None);
    down.common.alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let both = server(&down);
    down.common.alpn.remove(0);
    let only_http1 = server(&down);
    let client = client(&upstream(&[], Some(ca.trusted())));
    let agreed = |purpose, server| {
        run(shake_for(purpose, server, &client))
            .server
            .map(|accepted| accepted.stream.alpn().map(<[u8]>::to_vec))
    };
    assert_eq!(agreed(Purpose::Http2, &both), Ok(Some(b"h2".to_vec())));
    assert_eq!(agreed(Purpose::Http1, &both), Ok(Some(b"http/1.1".to_vec())));
    assert_eq!(agreed(Purpose::Tcp, &both), Ok(None));
    assert_eq!(agreed(Purpose::Http2, &only_http1), Err(Outcome::Incompatible));
}

#[test]
fn key_exchange_is_hybrid_post_quantum() {
    let groups: Vec<_> = provider().kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(groups[0], rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn versions_without_overlap_are_told_apart_from_broken_bytes() {
    let ca = Ca::new("servers");
    let mut down = downstream(&[&ca.issue(&dns("a.test"))], None);
    down.common.versions = vec![&rustls::version::TLS13];
    let mut up = upstream(&[], Some(ca.trusted()));
    up.common.versions = vec![&rustls::version::TLS12];
    let shaken = run(shake(&down, &up));
    assert_eq!(shaken.server.err(), Some(Outcome::Incompatible));
    assert_eq!(shaken.client.err(), Some(Outcome::Incompatible));
    down.common.versions = vec![&rustls::version::TLS12];
    assert!(run(shake(&down, &up)).client.is_ok());
}

#[test]
fn sessions_resume_only_where_no_client_was_verified() {
    let ca = Ca::new("mesh");
    let (a, b) = (ca.issue(&spiffe(A)), ca.issue(&spiffe(B)));
    let plain = downstream(&[&b], None);
    let off = DownstreamTls { resumption: false, ..plain.clone() };
    let mutual = downstream(&[&b], Some(ca.trusted()));
    for (down, resumes) in [(&plain, true), (&off, false), (&mutual, false)] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut down = down.clone();
            down.common.versions = vec![version];
            // Two contexts, as two workers have them.
            let servers = [server(&down), server(&down)];
            let client = client(&upstream(&[&a], Some(ca.trusted())));
            let resumed = run(async {
                assert!(shake_for(Purpose::Tcp, &servers[0], &client).await.client.is_ok());
                let shaken = shake_for(Purpose::Tcp, &servers[1], &client).await;
                shaken.client.unwrap().0.resumed()
            });
            assert_eq!(resumed, resumes, "{version:?}");
        }
    }
}

/// What a client sends first.
fn hello(alpn: &[&[u8]], name: &str) -> Vec<u8> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_client_hello_is_read_in_pieces_of_any_size() {
    let bytes = hello(&[b"h2", b"http/1.1"], "A.test");
    let expected =
        Hello { server_name: Some("a.test".into()), alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()] };
    for step in [1, 2, 7, 100, bytes.len()] {
        let mut reader = HelloReader::default();
        let mut end = 0;
        let found = loop {
            end = (end + step).min(bytes.len());
            match reader.look(&bytes[..end]) {
                First::Unclear => assert!(end < bytes.len()),
                found => break found,
            }
        };
        assert_eq!((found, end), (First::Tls(expected.clone()), bytes.len()), "{step}");
    }
}

#[test]
fn a_client_hello_may_be_cut_into_records() {
    let bytes = hello(&[b"h2"], "a.test");
    let mut records = Vec::new();
    for part in bytes[5..].chunks(50) {
        records.extend_from_slice(&[0x16, 3, 1, 0, part.len() as u8]);
        records.extend_from_slice(part);
    }
    let found = HelloReader::default().look(&records);
    assert_eq!(found, First::Tls(Hello { server_name: Some("a.test".into()), alpn: vec![b"h2".to_vec()] }));
}

#[test]
fn what_is_no_client_hello_is_plain_or_malformed() {
    let look = |bytes: &[u8]| HelloReader::default().look(bytes);
    assert_eq!(look(b"GET / HTTP/1.1\r\n"), First::Plain);
    assert_eq!(look(b"\x16"), First::Unclear);
    assert_eq!(look(b"\x16\x02"), First::Plain);
    assert_eq!(look(b"\x16\x03\x01\x00\x05\x02"), First::Plain);
    assert_eq!(look(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"), First::Malformed);
    // A handshake message that claims to be longer than is waited for.
    let mut endless = Vec::new();
    while endless.len() < HELLO_BYTES_MAX {
        endless.extend_from_slice(&[0x16, 3, 1, 0x10, 0]);
        let body = if endless.len() == 5 { vec![1, 0, 0xff, 0xff] } else { vec![0; 4] };
        endless.extend_from_slice(&body);
        endless.extend_from_slice(&[0; 4092]);
    }
    assert_eq!(look(&endless), First::Malformed);
}

#[test]
fn no_bytes_panic_the_hello_reader() {
    let mut rng = rand::rng();
    let good = hello(&[b"h2"], "a.test");
    for _ in 0..2000 {
        use rand::Rng;
        let mut bytes = good.clone();
        for _ in 0..rng.random_range(1..8) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        bytes.truncate(rng.random_range(0..=bytes.len()));
        HelloReader::default().look(&bytes);
    }
}

#[test]
fn secrets_say_what_is_wrong_with_them_and_nothing_else() {
    use super::secret::{Authorities, Certificate, Revocations};
    let ca = Ca::new("mesh");
    let (mine, other) = (ca.issue(&spiffe(A)), ca.issue(&spiffe(B)));
    let problem = |chain: &str, key: &str| {
        Certificate::parse(chain.as_bytes(), key.as_bytes(), provider()).unwrap_err().to_string()
    };
    assert_eq!(problem(&mine.chain, &other.key), "private_key: does not belong to the certificate");
    assert_eq!(problem("", &mine.key), "certificate_chain: no PEM section in it");
    assert!(problem(&mine.chain, "secret").starts_with("private_key: no PEM"));
    let broken = mine.key.replace("-----END", "@@@-----END");
    assert!(!problem(&mine.chain, &broken).contains("@@@"));
    assert!(Authorities::parse(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    assert!(Revocations::parse(ca.pem().as_bytes()).is_err());
    let shown = format!("{:?}", mine.certificate());
    assert!(shown.contains(A) && !shown.contains("PRIVATE"), "{shown}");
}
