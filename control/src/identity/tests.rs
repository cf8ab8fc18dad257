//! Authorities, requests and tokens, without a socket.

use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::{RootCertStore, crypto::aws_lc_rs, pki_types::UnixTime, server::WebPkiClientVerifier};
use tempfile::TempDir;

use super::{
    request::BadRequest,
    token::{Grant, TokenError},
    *,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const DOMAIN: &str = "td";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)
}

fn web() -> SpiffeId {
    SpiffeId::workload(DOMAIN, "shop", "web").unwrap()
}

fn open(folder: &TempDir) -> Arc<Identity> {
    let options = Options {
        trust_domain: DOMAIN.to_owned(),
        leaf_life: DAY,
        folder: folder.path().join("identity"),
        supplied: None,
        kubernetes: None,
    };
    Identity::open(options, now()).unwrap()
}

fn key() -> PublicKey {
    PublicKey::of_key(&KeyPair::generate().unwrap()).unwrap()
}

/// Whether a chain is believed at a time by who trusts these roots.
fn believed<'a>(
    chain: &[CertificateDer<'_>],
    roots: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    at: SystemTime,
) -> bool {
    let mut store = RootCertStore::empty();
    roots.into_iter().for_each(|root| store.add(root.clone()).unwrap());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
    let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    verifier.verify_client_cert(&chain[0], &chain[1..], at).is_ok()
}

#[test]
fn a_leaf_is_of_its_identity_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let identity = open(&folder);
    let issued = identity.issue(&key(), &web(), now()).unwrap();
    let roots = || [identity.keyring().root().clone()];
    assert!(believed(&issued.chain, &roots(), now()));
    assert!(believed(&issued.chain, &roots(), now() + DAY - Duration::from_secs(1)));
    assert!(!believed(&issued.chain, &roots(), now() + DAY + Duration::from_secs(1)));
    assert!(!believed(&issued.chain[..1], &roots(), now()), "the chain has the intermediate");
    let (_, leaf) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
    assert!(!leaf.is_ca() && leaf.subject().iter().next().is_none());
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical && names.value.general_names.len() == 1);
    let again = identity.issue(&key(), &web(), now()).unwrap();
    assert_ne!(again.chain[0], issued.chain[0]);
}

