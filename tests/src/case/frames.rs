//! HTTP/2 requests made frame by frame, so that they may be what no client library would send.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// What a server may take before its silence is the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The stream was reset or the connection closed: which of the two is the server's taste.
const REFUSED: &str = "refused";

/// Sends one request and says what came: a status, `refused` or `silent`.
pub async fn exchange(
    door: SocketAddr,
    fields: &[(String, String)],
    body: Option<&str>,
    trailers: &[(String, String)],
) -> std::io::Result<String> {
    let mut out = PREFACE.to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    let last = if trailers.is_empty() { END_STREAM } else { 0 };
    let end = if body.is_none() { last } else { 0 };
    frame(&mut out, HEADERS, END_HEADERS | end, 1, &block(fields));
    if let Some(body) = body {
        frame(&mut out, DATA, last, 1, body.as_bytes());
    }
    if !trailers.is_empty() {
        frame(&mut out, HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers));
    }
    let mut stream = TcpStream::connect(door).await?;
    let _ = stream.write_all(&out).await;
    match tokio::time::timeout(ANSWER_WITHIN, answer(&mut stream)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Ok(REFUSED.to_owned()),
        Err(_) => Ok("silent".to_owned()),
    }
}

async fn answer(stream: &mut TcpStream) -> std::io::Result<String> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, _, _, _, id] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        match (kind, id) {
            (SETTINGS, 0) if flags & ACK == 0 => {
                let mut ack = Vec::new();
                frame(&mut ack, SETTINGS, ACK, 0, &[]);
                let _ = stream.write_all(&ack).await;
            }
            (HEADERS, 1) => {
                let from = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
                return Ok(status(&payload[from..]).unwrap_or_else(|| "an unreadable status".to_owned()));
            }
            (RST_STREAM, 1) => return Ok(REFUSED.to_owned()),
            (GOAWAY, _) => return Ok(REFUSED.to_owned()),
            _ => {}
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Fields as literals without indexing (RFC 7541, 6.2.2).
fn block(fields: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        text(&mut out, name);
        text(&mut out, value);
    }
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    let bytes: Vec<u8> = text.chars().map(|c| u32::from(c) as u8).collect();
    // A length of 127 or more goes on in groups of seven bits (RFC 7541, 5.1).
    match bytes.len().checked_sub(127) {
        None => out.push(bytes.len() as u8),
        Some(mut more) => {
            out.push(127);
            while more >= 128 {
                out.push((more % 128) as u8 | 128);
                more /= 128;
            }
            out.push(more as u8);
        }
    }
    out.extend(bytes);
}

/// The status, which is the first field: by its place in the static table, or as a literal with the name from there.
fn status(block: &[u8]) -> Option<String> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // Before the first field the size of the table may change.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    let block = &block[start..];
    let first = *block.first()?;
    if first & 0x80 != 0 {
        return INDEXED.get(usize::from(first & 0x7f).checked_sub(8)?).map(u16::to_string);
    }
    let length = *block.get(1)?;
    let value = block.get(2..2 + usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return String::from_utf8(value.to_vec()).ok();
    }
    Some(digits(value))
}

/// Digits in Huffman's code: 0 to 2 have five bits, the others six.
fn digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0u8, |sum, bit| sum << 1 | bit);
    let (mut out, mut at) = (String::new(), 0);
    while let Some(five) = bits.get(at..at + 5) {
        match (number(five), bits.get(at..at + 6).map(number)) {
            (digit @ 0..=2, _) => {
                out.push(char::from(b'0' + digit));
                at += 5;
            }
            (_, Some(code @ 0x19..=0x1f)) => {
                out.push(char::from(b'3' + code - 0x19));
                at += 6;
            }
            _ => break, // Padding.
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_every_form() {
        assert_eq!(status(&[0x88]).as_deref(), Some("200"));
        assert_eq!(status(&[0x20, 0x8c]).as_deref(), Some("400"));
        assert_eq!(status(&[0x48, 0x03, b'4', b'0', b'3']).as_deref(), Some("403"));
        // RFC 7541, C.6.1 and C.6.2: 302 and 307.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]).as_deref(), Some("302"));
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]).as_deref(), Some("307"));
    }
}
