//! Tokens that are good, and every way in which one is not.

use std::sync::Arc;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, Uri, header::AUTHORIZATION};

use super::{
    keys::KeySet,
    token::{TOKEN_BYTES_MAX, bare},
    *,
};

/// When the tests are, seconds since 1970.
const NOW: u64 = 1_800_000_000;

const GOOD: &str = r#"{"iss":"i","sub":"s","exp":1800000100}"#;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What signs in the tests.
struct Signers {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ec384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signers {
    fn new() -> Self {
        let ec = |how| EcdsaKeyPair::generate(how).unwrap();
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            ec384: ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn rsa_key(&self) -> String {
        let key = self.rsa.public_key();
        let (n, e) = (key.modulus(), key.exponent());
        let (n, e) = (b64(n.big_endian_without_leading_zero()), b64(e.big_endian_without_leading_zero()));
        format!(r#"{{"kty":"RSA","kid":"r","n":"{n}","e":"{e}"}}"#)
    }

    fn ec_key(pair: &EcdsaKeyPair, curve: &str, id: &str) -> String {
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        format!(r#"{{"kty":"EC","crv":"{curve}","kid":"{id}","x":"{}","y":"{}"}}"#, b64(x), b64(y))
    }

    fn keys(&self) -> String {
        let ed = b64(self.ed.public_key().as_ref());
        [
            self.rsa_key(),
            Self::ec_key(&self.ec, "P-256", "e"),
            Self::ec_key(&self.ec384, "P-384", "e3"),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"d","x":"{ed}"}}"#),
            format!(r#"{{"kty":"oct","kid":"h","k":"{}"}}"#, b64(b"secret")),
            format!(r#"{{"kty":"oct","kid":"h5","alg":"HS512","k":"{}"}}"#, b64(b"secret")),
        ]
        .join(",")
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        let rsa = |how: &'static dyn signature::RsaEncoding| {
            let mut out = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(how, &rng, message, &mut out).unwrap();
            out
        };
        let hs = |how| hmac::sign(&hmac::Key::new(how, b"secret"), message).as_ref().to_vec();
        match algorithm {
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "PS512" => rsa(&signature::RSA_PSS_SHA512),
            "ES256" => self.ec.sign(&rng, message).unwrap().as_ref().to_vec(),
            "ES384" => self.ec384.sign(&rng, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            "HS256" => hs(hmac::HMAC_SHA256),
            "HS384" => hs(hmac::HMAC_SHA384),
            "HS512" => hs(hmac::HMAC_SHA512),
            // The confusion: a public key for a secret.
            "HS256 by RSA" => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.rsa.public_key().as_ref());
                hmac::sign(&key, message).as_ref().to_vec()
            }
            other => panic!("{other}"),
        }
    }

    fn token(&self, how: &str, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = b64(self.sign(how, message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// Signed with P-256.
    fn usual(&self, claims: &str) -> String {
        self.token("ES256", r#"{"alg":"ES256","kid":"e"}"#, claims)
    }
}

fn provider(keys: &str) -> Provider {
    Provider {
        issuer: Some("i".into()),
        audiences: Audiences(Vec::new()),
        keys: KeySet::parse(&format!(r#"{{"keys":[{keys}]}}"#)),
        locations: vec![
            Location::Header(AUTHORIZATION, "Bearer ".into()),
            Location::Param("access_token".into()),
        ],
        forward: false,
        payload_header: None,
        pad_payload: false,
        claim_headers: Vec::new(),
        payload_in_metadata: None,
        space_delimited: Vec::new(),
        skew_s: 60,
    }
}

/// Of a provider or without any token, as documents ask for.
fn optional(provider: Provider) -> Requirement {
    let of = vec![Requirement::Provider(Arc::new(provider), None)];
    Requirement::Any { of, leniency: Leniency::Missing }
}

fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap())])
}

/// How many good tokens there are.
fn outcome(requirement: &Requirement, headers: &HeaderMap, query: Option<&str>) -> Result<usize, Status> {
    let mut good = Vec::new();
    meets(requirement, Asked { headers, query, now: NOW }, &mut good).map(|()| good.len())
}

#[test]
fn a_token_is_good_by_the_key_of_its_kind_alone() {
    let signers = Signers::new();
    let requirement = optional(provider(&signers.keys()));
    #[rustfmt::skip]
    let cases = [
        ("RS256", r#"{"alg":"RS256","kid":"r"}"#, Ok(1)),
        ("RS384", r#"{"alg":"RS384","kid":"r"}"#, Ok(1)),
        ("RS512", r#"{"alg":"RS512","kid":"r"}"#, Ok(1)),
        ("PS256", r#"{"alg":"PS256","kid":"r"}"#, Ok(1)),
        ("PS512", r#"{"alg":"PS512","kid":"r"}"#, Ok(1)),
        ("ES256", r#"{"alg":"ES256","kid":"e"}"#, Ok(1)),
        ("ES384", r#"{"alg":"ES384","kid":"e3"}"#, Ok(1)),
        ("EdDSA", r#"{"alg":"EdDSA","kid":"d"}"#, Ok(1)),
        ("HS256", r#"{"alg":"HS256","kid":"h"}"#, Ok(1)),
        ("HS384", r#"{"alg":"HS384","kid":"h"}"#, Ok(1)),
        ("HS512", r#"{"alg":"HS512","kid":"h5"}"#, Ok(1)),
        ("ES256", r#"{"alg":"ES256"}"#, Ok(1)),
        ("ES256", r#"{"alg":"ES256","kid":""}"#, Ok(1)),
        ("ES256", r#"{"alg":"ES256","kid":"e","typ":"JWT","jku":"https://evil.test/keys"}"#, Ok(1)),
        ("ES256", r#"{"alg":"ES256","kid":"other"}"#, Err(Status::NoKeyMatches)),
        ("ES256", r#"{"alg":"ES256","kid":"r"}"#, Err(Status::Forged)),
        ("ES256", r#"{"alg":"ES256","kid":"../../dev/null"}"#, Err(Status::NoKeyMatches)),
        ("ES256", r#"{"alg":"ES256","kid":"e' OR '1'='1"}"#, Err(Status::NoKeyMatches)),
        ("ES256", r#"{"alg":"ES256","kid":["e"]}"#, Err(Status::BadKeyId)),
        ("ES256", r#"{"alg":"ES384","kid":"e"}"#, Err(Status::Forged)),
        ("ES256", r#"{"alg":"RS256","kid":"r"}"#, Err(Status::Forged)),
        ("ES256", r#"{"alg":"EdDSA","kid":"d"}"#, Err(Status::Forged)),
        ("PS256", r#"{"alg":"RS256","kid":"r"}"#, Err(Status::Forged)),
        ("HS256", r#"{"alg":"HS256","kid":"h5"}"#, Err(Status::NoKeyMatches)),
        ("HS256 by RSA", r#"{"alg":"HS256","kid":"r"}"#, Err(Status::Forged)),
        ("HS256 by RSA", r#"{"alg":"HS256"}"#, Err(Status::Forged)),
        ("ES256", r#"{"alg":"none","kid":"e"}"#, Err(Status::UnknownAlgorithm)),
        ("ES256", r#"{"alg":"None","kid":"e"}"#, Err(Status::UnknownAlgorithm)),
        ("ES256", r#"{"alg":"es256","kid":"e"}"#, Err(Status::UnknownAlgorithm)),
        ("ES256", r#"{"alg":"","kid":"e"}"#, Err(Status::UnknownAlgorithm)),
        ("ES256", r#"{"alg":256,"kid":"e"}"#, Err(Status::NoAlgorithm)),
        ("ES256", r#"{"kid":"e"}"#, Err(Status::NoAlgorithm)),
        ("ES256", r#"{"alg":"ES256","kid":"e","crit":["exp"]}"#, Err(Status::Critical)),
        ("ES256", r#"{"alg":"ES256","alg":"none","kid":"e"}"#, Err(Status::HeaderJson)),
        ("ES256", r#"["ES256"]"#, Err(Status::HeaderJson)),
        ("ES256", r#"{"alg":"ES256","jwk":{"kty":"oct","k":"AA"},"kid":"x"}"#, Err(Status::NoKeyMatches)),
    ];
    for (how, header, expected) in cases {
        let token = signers.token(how, header, GOOD);
        assert_eq!(outcome(&requirement, &bearer(&token), None), expected, "{how} {header}");
    }
    // Where there is no key nothing is good.
    let none = optional(provider(""));
    assert_eq!(outcome(&none, &bearer(&signers.usual(GOOD)), None), Err(Status::NoKeys));
}

#[test]
fn claims_say_what_they_must_in_their_own_types() {
    let signers = Signers::new();
    let requirement = optional(provider(&signers.keys()));
    #[rustfmt::skip]
    let cases = [
        (GOOD, Ok(1)),
        (r#"{"iss":"i"}"#, Ok(1)),
        (r#"{"iss":"i","exp":1800000000.5,"nbf":1799999999.5,"iat":1}"#, Ok(1)),
        (r#"{"iss":"i","exp":1799999940}"#, Ok(1)),
        (r#"{"iss":"i","exp":1799999939}"#, Err(Status::Expired)),
        (r#"{"iss":"i","exp":0}"#, Err(Status::Expired)),
        (r#"{"iss":"i","nbf":1800000060}"#, Ok(1)),
        (r#"{"iss":"i","nbf":1800000061}"#, Err(Status::NotYetValid)),
        (r#"{"iss":"i","exp":"1800000100"}"#, Err(Status::ExpiryNoNumber)),
        (r#"{"iss":"i","exp":null}"#, Err(Status::ExpiryNoNumber)),
        (r#"{"iss":"i","exp":[1800000100]}"#, Err(Status::ExpiryNoNumber)),
        (r#"{"iss":"i","exp":-1}"#, Err(Status::ExpiryNoTime)),
        (r#"{"iss":"i","exp":1e30}"#, Err(Status::ExpiryNoTime)),
        (r#"{"iss":"i","exp":1e400}"#, Err(Status::PayloadJson)),
        (r#"{"iss":"i","nbf":"0"}"#, Err(Status::NotBeforeNoNumber)),
        (r#"{"iss":"i","nbf":-5}"#, Err(Status::NotBeforeNoTime)),
        (r#"{"iss":"i","iat":"now"}"#, Err(Status::IssuedNoNumber)),
        (r#"{"iss":"i","iat":-5}"#, Err(Status::IssuedNoTime)),
        (r#"{"sub":"s"}"#, Err(Status::UnknownIssuer)),
        (r#"{"iss":""}"#, Err(Status::UnknownIssuer)),
        (r#"{"iss":"I"}"#, Err(Status::UnknownIssuer)),
        (r#"{"iss":"i/"}"#, Err(Status::UnknownIssuer)),
        (r#"{"iss":["i"]}"#, Err(Status::BadIssuer)),
        (r#"{"iss":{"i":1}}"#, Err(Status::BadIssuer)),
        (r#"{"iss":"i","sub":7}"#, Err(Status::BadSubject)),
        (r#"{"iss":"i","jti":7}"#, Err(Status::BadId)),
        (r#"{"iss":"i","aud":7}"#, Err(Status::BadAudience)),
        (r#"{"iss":"i","aud":["a",7]}"#, Err(Status::BadAudience)),
        (r#"{"iss":"evil","iss":"i"}"#, Err(Status::PayloadJson)),
        (r#"{"iss":"i","a":{"b":1,"b":2}}"#, Err(Status::PayloadJson)),
        (r#"{"iss":"i""#, Err(Status::PayloadJson)),
        (r#"{"iss":"i"} "#, Ok(1)),
        (r#"{"iss":"i"}x"#, Err(Status::PayloadJson)),
        ("7", Err(Status::PayloadJson)),
        ("", Err(Status::BadFormat)),
    ];
    for (claims, expected) in cases {
        let token = signers.usual(claims);
        assert_eq!(outcome(&requirement, &bearer(&token), None), expected, "{claims}");
    }
    let deep = format!(r#"{{"iss":"i","a":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    assert_eq!(outcome(&requirement, &bearer(&signers.usual(&deep)), None), Err(Status::PayloadJson));
}

#[test]
fn a_token_has_one_form() {
    let signers = Signers::new();
    let requirement = optional(provider(&signers.keys()));
    let good = signers.usual(GOOD);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let other = b64(r#"{"iss":"i","sub":"admin"}"#);
    let padded = "a".repeat(TOKEN_BYTES_MAX);
    for (token, expected) in [
        (good.clone(), Ok(1)),
        (signed.to_owned(), Err(Status::BadFormat)),
        (format!("{signed}."), Err(Status::BadFormat)),
        (format!(".{signed}.{signature}"), Err(Status::BadFormat)),
        (format!("{header}..{claims}.{signature}"), Err(Status::BadFormat)),
        (format!("{good}.x"), Err(Status::BadFormat)),
        (format!("{signed}.{}", b64([])), Err(Status::BadFormat)),
        (format!("{signed}.AAAA"), Err(Status::Forged)),
        (format!("{signed}.{}", b64([0; 64])), Err(Status::Forged)),
        (format!("{header}.{other}.{signature}"), Err(Status::Forged)),
        (format!("{header}.{claims}=.{signature}"), Err(Status::PayloadBase64)),
        (format!("{header}+.{claims}.{signature}"), Err(Status::HeaderBase64)),
        (format!("{signed}.{signature} "), Err(Status::SignatureBase64)),
        (format!("{header}.{padded}.{signature}"), Err(Status::TooLong)),
        ("x".to_owned(), Err(Status::BadFormat)),
        (String::new(), Err(Status::BadFormat)),
    ] {
        assert_eq!(outcome(&requirement, &bearer(&token), None), expected, "{token}");
    }
}

#[test]
fn audiences_are_compared_without_scheme_and_last_slash() {
    let signers = Signers::new();
    let audiences = Audiences(vec![bare("https://a.test/").into(), "b".into()]);
    let requirement = optional(Provider { audiences, ..provider(&signers.keys()) });
    for (aud, expected) in [
        (r#""a.test""#, Ok(1)),
        (r#""http://a.test""#, Ok(1)),
        (r#"["x","b"]"#, Ok(1)),
        (r#""a.test.evil""#, Err(Status::AudienceNotAllowed)),
        (r#"[]"#, Err(Status::AudienceNotAllowed)),
        (r#"["x"]"#, Err(Status::AudienceNotAllowed)),
    ] {
        let token = signers.usual(&format!(r#"{{"iss":"i","aud":{aud}}}"#));
        assert_eq!(outcome(&requirement, &bearer(&token), None), expected, "{aud}");
    }
    assert_eq!(outcome(&requirement, &bearer(&signers.usual(GOOD)), None), Err(Status::AudienceNotAllowed));
}

#[test]
fn tokens_are_found_where_their_provider_looks_and_must_agree() {
    let signers = Signers::new();
    let locations = vec![
        Location::Header(AUTHORIZATION, "Bearer ".into()),
        Location::Header(HeaderName::from_static("x-t"), "".into()),
        Location::Param("t".into()),
        Location::Cookie("c".into()),
    ];
    let requirement = optional(Provider { locations, ..provider(&signers.keys()) });
    let (good, other) = (signers.usual(GOOD), signers.usual(r#"{"iss":"i","sub":"other"}"#));
    let headers = |pairs: &[(&'static str, String)]| {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::try_from(value).unwrap());
        }
        map
    };
    let auth = "authorization";
    for (pairs, query, expected) in [
        (vec![], None, Ok(0)),
        (vec![], Some("x=1".to_owned()), Ok(0)),
        (vec![], Some(format!("a=b&t={good}")), Ok(1)),
        (vec![], Some(format!("%74={good}")), Ok(1)),
        (vec![], Some("t=".to_owned()), Err(Status::BadFormat)),
        (vec![("x-t", good.clone())], None, Ok(1)),
        (vec![("x-t", format!("Bearer {good}"))], None, Err(Status::HeaderBase64)),
        (vec![("cookie", format!("a=b; c={good}"))], None, Ok(1)),
        (vec![("cookie", format!("c=\"{good}\""))], None, Ok(1)),
        (vec![("cookie", format!("cc={good}"))], None, Ok(0)),
        (vec![(auth, format!("Bearer   {good}"))], None, Ok(1)),
        // Credentials of another scheme are no token.
        (vec![(auth, format!("bearer {good}"))], None, Ok(0)),
        (vec![(auth, "Basic dTpw".to_owned())], None, Ok(0)),
        (vec![(auth, format!("Bearer {good}")), ("x-t", good.clone())], None, Ok(2)),
        (vec![(auth, format!("Bearer {good}")), ("x-t", other.clone())], None, Err(Status::Multiple)),
        (
            vec![(auth, format!("Bearer {good}")), (auth, format!("Bearer {other}"))],
            None,
            Err(Status::Multiple),
        ),
        (
            vec![(auth, format!("Bearer {good}")), (auth, format!("Bearer {good}"))],
            None,
            Err(Status::Multiple),
        ),
        (vec![(auth, format!("Bearer {good}"))], Some("t=x".to_owned()), Err(Status::Multiple)),
    ] {
        let headers = headers(&pairs);
        assert_eq!(outcome(&requirement, &headers, query.as_deref()), expected, "{pairs:?} {query:?}");
    }
}

#[test]
fn requirements_are_met_as_in_envoy() {
    let signers = Signers::new();
    let of = |issuer: &str| Arc::new(Provider { issuer: Some(issuer.into()), ..provider(&signers.keys()) });
    let one = |issuer: &str| Requirement::Provider(of(issuer), None);
    let any = |of: Vec<Requirement>, leniency| Requirement::Any { of, leniency };
    let good = bearer(&signers.usual(GOOD));
    let (none, bad) = (HeaderMap::new(), bearer("x"));
    let audience = Requirement::Provider(of("i"), Some(Audiences(vec!["a".into()])));
    for (requirement, of_good, of_none, of_bad) in [
        (one("i"), Ok(1), Err(Status::Missing), Err(Status::BadFormat)),
        (one("j"), Err(Status::UnknownIssuer), Err(Status::Missing), Err(Status::BadFormat)),
        (audience, Err(Status::AudienceNotAllowed), Err(Status::Missing), Err(Status::BadFormat)),
        (any(vec![one("j"), one("i")], Leniency::None), Ok(1), Err(Status::Missing), Err(Status::BadFormat)),
        (any(vec![one("j")], Leniency::Missing), Err(Status::UnknownIssuer), Ok(0), Err(Status::BadFormat)),
        (any(vec![one("j")], Leniency::MissingOrFailed), Ok(0), Ok(0), Ok(0)),
        (
            Requirement::All(vec![one("i"), one("j")]),
            Err(Status::UnknownIssuer),
            Err(Status::Missing),
            Err(Status::BadFormat),
        ),
    ] {
        let found = [&good, &none, &bad].map(|headers| outcome(&requirement, headers, None));
        assert_eq!(found, [of_good, of_none, of_bad], "{requirement:?}");
    }
}

#[test]
fn a_token_that_is_not_forwarded_leaves_its_place() {
    let mut headers = bearer("t");
    let mut uri = Uri::from_static("/p?a=1&%74=x&t=y&b=2");
    extract::remove(&Location::Header(AUTHORIZATION, "Bearer ".into()), &mut headers, &mut uri);
    extract::remove(&Location::Param("t".into()), &mut headers, &mut uri);
    assert!(headers.is_empty());
    assert_eq!(uri, "/p?a=1&b=2");
    let mut alone = Uri::from_static("/p?t=y");
    extract::remove(&Location::Param("t".into()), &mut headers, &mut alone);
    assert_eq!(alone, "/p");
}

#[test]
fn keys_that_contradict_themselves_are_not_used() {
    let signers = Signers::new();
    let token = bearer(&signers.usual(GOOD));
    let key = Signers::ec_key(&signers.ec, "P-256", "e");
    for (alg, expected) in [
        ("ES256", Ok(1)),
        ("ES384", Err(Status::NoKeys)),
        ("RS256", Err(Status::NoKeys)),
        ("x", Err(Status::NoKeys)),
    ] {
        let key = key.replace(r#""kty""#, &format!(r#""alg":"{alg}","kty""#));
        assert_eq!(outcome(&optional(provider(&key)), &token, None), expected, "{alg}");
    }
    // One that cannot be read leaves the others.
    let keys = format!(r#"{{"kty":"EC","crv":"P-256","x":"AA"}},7,{{"kty":"?"}},{key}"#);
    assert_eq!(outcome(&optional(provider(&keys)), &token, None), Ok(1));
}
