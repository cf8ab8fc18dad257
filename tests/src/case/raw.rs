//! Bytes to an HTTP/1.1 port, and the answers read from what comes back, whatever was sent.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::Answer;

/// What a server may take before its silence is the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How the exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All answers came.
    Answered,
    /// The connection was closed before.
    Closed,
    /// Nothing more came.
    Silent,
}

/// Sends bytes (each character of the text is one) and reads answers until there are `wanted`.
pub async fn exchange(door: SocketAddr, text: &str, wanted: usize) -> std::io::Result<(Vec<Answer>, End)> {
    let bytes: Vec<u8> = text.chars().map(|c| u32::from(c) as u8).collect();
    let mut stream = TcpStream::connect(door).await?;
    // A server that refuses the beginning may be gone before the end was sent.
    let _ = stream.write_all(&bytes).await;
    let mut read = Vec::new();
    let mut closed = false;
    loop {
        let answers = answers(&read, closed);
        if answers.len() >= wanted {
            return Ok((answers, End::Answered));
        }
        if closed {
            return Ok((answers, End::Closed));
        }
        match tokio::time::timeout(ANSWER_WITHIN, stream.read_buf(&mut read)).await {
            Ok(Ok(0) | Err(_)) => closed = true,
            Ok(Ok(_)) => {}
            Err(_) => return Ok((answers, End::Silent)),
        }
    }
}

/// The whole answers at the beginning of the bytes.
fn answers(mut bytes: &[u8], closed: bool) -> Vec<Answer> {
    let mut found = Vec::new();
    while let Some((answer, rest)) = answer(bytes, closed) {
        bytes = rest;
        found.push(answer);
    }
    found
}

fn answer(bytes: &[u8], closed: bool) -> Option<(Answer, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let rest = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = StatusCode::from_bytes(lines.next()?.split(' ').nth(1)?.as_bytes()).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.trim()).ok()?);
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (body, rest) = if status.is_informational() {
        (Vec::new(), rest)
    } else if text("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        chunks(rest)?
    } else if let Some(length) = text("content-length").and_then(|length| length.parse::<usize>().ok()) {
        (rest.get(..length)?.to_vec(), &rest[length..])
    } else if closed {
        (rest.to_vec(), &rest[rest.len()..])
    } else {
        return None;
    };
    Some((Answer { status, headers, body: Bytes::from(body), trailers: BTreeMap::new() }, rest))
}

fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            let end = bytes.windows(2).position(|two| two == b"\r\n")?;
            return Some((body, &bytes[end + 2..]));
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_their_lengths() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 2";
        let found = answers(bytes, false);
        let seen: Vec<_> = found.iter().map(|a| (a.status.as_u16(), a.body.to_vec())).collect();
        assert_eq!(seen, [(200, b"hi".to_vec()), (400, b"abc".to_vec())]);
    }
}
