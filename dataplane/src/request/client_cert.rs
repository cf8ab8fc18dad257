//! `x-forwarded-client-cert`: what a workload is told of its client's certificate. Who showed none cannot say anything there.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::{
    spec::{CertParts, ClientCert},
    tls::peer::{Peer, Secured},
};

const NAME: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Makes the header of a request say what may be believed.
pub(super) fn settle(how: ClientCert, secured: Option<&Secured>, headers: &mut HeaderMap) {
    let verified = |secured: &'_ &Secured| secured.peer.as_ref().is_some_and(|peer| peer.verified);
    let peer = secured.filter(verified).and_then(|secured| Some((secured, secured.peer.as_ref()?)));
    match (how, peer) {
        (ClientCert::Always, _) | (ClientCert::Forward, Some(_)) => {}
        (ClientCert::Sanitize, _) | (_, None) => drop(headers.remove(NAME)),
        (ClientCert::Append(parts), Some((secured, peer))) => {
            let own = element(secured, peer, parts);
            let before = headers.get_all(NAME).iter().map(HeaderValue::as_bytes);
            let all: Vec<&[u8]> = before.chain([own.as_bytes()]).collect();
            match HeaderValue::from_bytes(&all.join(&b","[..])) {
                Ok(all) => drop(headers.insert(NAME, all)),
                Err(_) => drop(headers.remove(NAME)),
            }
        }
        (ClientCert::Set(parts), Some((secured, peer))) => {
            headers.insert(NAME, element(secured, peer, parts).clone());
        }
    }
}

/// What a certificate says, made once for a connection.
fn element<'s>(secured: &'s Secured, peer: &Peer, parts: CertParts) -> &'s HeaderValue {
    secured.client_cert.get_or_init(|| {
        HeaderValue::try_from(text(secured.own.as_deref(), peer, parts))
            .unwrap_or(HeaderValue::from_static(""))
    })
}

/// Envoy's form.
fn text(own: Option<&str>, peer: &Peer, parts: CertParts) -> String {
    let mut said: Vec<String> = Vec::new();
    said.extend(own.map(|own| format!("By={own}")));
    if let Some(leaf) = peer.chain.first() {
        let mut hash = String::from("Hash=");
        for byte in Sha256::digest(leaf) {
            write!(hash, "{byte:02x}").expect("a string takes all");
        }
        said.push(hash);
    }
    if parts.subject {
        said.push(format!("Subject=\"{}\"", peer.names.subject.replace('"', "\\\"")));
    }
    if parts.uri {
        match peer.names.uris.as_slice() {
            [] => said.push("URI=".to_owned()),
            uris => said.extend(uris.iter().map(|uri| format!("URI={uri}"))),
        }
    }
    if parts.dns {
        said.extend(peer.names.dns.iter().map(|name| format!("DNS={name}")));
    }
    said.join(";")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn secured() -> Secured {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://td/ns/n/sa/s".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let peer = Peer::new(&[certificate.der().clone()], true).unwrap();
        Secured::new(Some(peer), Some("spiffe://td/own".into()), None)
    }

    fn settled(how: ClientCert, secured: Option<&Secured>) -> Option<String> {
        let mut headers = HeaderMap::from_iter([(NAME, HeaderValue::from_static("By=forged"))]);
        settle(how, secured, &mut headers);
        headers.get(NAME).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn who_showed_no_certificate_says_nothing() {
        let parts = CertParts::default();
        for how in
            [ClientCert::Sanitize, ClientCert::Forward, ClientCert::Append(parts), ClientCert::Set(parts)]
        {
            assert_eq!(settled(how, None), None, "{how:?}");
        }
        let nobody = Secured::new(None, Some("spiffe://td/own".into()), None);
        assert_eq!(settled(ClientCert::Append(parts), Some(&nobody)), None);
        assert_eq!(settled(ClientCert::Always, None).as_deref(), Some("By=forged"));
    }

    #[test]
    fn a_workload_is_told_who_its_client_proved_to_be() {
        let parts = CertParts { subject: true, uri: true, dns: true };
        let found = settled(ClientCert::Set(parts), Some(&secured())).unwrap();
        let fields: Vec<&str> = found.split(';').collect();
        assert_eq!(fields[0], "By=spiffe://td/own");
        assert!(fields[1].starts_with("Hash=") && fields[1].len() == 5 + 64, "{found}");
        assert_eq!(fields[2..], ["Subject=\"\"", "URI=spiffe://td/ns/n/sa/s", "DNS=a.test"]);
        let appended = settled(ClientCert::Append(CertParts::default()), Some(&secured())).unwrap();
        assert!(appended.starts_with("By=forged,By=spiffe://td/own;Hash="), "{appended}");
        assert_eq!(settled(ClientCert::Forward, Some(&secured())).as_deref(), Some("By=forged"));
        assert_eq!(settled(ClientCert::Sanitize, Some(&secured())), None);
    }
}
