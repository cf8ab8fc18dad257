//! The first bytes of a connection, read to choose its chain, and put back.

use std::io;

use crate::{
    spec::{Inspection, Transport},
    stream::Stream,
    tls::hello::{First, HELLO_BYTES_MAX, HelloReader},
};

use super::chains::Facts;

/// Longest request line that is waited for, bytes.
const LINE_BYTES_MAX: usize = HELLO_BYTES_MAX;
/// Longest method that is taken for one, bytes.
const METHOD_BYTES_MAX: usize = 32;
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0";

/// Why a connection has no chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// The client said nothing, or not enough, in time.
    Timeout,
    /// It closed, or what it said is broken TLS.
    Broken,
}

/// Learns what the listener's filters ask for.
pub async fn inspect(stream: &mut Stream, inspection: &Inspection, facts: &mut Facts) -> Result<(), Unclear> {
    let Some(limit) = inspection.timeout else { return look(stream, inspection, facts).await };
    match tokio::time::timeout(limit, look(stream, inspection, facts)).await {
        Ok(result) => result,
        Err(_) if inspection.proceed_after_timeout => Ok(()),
        Err(_) => Err(Unclear::Timeout),
    }
}

async fn look(stream: &mut Stream, inspection: &Inspection, facts: &mut Facts) -> Result<(), Unclear> {
    let broken = |_: io::Error| Unclear::Broken;
    let mut hello = inspection.tls.then(HelloReader::default);
    let mut bytes = stream.peek().await.map_err(broken)?;
    while let Some(reader) = &mut hello {
        match reader.look(bytes) {
            First::Unclear => bytes = stream.peek().await.map_err(broken)?,
            First::Plain => break,
            First::Malformed => return Err(Unclear::Broken),
            First::Tls(hello) => {
                facts.transport = Transport::Tls;
                facts.server_name = hello.server_name;
                facts.applications = hello.alpn;
                return Ok(());
            }
        }
    }
    if inspection.http {
        let version = loop {
            match http_version(bytes) {
                Some(version) => break version,
                None => bytes = stream.peek().await.map_err(broken)?,
            }
        };
        facts.applications.extend(version.map(|version| version.as_bytes().to_vec()));
    }
    Ok(())
}

/// Envoy's word for the HTTP version that some first bytes speak; `Some(None)` when it is not HTTP, none while that is
/// not clear. Pure.
fn http_version(bytes: &[u8]) -> Option<Option<&'static str>> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..end.unwrap_or(bytes.len())];
    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if method.is_empty() && !line.is_empty() || method.len() > METHOD_BYTES_MAX || !method.iter().all(token) {
        return Some(None);
    }
    if end.is_none() {
        return (bytes.len() >= LINE_BYTES_MAX).then_some(None);
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Some(match () {
        () if line == PREFACE_LINE => Some("h2c"),
        () if line.ends_with(b" HTTP/1.1") => Some("http/1.1"),
        () if line.ends_with(b" HTTP/1.0") => Some("http/1.0"),
        () => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_line_tells_the_version() {
        for (bytes, expected) in [
            ("", None),
            ("GE", None),
            ("GET / HTTP/1.1", None),
            ("GET / HTTP/1.1\r\n", Some(Some("http/1.1"))),
            ("GET / HTTP/1.1\n", Some(Some("http/1.1"))),
            ("M-SEARCH * HTTP/1.0\r\nHost: a", Some(Some("http/1.0"))),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Some("h2c"))),
            ("GET /\r\n", Some(None)),
            ("\u{1}\u{2}", Some(None)),
            (" GET", Some(None)),
            ("\r\n", Some(None)),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Some(None)),
        ] {
            assert_eq!(http_version(bytes.as_bytes()), expected, "{bytes:?}");
        }
        let endless = format!("GET /{}", "a".repeat(LINE_BYTES_MAX));
        assert_eq!(http_version(endless.as_bytes()), Some(None));
    }
}
