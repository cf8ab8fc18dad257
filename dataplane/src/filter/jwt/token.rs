//! A token (RFC 7515, 7519): taken apart, and checked against who may issue it, for whom, and when. Pure.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{keys::Algorithm, status::Status};
use crate::spec::{Audiences, Provider};

/// Longest token that is looked at, bytes.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// A token of which nothing is proven yet.
#[derive(Debug)]
pub struct Token<'t> {
    algorithm: Algorithm,
    key_id: Option<String>,
    /// Header and claims as they were signed.
    signed: &'t str,
    /// The claims as they were signed, base64url.
    pub payload: &'t str,
    /// What it says.
    pub claims: Map<String, Value>,
    signature: Vec<u8>,
}

impl<'t> Token<'t> {
    /// Takes a token apart.
    pub fn parse(text: &'t str) -> Result<Self, Status> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Status::TooLong);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Status::BadFormat);
        };
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(Status::BadFormat);
        }
        let decoded = URL_SAFE_NO_PAD.decode(header).map_err(|_| Status::HeaderBase64)?;
        let said = object(&decoded).ok_or(Status::HeaderJson)?;
        let algorithm = said.get("alg").and_then(Value::as_str).ok_or(Status::NoAlgorithm)?;
        let algorithm = Algorithm::named(algorithm).ok_or(Status::UnknownAlgorithm)?;
        let key_id = text_or(&said, "kid", Status::BadKeyId)?;
        if said.contains_key("crit") {
            return Err(Status::Critical);
        }
        let decoded = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Status::PayloadBase64)?;
        let claims = object(&decoded).ok_or(Status::PayloadJson)?;
        text_or(&claims, "iss", Status::BadIssuer)?;
        text_or(&claims, "sub", Status::BadSubject)?;
        time(&claims, "iat", Status::IssuedNoNumber, Status::IssuedNoTime)?;
        time(&claims, "nbf", Status::NotBeforeNoNumber, Status::NotBeforeNoTime)?;
        time(&claims, "exp", Status::ExpiryNoNumber, Status::ExpiryNoTime)?;
        text_or(&claims, "jti", Status::BadId)?;
        audiences(&claims)?;
        let signed = &text[..header.len() + 1 + payload.len()];
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Status::SignatureBase64)?;
        Ok(Self { algorithm, key_id, signed, payload, claims, signature })
    }

    /// Whether it is of a provider, in force at `now` (seconds since 1970), and for one of `meant`.
    pub fn check(&self, provider: &Provider, meant: &Audiences, now: u64) -> Result<(), Status> {
        let issuer = self.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        if provider.issuer.as_ref().is_some_and(|wanted| **wanted != *issuer) {
            return Err(Status::UnknownIssuer);
        }
        let at = |name| self.claims.get(name).and_then(Value::as_f64).map(|seconds| seconds as u64);
        if at("nbf").is_some_and(|begin| now.saturating_add(provider.skew_s) < begin) {
            return Err(Status::NotYetValid);
        }
        if at("exp").is_some_and(|end| now > end.saturating_add(provider.skew_s)) {
            return Err(Status::Expired);
        }
        let own = audiences(&self.claims)?;
        if !meant.0.is_empty() && !own.iter().any(|own| meant.0.iter().any(|meant| **meant == *bare(own))) {
            return Err(Status::AudienceNotAllowed);
        }
        let id = self.key_id.as_deref();
        provider.keys.verify(self.algorithm, id, self.signed.as_bytes(), &self.signature)
    }
}

/// An audience without its scheme and last slash, which Envoy does not compare.
pub fn bare(audience: &str) -> &str {
    let rest = audience.strip_prefix("http://").or_else(|| audience.strip_prefix("https://"));
    let rest = rest.unwrap_or(audience);
    rest.strip_suffix('/').unwrap_or(rest)
}

fn text_or(object: &Map<String, Value>, name: &str, wrong: Status) -> Result<Option<String>, Status> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong),
    }
}

fn time(object: &Map<String, Value>, name: &str, no_number: Status, no_time: Status) -> Result<(), Status> {
    match object.get(name) {
        None => Ok(()),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(seconds) if (0.0..u64::MAX as f64).contains(&seconds) => Ok(()),
            _ => Err(no_time),
        },
        Some(_) => Err(no_number),
    }
}

fn audiences(claims: &Map<String, Value>) -> Result<Vec<&str>, Status> {
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(several)) => {
            several.iter().map(|one| one.as_str().ok_or(Status::BadAudience)).collect()
        }
        Some(_) => Err(Status::BadAudience),
    }
}

/// An object of JSON in which no name stands twice: of two, others could read the one that was not checked.
fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(Value::Object(object))) => Some(object),
        _ => None,
    }
}

/// A value whose objects have no name twice. How deep it is nested is limited by serde_json.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("no number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            found.push(item);
        }
        Ok(Value::Array(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some((name, Strict(value))) = fields.next_entry::<String, Strict>()? {
            if found.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(found))
    }
}
