//! How a platform's API is reached over HTTP: servers, token, TLS.

use std::path::PathBuf;

use serde::Deserialize;
use tonic::transport::Uri;

use super::{SettingError, wrong};

/// How a platform's API is reached, as written.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAccess {
    /// Servers that know the same; when one does not answer the next is asked. The token goes only to those named here, so
    /// name every one that may lead. Each platform has its default, on loopback.
    pub address: Vec<String>,
    /// The token, `user:password` or what else the platform wants. Prefer `token_file`.
    pub token: Option<String>,
    /// File that holds it; read anew for every question, since platforms exchange tokens.
    pub token_file: Option<PathBuf>,
    /// PEM file with the CA of the servers' certificates. Default: the host's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate and key, where the platform asks for one.
    pub client_cert_file: Option<PathBuf>,
}

/// How a platform's API is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// Base addresses without a slash at their ends, of servers that know the same. At least one.
    pub servers: Vec<String>,
    /// Where the token comes from.
    pub token: Token,
    /// CA of the servers' certificates; the host's roots when `None`.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and key.
    pub client_cert_file: Option<PathBuf>,
}

/// Where a token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// There is none.
    Anonymous,
    /// It is given.
    Value(String),
    /// It is in a file.
    File(PathBuf),
}

/// The token stays out of logs.
impl std::fmt::Debug for RawAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawAccess").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The token stays out of logs.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl RawAccess {
    /// Checks everything that can be checked without touching the world.
    pub(super) fn check(self, default: &str) -> Result<Access, SettingError> {
        let given: Vec<String> = self.address.into_iter().filter(|text| !text.is_empty()).collect();
        let given = if given.is_empty() { vec![default.to_owned()] } else { given };
        Ok(Access {
            servers: given.iter().map(|text| server(text)).collect::<Result<_, _>>()?,
            token: match (self.token, self.token_file) {
                (Some(_), Some(_)) => {
                    return wrong("token", "cannot stand beside token_file; keep one of the two");
                }
                (Some(value), None) if !value.is_empty() => Token::Value(value),
                (_, Some(file)) => Token::File(file),
                (_, None) => Token::Anonymous,
            },
            ca_file: self.ca_file,
            client_cert_file: self.client_cert_file,
        })
    }
}

fn server(text: &str) -> Result<String, SettingError> {
    let address = text.trim_end_matches('/').to_owned();
    let uri: Uri = match address.parse() {
        Ok(uri) => uri,
        Err(error) => return wrong("address", format!("'{address}' is no address: {error}")),
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return wrong("address", format!("'{address}' must begin with http:// or https://"));
    }
    Ok(address)
}
