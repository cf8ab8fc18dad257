//! Identities of a control plane, as a proxy takes them.

use std::os::unix::fs::PermissionsExt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::{
    client::danger::ServerCertVerifier,
    pki_types::{PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use sha2::{Digest, Sha256};

use super::{disk::Home, pin::Pin, *};
use crate::tls::testing::{Ca, Issued, dns, spiffe};

const WEB: &str = "spiffe://td/ns/shop/sa/web";
const CONTROL: &str = "spiffe://td/weft/control-plane";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_900_000_000)
}

fn chain(issued: &Issued) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(issued.chain.as_bytes()).map(Result::unwrap).collect()
}

fn root(ca: &Ca) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()
}

fn bundle(domain: &str, version: u64, roots: &[&Ca]) -> Bundle {
    let authorities = roots.iter().map(|ca| root(ca).to_vec()).collect();
    Bundle { version, trust_domain: domain.to_owned(), authorities }
}

fn svid(ca: &Ca, issued: &Issued, domain: &str) -> Result<Svid, Unusable> {
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    Svid::new(chain(issued), key.secret_der(), &bundle(domain, 1, &[ca]), now())
}

#[test]
fn an_identity_is_one_spiffe_id_of_the_bundles_domain_with_its_own_key() {
    let ca = Ca::new("mesh");
    let good = svid(&ca, &ca.issue(&spiffe(WEB)), "td").unwrap();
    assert_eq!(good.id.as_str(), WEB);
    assert!(good.is_valid(now()) && !good.is_valid(UNIX_EPOCH));
    assert!(!format!("{good:?}").contains("key"));
    assert!(matches!(svid(&ca, &ca.issue(&spiffe(WEB)), "other"), Err(Unusable::Foreign(..))));
    assert!(matches!(svid(&ca, &ca.issue(&dns("a.test")), "td"), Err(Unusable::Nameless)));
    let (one, other) = (ca.issue(&spiffe(WEB)), ca.issue(&spiffe(WEB)));
    let mixed = Issued { chain: one.chain, key: other.key };
    assert!(matches!(svid(&ca, &mixed, "td"), Err(Unusable::Part(_))));
    let nobody = Svid::new(Vec::new(), &[], &bundle("td", 1, &[&ca]), now());
    assert!(matches!(nobody, Err(Unusable::Part(_))));
    let untrusting = bundle("td", 1, &[]);
    assert!(Trusted::new(&untrusting).is_err());
}

#[test]
fn what_is_kept_comes_back_and_is_nobody_elses_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(&folder.path().join("identity")).unwrap();
    assert!(home.load(now()).unwrap().is_none());
    let ca = Ca::new("mesh");
    let before = svid(&ca, &ca.issue(&spiffe(WEB)), "td").unwrap();
    home.save(&before).unwrap();
    let after = home.load(now()).unwrap().unwrap();
    assert_eq!(
        (after.chain(), after.reveal_key(), &after.trust),
        (before.chain(), before.reveal_key(), &before.trust)
    );
    let file = folder.path().join("identity/identity.bin");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(home.load(now()).unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, b"\xff\xff").unwrap();
    assert!(home.load(now()).is_err());
}

#[test]
fn an_equal_bundle_stays_the_same_allocation() {
    let (ca, other) = (Ca::new("mesh"), Ca::new("next"));
    let before = svid(&ca, &ca.issue(&spiffe(WEB)), "td").unwrap();
    let same = before.trusting(Trusted::new(&bundle("td", 2, &[&ca])).unwrap());
    assert!(Arc::ptr_eq(&same.trust.authorities, &before.trust.authorities) && same.trust.version == 2);
    let both = before.trusting(Trusted::new(&bundle("td", 3, &[&ca, &other])).unwrap());
    assert_eq!((both.trust.authorities.anchors.len(), &both.certificate), (2, &before.certificate));
}

#[test]
fn the_control_plane_is_known_by_its_root_and_by_the_id_that_it_alone_has() {
    let (ca, stranger) = (Ca::new("mesh"), Ca::new("stranger"));
    let hash: [u8; 32] = Sha256::digest(root(&ca)).into();
    let token = format!("weft1.secret.{}", BASE64_URL_SAFE_NO_PAD.encode(hash));
    let by_hash = Pin::of_token(&token).unwrap();
    assert_eq!(by_hash, Pin::Hash(hash));
    let by_root = Pin::Roots(Arc::new(Authorities::of(&[root(&ca)]).unwrap()));
    for bad in ["", "weft1", "weft1.a", "weft1.a.%", "weft1.a.AAAA"] {
        assert_eq!(Pin::of_token(bad), None, "{bad}");
    }
    let believes = |pin: &Pin, domain: Option<&str>, shown: &[CertificateDer<'_>]| {
        let verifier = super::pin::ControlPlane { trusted: pin.clone(), domain: domain.map(str::to_owned) };
        let name = ServerName::try_from("anywhere").unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        verifier.verify_server_cert(&shown[0], &shown[1..], &name, &[], at).is_ok()
    };
    let shown = |by: &Ca, id: &'static str, root_of: &Ca| {
        let mut shown = chain(&by.issue(&spiffe(id)));
        shown.push(root(root_of));
        shown
    };
    for pin in [&by_hash, &by_root] {
        assert!(believes(pin, None, &shown(&ca, CONTROL, &ca)));
        assert!(believes(pin, Some("td"), &shown(&ca, CONTROL, &ca)));
        assert!(!believes(pin, Some("other"), &shown(&ca, CONTROL, &ca)), "of another domain");
        assert!(!believes(pin, None, &shown(&ca, WEB, &ca)), "a workload");
        assert!(!believes(pin, None, &shown(&ca, "spiffe://td/weft/adapter/a", &ca)), "an adapter");
        assert!(!believes(pin, None, &shown(&stranger, CONTROL, &ca)), "of a stranger, with the root shown");
        assert!(!believes(pin, None, &shown(&stranger, CONTROL, &stranger)));
    }
    assert!(!believes(&by_hash, None, &chain(&ca.issue(&spiffe(CONTROL)))), "without the root");
}
