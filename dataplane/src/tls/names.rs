//! Who a certificate says its holder is: subject, alternative names, validity. Pure.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rustls::pki_types::CertificateDer;
use weft_proto::spiffe::SpiffeId;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, objects::oid_registry, objects::oid2abbrev,
    parse_x509_certificate, x509::X509Name,
};

/// A leaf's names. Every text is printable ASCII: a certificate with others is malformed to us, since a name with a NUL or
/// a line break in it means different things to different readers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// URIs.
    pub uris: Vec<String>,
    /// DNS names, possibly with a wildcard.
    pub dns: Vec<String>,
    /// Mail addresses.
    pub emails: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// The subject in RFC 2253's form, `CN=a,O=b`; empty when there is none or it cannot be shown.
    pub subject: String,
    /// When the certificate begins to be valid, seconds of Unix time.
    pub begins: i64,
    /// When the certificate expires, seconds of Unix time.
    pub expires: i64,
}

impl Names {
    /// Reads them; an error says what is malformed.
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (rest, certificate) =
            parse_x509_certificate(der).map_err(|_| "malformed certificate".to_owned())?;
        if !rest.is_empty() {
            return Err("bytes after the certificate".to_owned());
        }
        let mut names = Self {
            subject: subject(certificate.subject()).unwrap_or_default(),
            begins: certificate.validity().not_before.timestamp(),
            expires: certificate.validity().not_after.timestamp(),
            ..Self::default()
        };
        names.read(&certificate)?;
        Ok(names)
    }

    /// The SPIFFE id that the certificate stands for: an SVID has exactly one URI (X509-SVID section 2).
    pub fn spiffe(&self) -> Option<SpiffeId> {
        match self.uris.as_slice() {
            [uri] => uri.parse().ok(),
            _ => None,
        }
    }

    /// The identity for metrics: the SPIFFE id, or the first URI.
    pub fn principal(&self) -> Option<&str> {
        self.uris.first().map(String::as_str).filter(|_| !self.is_false_svid())
    }

    /// Whether it claims a SPIFFE id without being an SVID: it then proves nothing.
    pub fn is_false_svid(&self) -> bool {
        let claims = |text: &String| text.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("spiffe:"));
        self.spiffe().is_none() && (self.uris.iter().any(claims) || self.dns.iter().any(claims))
    }

    fn read(&mut self, certificate: &X509Certificate<'_>) -> Result<(), String> {
        let malformed = || "malformed subject alternative name".to_owned();
        let names = certificate.subject_alternative_name().map_err(|_| malformed())?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            let (list, text) = match name {
                GeneralName::URI(text) => (&mut self.uris, text),
                GeneralName::DNSName(text) => (&mut self.dns, text),
                GeneralName::RFC822Name(text) => (&mut self.emails, text),
                GeneralName::IPAddress(bytes) => {
                    self.ips.push(ip(bytes).ok_or_else(malformed)?);
                    continue;
                }
                GeneralName::Invalid(..) => return Err(malformed()),
                // Kinds on which nothing is decided here.
                _ => continue,
            };
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(malformed());
            }
            list.push((*text).to_owned());
        }
        Ok(())
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| IpAddr::V6(Ipv6Addr::from(v6)))
}

/// RFC 2253: the most specific part first. None when a part is no plain text.
fn subject(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.iter_rdn() {
        let mut text = String::new();
        for attribute in part.iter() {
            if !text.is_empty() {
                text.push('+');
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(short) => text.push_str(short),
                Err(_) => write!(text, "{}", attribute.attr_type().to_id_string()).ok()?,
            }
            text.push('=');
            for c in attribute.as_str().ok()?.chars() {
                match c {
                    ',' | '+' | '"' | '\\' | '<' | '>' | ';' => text.extend(['\\', c]),
                    c if c.is_ascii_graphic() || c == ' ' => text.push(c),
                    c => {
                        let mut bytes = [0; 4];
                        for byte in c.encode_utf8(&mut bytes).bytes() {
                            write!(text, "\\{byte:02X}").ok()?;
                        }
                    }
                }
            }
        }
        parts.push(text);
    }
    parts.reverse();
    Some(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(uris: &[&str], dns: &[&str]) -> Names {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        Names { uris: own(uris), dns: own(dns), ..Names::default() }
    }

    #[test]
    fn an_svid_has_one_uri() {
        assert_eq!(names(&["spiffe://td/a"], &["a.b"]).spiffe(), "spiffe://td/a".parse().ok());
        assert_eq!(names(&["https://a/"], &[]).spiffe(), None);
        assert!(!names(&["https://a/"], &[]).is_false_svid());
        for (uris, dns) in [
            (&["spiffe://td/a", "spiffe://td/b"][..], &[][..]),
            (&["spiffe://td/a", "https://a/"], &[]),
            (&["SPIFFE://td/a"], &[]),
            (&[], &["spiffe://td/a"]),
        ] {
            let names = names(uris, dns);
            assert!(names.spiffe().is_none() && names.is_false_svid(), "{names:?}");
        }
    }
}
