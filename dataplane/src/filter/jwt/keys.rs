//! Keys of issuers (RFC 7517, 7518, 8037), and whether one of them signed something. How a token is checked is the key's
//! affair: what a token says of it only chooses among the ways in which its key may be used. Pure.

use std::fmt;

use aws_lc_rs::{
    hmac,
    signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::status::Status;

/// Most keys that are tried.
const KEYS_MAX: usize = 100;

/// The keys of an issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Key>);

/// Ways to sign (RFC 7518, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC.
    Hs(Hash),
    /// RSASSA-PKCS1-v1_5.
    Rs(Hash),
    /// RSASSA-PSS.
    Ps(Hash),
    /// ECDSA.
    Es(Hash),
    /// Ed25519.
    EdDsa,
}

/// What is signed is hashed by one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

#[derive(Clone)]
struct Key {
    id: Option<String>,
    /// The one way in which it may be used, where its issuer says.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// A point of the curve that goes with a hash.
    Ec(Hash, Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
}

/// Without the key, which may be a secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Algorithm {
    /// By its name; none is not known, `none` among them.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs(Hash::Sha256),
            "HS384" => Self::Hs(Hash::Sha384),
            "HS512" => Self::Hs(Hash::Sha512),
            "RS256" => Self::Rs(Hash::Sha256),
            "RS384" => Self::Rs(Hash::Sha384),
            "RS512" => Self::Rs(Hash::Sha512),
            "PS256" => Self::Ps(Hash::Sha256),
            "PS384" => Self::Ps(Hash::Sha384),
            "PS512" => Self::Ps(Hash::Sha512),
            "ES256" => Self::Es(Hash::Sha256),
            "ES384" => Self::Es(Hash::Sha384),
            "ES512" => Self::Es(Hash::Sha512),
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

impl KeySet {
    /// The keys of a text that can be used; what is no key set has none.
    pub fn parse(text: &str) -> Self {
        let set: Option<Value> = serde_json::from_str(text).ok();
        let keys = set.as_ref().and_then(|set| set.get("keys")).and_then(Value::as_array);
        let objects = keys.into_iter().flatten().filter_map(Value::as_object);
        Self(objects.filter_map(Key::read).take(KEYS_MAX).collect())
    }

    /// Whether one of the keys signed `message` as a token says.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Status> {
        if self.0.is_empty() {
            return Err(Status::NoKeys);
        }
        let id = id.filter(|id| !id.is_empty());
        let fits = |key: &&Key| {
            let other = matches!((id, &key.id), (Some(id), Some(own)) if id != own);
            !other && key.algorithm.is_none_or(|own| own == algorithm)
        };
        let mut candidates = self.0.iter().filter(fits).peekable();
        if candidates.peek().is_none() {
            return Err(Status::NoKeyMatches);
        }
        if candidates.any(|key| key.signed(algorithm, message, signature)) {
            Ok(())
        } else {
            Err(Status::Forged)
        }
    }
}

impl Key {
    fn read(key: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let bytes = |name: &str| {
            let decoded = text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok());
            decoded.filter(|bytes| !bytes.is_empty())
        };
        let algorithm = match text("alg") {
            None => None,
            // A way that is not known is not another one.
            Some(name) => Some(Algorithm::named(name)?),
        };
        let material = match text("kty")? {
            "RSA" => Material::Rsa(RsaPublicKeyComponents { n: bytes("n")?, e: bytes("e")? }),
            "EC" => {
                let (hash, size) = match (text("crv"), algorithm) {
                    (Some("P-256"), _) | (None, None | Some(Algorithm::Es(Hash::Sha256))) => {
                        (Hash::Sha256, 32)
                    }
                    (Some("P-384"), _) | (None, Some(Algorithm::Es(Hash::Sha384))) => (Hash::Sha384, 48),
                    (Some("P-521"), _) | (None, Some(Algorithm::Es(Hash::Sha512))) => (Hash::Sha512, 66),
                    _ => return None,
                };
                Material::Ec(hash, point(&bytes("x")?, &bytes("y")?, size)?)
            }
            "OKP" if text("crv") == Some("Ed25519") => {
                Material::Ed25519(bytes("x").filter(|bytes| bytes.len() == 32)?)
            }
            "oct" => Material::Secret(bytes("k")?),
            _ => return None,
        };
        let usable = match (&material, algorithm) {
            (_, None)
            | (Material::Rsa(_), Some(Algorithm::Rs(_) | Algorithm::Ps(_)))
            | (Material::Ed25519(_), Some(Algorithm::EdDsa))
            | (Material::Secret(_), Some(Algorithm::Hs(_))) => true,
            (Material::Ec(curve, _), Some(Algorithm::Es(hash))) => *curve == hash,
            _ => false,
        };
        usable.then(|| Self { id: text("kid").map(str::to_owned), algorithm, material })
    }

    fn signed(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let rsa = |key: &RsaPublicKeyComponents<Vec<u8>>, how: &'static RsaParameters| {
            key.verify(how, message, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Rsa(key), Algorithm::Rs(hash)) => rsa(key, pkcs1(hash)),
            (Material::Rsa(key), Algorithm::Ps(hash)) => rsa(key, pss(hash)),
            (Material::Ec(curve, point), Algorithm::Es(hash)) if *curve == hash => {
                let how = match hash {
                    Hash::Sha256 => &signature::ECDSA_P256_SHA256_FIXED,
                    Hash::Sha384 => &signature::ECDSA_P384_SHA384_FIXED,
                    Hash::Sha512 => &signature::ECDSA_P521_SHA512_FIXED,
                };
                UnparsedPublicKey::new(how, point).verify(message, signature).is_ok()
            }
            (Material::Ed25519(key), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature).is_ok()
            }
            (Material::Secret(secret), Algorithm::Hs(hash)) => {
                let how = match hash {
                    Hash::Sha256 => hmac::HMAC_SHA256,
                    Hash::Sha384 => hmac::HMAC_SHA384,
                    Hash::Sha512 => hmac::HMAC_SHA512,
                };
                hmac::verify(&hmac::Key::new(how, secret), message, signature).is_ok()
            }
            // A key is never used in a way that is another kind's.
            (Material::Rsa(_) | Material::Ec(..) | Material::Ed25519(_) | Material::Secret(_), _) => false,
        }
    }
}

fn pkcs1(hash: Hash) -> &'static RsaParameters {
    match hash {
        Hash::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Hash::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Hash::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
    }
}

fn pss(hash: Hash) -> &'static RsaParameters {
    match hash {
        Hash::Sha256 => &signature::RSA_PSS_2048_8192_SHA256,
        Hash::Sha384 => &signature::RSA_PSS_2048_8192_SHA384,
        Hash::Sha512 => &signature::RSA_PSS_2048_8192_SHA512,
    }
}

/// An uncompressed point (SEC 1, 2.3.3); none where a coordinate is too long.
fn point(x: &[u8], y: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut point = vec![4];
    for coordinate in [x, y] {
        point.resize(point.len() + size.checked_sub(coordinate.len())?, 0);
        point.extend_from_slice(coordinate);
    }
    Some(point)
}
