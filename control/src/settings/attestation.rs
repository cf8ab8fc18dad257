//! By whose word platforms' own tokens are believed.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use http::Uri;

use crate::identity::attest::kubernetes::Options;

/// Where pods have what they need to ask their API server.
const POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Audience of tokens when nothing else is said.
const AUDIENCE: &str = "weft";

/// What a human wrote about Kubernetes.
pub(super) struct Raw {
    pub(super) api: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) audience: Option<String>,
    pub(super) adapters: Option<String>,
}

impl Raw {
    /// Checks it; an error names the option. None where no API server is named.
    pub(super) fn check(self) -> Result<Option<Options>, (&'static str, String)> {
        let Some(api) = self.api.filter(|api| !api.is_empty()) else { return Ok(None) };
        let secure = is_secure(&api).map_err(|problem| ("kubernetes_api", problem))?;
        let of_pod = |name: &str| secure.then(|| PathBuf::from(POD).join(name));
        Ok(Some(Options {
            api: api.trim_end_matches('/').to_owned(),
            token_file: self.token_file.or_else(|| of_pod("token")),
            ca_file: self.ca_file.or_else(|| of_pod("ca.crt")),
            audience: self.audience.unwrap_or_else(|| AUDIENCE.to_owned()),
            adapters: adapters(self.adapters.as_deref().unwrap_or_default())
                .map_err(|problem| ("kubernetes_adapters", problem))?,
        }))
    }
}

/// Tokens are told to this server: in plaintext on loopback alone.
fn is_secure(api: &str) -> Result<bool, String> {
    let uri: Uri = api.parse().map_err(|_| format!("{api:?} is no address; write https://host"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(true),
        Some("http") if loopback => Ok(false),
        _ => Err(format!("{api:?} must begin with https://, since tokens are told to it")),
    }
}

fn adapters(text: &str) -> Result<BTreeMap<String, String>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parse = |part: &str| match part.split_once('=') {
        Some((account, source)) if account.split('/').count() == 2 && !source.is_empty() => {
            Ok((account.to_owned(), source.to_owned()))
        }
        _ => Err(format!("{part:?}: write namespace/name=source")),
    };
    parts.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(api: &str, adapters: &str) -> Raw {
        let (api, adapters) = (Some(api.to_owned()), Some(adapters.to_owned()));
        Raw { api, token_file: None, ca_file: None, audience: None, adapters }
    }

    #[test]
    fn a_pod_has_what_is_needed() {
        let found =
            raw("https://kubernetes.default.svc/", "a/b=kubernetes/x, c/d=nomad").check().unwrap().unwrap();
        assert_eq!((found.api.as_str(), found.audience.as_str()), ("https://kubernetes.default.svc", "weft"));
        assert!(found.token_file.unwrap().ends_with("token") && found.ca_file.unwrap().ends_with("ca.crt"));
        assert_eq!(found.adapters["a/b"], "kubernetes/x");
        let local = raw("http://127.0.0.1:8001", "").check().unwrap().unwrap();
        assert!(local.token_file.is_none() && local.ca_file.is_none());
        assert!(raw("", "").check().unwrap().is_none());
    }

    #[test]
    fn tokens_are_told_to_nobody_in_plaintext() {
        for api in ["http://10.0.0.1", "kubernetes.default.svc", "ftp://127.0.0.1"] {
            assert_eq!(raw(api, "").check().unwrap_err().0, "kubernetes_api", "{api}");
        }
        for adapters in ["a=b", "a/b", "a/b/c=d", "a/b="] {
            let error = raw("https://a", adapters).check().unwrap_err();
            assert_eq!(error.0, "kubernetes_adapters", "{adapters}");
        }
    }
}
