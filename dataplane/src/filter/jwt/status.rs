//! What is wrong with a token, in Envoy's words. Pure.

use std::sync::{Arc, LazyLock};

use http::StatusCode;

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is none.
    Missing,
    /// Several different ones came.
    Multiple,
    /// It is longer than anybody's should be.
    TooLong,
    /// It has not three parts.
    BadFormat,
    /// Its header is no base64url.
    HeaderBase64,
    /// Its header is no object of JSON.
    HeaderJson,
    /// It does not say how it is signed.
    NoAlgorithm,
    /// It is signed in no known way.
    UnknownAlgorithm,
    /// `kid` is no text.
    BadKeyId,
    /// It has extensions that must be understood (RFC 7515, 4.1.11).
    Critical,
    /// Its claims are no base64url.
    PayloadBase64,
    /// Its claims are no object of JSON.
    PayloadJson,
    /// `iss` is no text.
    BadIssuer,
    /// `sub` is no text.
    BadSubject,
    /// `iat` is no number.
    IssuedNoNumber,
    /// `iat` is no time.
    IssuedNoTime,
    /// `nbf` is no number.
    NotBeforeNoNumber,
    /// `nbf` is no time.
    NotBeforeNoTime,
    /// `exp` is no number.
    ExpiryNoNumber,
    /// `exp` is no time.
    ExpiryNoTime,
    /// `jti` is no text.
    BadId,
    /// `aud` is neither a text nor a list of texts.
    BadAudience,
    /// Its signature is no base64url.
    SignatureBase64,
    /// Its issuer is nobody's.
    UnknownIssuer,
    /// It is too early for it.
    NotYetValid,
    /// It is over.
    Expired,
    /// It is for somebody else.
    AudienceNotAllowed,
    /// There is no key to check it with.
    NoKeys,
    /// No key has its id and its algorithm.
    NoKeyMatches,
    /// Its signature is not by any of the keys.
    Forged,
}

/// Every status with its text, in the order of the enum.
const TEXTS: [(Status, &str); 30] = [
    (Status::Missing, "Jwt is missing"),
    (Status::Multiple, "Found multiple Jwt tokens"),
    (Status::TooLong, "Jwt is too long"),
    (Status::BadFormat, "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
    (Status::HeaderBase64, "Jwt header is an invalid Base64url encoded"),
    (Status::HeaderJson, "Jwt header is an invalid JSON"),
    (Status::NoAlgorithm, "Jwt header [alg] field is required and must be a string"),
    (Status::UnknownAlgorithm, "Jwt header [alg] is not supported"),
    (Status::BadKeyId, "Jwt header [kid] field is not a string"),
    (Status::Critical, "Jwt header [crit] is not supported"),
    (Status::PayloadBase64, "Jwt payload is an invalid Base64url encoded"),
    (Status::PayloadJson, "Jwt payload is an invalid JSON"),
    (Status::BadIssuer, "Jwt payload [iss] field is not a string"),
    (Status::BadSubject, "Jwt payload [sub] field is not a string"),
    (Status::IssuedNoNumber, "Jwt payload [iat] field is not an integer"),
    (Status::IssuedNoTime, "Jwt payload [iat] field is not a positive 64 bit integer"),
    (Status::NotBeforeNoNumber, "Jwt payload [nbf] field is not an integer"),
    (Status::NotBeforeNoTime, "Jwt payload [nbf] field is not a positive 64 bit integer"),
    (Status::ExpiryNoNumber, "Jwt payload [exp] field is not an integer"),
    (Status::ExpiryNoTime, "Jwt payload [exp] field is not a positive 64 bit integer"),
    (Status::BadId, "Jwt payload [jti] field is not a string"),
    (Status::BadAudience, "Jwt payload [aud] field is not a string or string list"),
    (Status::SignatureBase64, "Jwt signature is an invalid Base64url encoded"),
    (Status::UnknownIssuer, "Jwt issuer is not configured"),
    (Status::NotYetValid, "Jwt not yet valid"),
    (Status::Expired, "Jwt is expired"),
    (Status::AudienceNotAllowed, "Audiences in Jwt are not allowed"),
    (Status::NoKeys, "Jwks doesn't have any valid public key"),
    (Status::NoKeyMatches, "Jwks doesn't have key to match kid or alg from Jwt"),
    (Status::Forged, "Jwt verification fails"),
];

/// What each is called in logs.
static DETAILS: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let name = |text: &str| format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_")).into();
    TEXTS.iter().map(|(_, text)| name(text)).collect()
});

impl Status {
    /// What callers are told.
    pub fn text(self) -> &'static str {
        TEXTS[self as usize].1
    }

    /// What it is called in logs.
    pub fn details(self) -> Arc<str> {
        DETAILS[self as usize].clone()
    }

    /// The HTTP status of the answer.
    pub fn code(self) -> StatusCode {
        match self {
            Self::AudienceNotAllowed => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_own_text() {
        for (i, (status, text)) in TEXTS.iter().enumerate() {
            assert_eq!((*status as usize, status.text()), (i, *text));
        }
        assert_eq!(&*Status::Expired.details(), "jwt_authn_access_denied{Jwt_is_expired}");
    }
}
