//! Fetches a key set. Documents choose the URL, so it is asked as a stranger would be: over TLS, without redirects, and
//! never on this machine or its link, where what answers trusts us; but for hosts that the operator names.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Certificate, Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use serde::Deserialize;

use crate::documents::jwks;

/// The metadata service of a cloud on IPv6, which is no link-local address.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Fetches key sets.
pub struct Fetcher {
    /// Hosts of which nothing is asked but an answer.
    hosts: BTreeSet<String>,
    guarded: Result<Client, String>,
    free: Result<Client, String>,
}

/// What an issuer tells about itself (OpenID Connect Discovery 1.0, 3).
#[derive(Deserialize)]
struct Description {
    jwks_uri: Option<String>,
}

impl Fetcher {
    /// Hosts in `hosts` may answer without TLS, and from this machine.
    pub fn new(hosts: BTreeSet<String>) -> Self {
        Self { hosts, guarded: client(true), free: client(false) }
    }

    /// The key set at a URL, or that which the issuer's description there names.
    pub async fn fetch(&self, url: &str, timeout: Duration) -> Result<String, String> {
        let fetched = async {
            let text = self.get(url).await?;
            let described: Option<Description> = serde_json::from_str(&text).ok();
            let text = match described.and_then(|described| described.jwks_uri) {
                Some(keys) => self.get(&keys).await?,
                None => text,
            };
            jwks::check(&text).map(|()| text)
        };
        tokio::time::timeout(timeout, fetched).await.unwrap_or_else(|_| Err("timed out".to_owned()))
    }

    async fn get(&self, url: &str) -> Result<String, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        let free = url.host_str().is_some_and(|host| self.hosts.contains(host));
        if !free {
            permitted(&url)?;
        }
        let client = if free { &self.free } else { &self.guarded };
        let client = client.as_ref().map_err(Clone::clone)?;
        let mut response = client.get(url).send().await.map_err(|error| innermost(&error))?;
        if !response.status().is_success() {
            return Err(format!("answers {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| innermost(&error))? {
            if body.len() + chunk.len() > jwks::BYTES_MAX {
                return Err(format!("answers more than {} bytes", jwks::BYTES_MAX));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| "answers what is no text".to_owned())
    }
}

/// Whether a URL that nobody vouched for may be asked, as far as it says itself.
fn permitted(url: &Url) -> Result<(), String> {
    if url.scheme() != "https" {
        return Err("keys are not fetched without TLS, but from hosts of jwks_hosts".to_owned());
    }
    let text = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match text.parse::<IpAddr>() {
        Ok(ip) if is_near(ip) => Err(near(text)),
        _ => Ok(()),
    }
}

fn near(host: &str) -> String {
    format!("{host} is this machine or its link, which are not asked, but for hosts of jwks_hosts")
}

/// Whether an address is this machine, its link, or a service of its cloud that trusts it.
fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unicast_link_local()
                || ip.is_multicast()
                || ip == METADATA
        }
    }
}

fn client(guarded: bool) -> Result<Client, String> {
    let mut builder = Client::builder().redirect(Policy::none()).no_proxy().https_only(guarded);
    if guarded {
        builder = builder.dns_resolver(Arc::new(Guard));
    }
    if let Some(file) = openssl_probe::probe().cert_file {
        let roots = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let roots = Certificate::from_pem_bundle(&roots).map_err(|error| error.to_string())?;
        builder = builder.tls_certs_only(roots);
    }
    builder.build().map_err(|error| error.to_string())
}

/// Resolves names, and refuses what they must not lead to: what was looked at is what is connected to.
struct Guard;

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_near(address.ip())) {
                return Err(near(name.as_str()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The innermost cause says what happened; the others repeat the address.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_fetched_from_where_we_are_trusted() {
        for (url, expected) in [
            ("https://issuer.test/keys", true),
            ("https://10.0.0.1/keys", true),
            ("http://issuer.test/keys", false),
            ("https://127.0.0.1/keys", false),
            ("https://0.0.0.0/keys", false),
            ("https://169.254.169.254/latest", false),
            ("https://[::1]/keys", false),
            ("https://[fe80::1]/keys", false),
            ("https://[::ffff:127.0.0.1]/keys", false),
            ("https://[fd00:ec2::254]/keys", false),
        ] {
            assert_eq!(permitted(&Url::parse(url).unwrap()).is_ok(), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_here_is_not_asked() {
        let error = Fetcher::new(BTreeSet::new()).fetch("https://localhost/k", Duration::from_secs(5)).await;
        assert!(error.unwrap_err().contains("jwks_hosts"));
    }
}