#[test]
fn an_authority_survives_a_restart_and_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let first = open(&folder);
    let issued = first.issue(&key(), &web(), now()).unwrap();
    drop(first);
    for name in ["authority.bin", "tokens.redb"] {
        let mode = std::fs::metadata(folder.path().join("identity").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let second = open(&folder);
    assert!(believed(&issued.chain, [second.keyring().root()], now()));
    drop(second);
    let file = folder.path().join("identity/authority.bin");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let options = Options {
        trust_domain: DOMAIN.to_owned(),
        leaf_life: DAY,
        folder: folder.path().join("identity"),
        supplied: None,
        kubernetes: None,
    };
    assert!(Identity::open(options, now()).is_err());
}

#[test]
fn nothing_but_the_key_of_a_request_is_taken() {
    let request =
        |params: CertificateParams, key: &KeyPair| params.serialize_request(key).unwrap().der().to_vec();
    let mine = KeyPair::generate().unwrap();
    let plain = || CertificateParams::default();
    let good = request(plain(), &mine);
    assert_eq!(PublicKey::of_request(&good).unwrap().der_bytes(), mine.der_bytes());
    let mut named = plain();
    named.subject_alt_names = vec![rcgen::SanType::URI("spiffe://td/ns/a/sa/admin".try_into().unwrap())];
    let mut authority = plain();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut longer = good.clone();
    longer.push(0);
    for (der, expected) in [
        (request(named, &mine), BadRequest::Attributes),
        (request(authority, &mine), BadRequest::Attributes),
        (forged, BadRequest::Signature),
        (longer, BadRequest::Malformed),
        (good[..good.len() / 2].to_vec(), BadRequest::Malformed),
        (Vec::new(), BadRequest::Malformed),
        (vec![0x30; request::REQUEST_BYTES_MAX + 1], BadRequest::Malformed),
    ] {
        assert_eq!(PublicKey::of_request(&der).map(|_| ()), Err(expected));
    }
    let odd = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    assert_eq!(PublicKey::of_request(&request(plain(), &odd)).map(|_| ()), Err(BadRequest::Key));
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        assert!(PublicKey::of_request(&request(plain(), &key)).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn of_a_thousand_uses_of_a_token_one_succeeds() {
    let folder = TempDir::new().unwrap();
    let tokens = Arc::new(Tokens::open(&folder.path().join("tokens.redb")).unwrap());
    let grant = Grant { id: web(), expires: now() + DAY };
    let secret = tokens.create(&grant, now(), [7; 32]).unwrap();
    let users: Vec<_> = (0..8)
        .map(|_| {
            let tokens = tokens.clone();
            std::thread::spawn(move || (0..125).filter(|_| tokens.consume(&secret, now()).is_ok()).count())
        })
        .collect();
    let successes: usize = users.into_iter().map(|user| user.join().unwrap()).sum();
    assert_eq!(successes, 1);
    drop(tokens);
    let again = Tokens::open(&folder.path().join("tokens.redb")).unwrap();
    assert_eq!(again.consume(&secret, now()), Err(TokenError::Unknown));
}

#[test]
fn a_token_ends_is_kept_as_its_hash_and_names_the_root() {
    let folder = TempDir::new().unwrap();
    let identity = open(&folder);
    let (text, expires) = identity.create_token(web(), DAY, now()).unwrap();
    let secret = token::secret(&text).unwrap();
    let kept = std::fs::read(folder.path().join("identity/tokens.redb")).unwrap();
    assert!(!kept.windows(secret.len()).any(|window| window == secret));
    assert_eq!(identity.tokens.consume(&secret, expires), Err(TokenError::Expired));
    assert_eq!(identity.tokens.consume(&secret, now()), Err(TokenError::Unknown));
    for wrong in ["", "weft1", "weft1.a.b", "weft2.aaaa.b", &text[..20]] {
        assert_eq!(token::secret(wrong), None, "{wrong}");
    }
}

#[test]
fn a_new_root_signs_once_everybody_believes_it_and_the_old_one_outlives_its_leaves() {
    let folder = TempDir::new().unwrap();
    let identity = open(&folder);
    let old = identity.issue(&key(), &web(), now()).unwrap();
    let old_root = identity.keyring().root().clone();
    let slow = identity.believer(1);
    let version = identity.rotate(now()).unwrap();
    assert_eq!(identity.keyring().trusted().count(), 2);
    let minute = Duration::from_secs(60);
    identity.renew(now() + minute).unwrap();
    assert_eq!(identity.keyring().root(), &old_root, "somebody does not believe the new one yet");
    slow.believes(version);
    identity.renew(now() + Duration::from_secs(1)).unwrap();
    assert_eq!(identity.keyring().root(), &old_root, "it is too new");
    identity.renew(now() + minute).unwrap();
    assert_ne!(identity.keyring().root(), &old_root);
    let new = identity.issue(&key(), &web(), now() + minute).unwrap();
    let keyring = identity.keyring();
    assert!(believed(&old.chain, keyring.trusted(), now() + minute));
    assert!(believed(&new.chain, keyring.trusted(), now() + minute));
    assert!(!believed(&new.chain, [&old_root], now() + minute));
    identity.renew(now() + DAY + minute).unwrap();
    assert_eq!(identity.keyring().trusted().count(), 2);
    identity.renew(now() + DAY + 3 * minute).unwrap();
    assert_eq!(identity.keyring().trusted().collect::<Vec<_>>(), [keyring.root()]);
}

#[test]
fn intermediates_and_roots_are_renewed_by_themselves() {
    let folder = TempDir::new().unwrap();
    let identity = open(&folder);
    let first = identity.keyring();
    identity.renew(now() + 14 * DAY).unwrap();
    assert_eq!(identity.keyring().intermediates(), first.intermediates());
    identity.renew(now() + 15 * DAY).unwrap();
    assert_ne!(identity.keyring().intermediates(), first.intermediates());
    assert_eq!((identity.keyring().root(), identity.keyring().version()), (first.root(), first.version()));
    identity.renew(now() + 274 * DAY).unwrap();
    assert_eq!(identity.keyring().trusted().count(), 2);
}

#[test]
fn an_operators_authority_signs_under_its_own_root() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let root = issue::Signer::root("corp", now(), 300 * DAY).unwrap();
    let middle = root.intermediate("corp", now(), 60 * DAY).unwrap();
    let pem = |der: &CertificateDer<'_>| {
        let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("root-cert.pem", pem(root.certificate()));
    write("ca-cert.pem", pem(middle.certificate()));
    write("ca-key.pem", middle.key_pem());
    let options = || Options {
        trust_domain: DOMAIN.to_owned(),
        leaf_life: DAY,
        folder: folder.path().join("state"),
        supplied: Some(folder.path().to_owned()),
        kubernetes: None,
    };
    std::fs::create_dir(folder.path().join("state")).unwrap();
    let mode = |mode| {
        std::fs::set_permissions(folder.path().join("ca-key.pem"), std::fs::Permissions::from_mode(mode))
            .unwrap();
    };
    mode(0o644);
    assert!(Identity::open(options(), now()).unwrap_err().to_string().contains("chmod 600"));
    mode(0o600);
    let identity = Identity::open(options(), now()).unwrap();
    let issued = identity.issue(&key(), &web(), now()).unwrap();
    assert!(believed(&issued.chain, [root.certificate()], now()));
    drop(identity);
    write("ca-key.pem", root.key_pem());
    mode(0o600);
    assert!(Identity::open(options(), now()).unwrap_err().to_string().contains("ca-key.pem"));
}
