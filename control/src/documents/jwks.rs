//! Key sets (RFC 7517): whether a text is one that tokens can be checked with. Pure.

use serde::Deserialize;

/// Largest key set, bytes.
pub const BYTES_MAX: usize = 256 << 10;

/// Most keys of a set.
const KEYS_MAX: usize = 100;

#[derive(Deserialize)]
struct KeySet {
    keys: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
}

/// Says what is wrong with a key set: it is none, it has no key that proxies know, or it has what must stay private.
pub fn check(text: &str) -> Result<(), String> {
    if text.len() > BYTES_MAX {
        return Err(format!("is longer than {BYTES_MAX} bytes"));
    }
    let set: KeySet = serde_json::from_str(text).map_err(|error| format!("is no key set: {error}"))?;
    let keys = set.keys.ok_or("is no key set: \"keys\" is missing")?;
    if keys.len() > KEYS_MAX {
        return Err(format!("has more than {KEYS_MAX} keys"));
    }
    if keys.iter().any(|key| key.contains_key("d")) {
        return Err("has a private key, which is its issuer's alone".to_owned());
    }
    if !keys.iter().any(is_known) {
        return Err("has no key of a kind that is known (RSA, EC, OKP, oct)".to_owned());
    }
    Ok(())
}

/// Whether a key is of a kind that is known, and has what such a key is made of.
fn is_known(key: &serde_json::Map<String, serde_json::Value>) -> bool {
    let text = |name: &str| key.get(name).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    let parts: &[&str] = match text("kty") {
        Some("RSA") => &["n", "e"],
        Some("EC") => &["x", "y"],
        Some("OKP") => &["crv", "x"],
        Some("oct") => &["k"],
        _ => return false,
    };
    parts.iter().all(|name| text(name).is_some())
}

/// Says what is wrong with a URL of keys.
pub fn check_url(text: &str) -> Result<(), String> {
    let uri: http::Uri = text.parse().map_err(|_| format!("{text:?} is no URL"))?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.authority().is_some_and(|of| !of.host().is_empty() && !of.as_str().contains('@'));
    if known && host { Ok(()) } else { Err(format!("{text:?} is no URL of http or https")) }
}
