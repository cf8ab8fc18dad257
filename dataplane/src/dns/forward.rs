//! Asks the host's own resolvers, one after the other, a bounded number of questions at a time.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
};

use super::answer::Transport;

/// Questions under way; what comes on top is answered with a failure at once.
pub const FORWARDS_MAX: usize = 1024;
/// Time for one resolver to answer once.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the list of resolvers is gone through.
const ROUNDS: usize = 2;
/// Time for everything: less than the five seconds that the C library waits before it asks again.
const TIMEOUT: Duration = Duration::from_millis(4500);
/// Largest datagram that is taken, bytes.
const UDP_BYTES_MAX: usize = 4096;

/// Length of a header, and where in it what we read stands.
const HEADER_BYTES: usize = 12;
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Too many questions are under way.
    Busy,
    /// No resolver is known, or none answered in time.
    Silent,
}

/// Asks resolvers.
#[derive(Debug)]
pub struct Forwarder {
    slots: Semaphore,
}

impl Default for Forwarder {
    fn default() -> Self {
        Self { slots: Semaphore::new(FORWARDS_MAX) }
    }
}

impl Forwarder {
    /// The first answer of a resolver that knows; else the last one that was given. `id` replaces the query's own on
    /// the way, so that nobody who knows that can answer in a resolver's place.
    pub async fn ask(
        &self,
        query: &[u8],
        id: u16,
        resolvers: &[SocketAddr],
        transport: Transport,
    ) -> Result<Vec<u8>, Unanswered> {
        let Ok(_slot) = self.slots.try_acquire() else { return Err(Unanswered::Busy) };
        let mut asked = query.to_vec();
        let Some(own) = asked.get(..2).map(|own| [own[0], own[1]]) else { return Err(Unanswered::Silent) };
        asked[..2].copy_from_slice(&id.to_be_bytes());
        let mut last = None;
        let rounds = async {
            for resolver in (0..ROUNDS).flat_map(|_| resolvers) {
                let attempt = async {
                    match transport {
                        Transport::Udp => over_udp(&asked, *resolver).await,
                        Transport::Tcp => over_tcp(&asked, *resolver).await,
                    }
                };
                let Ok(Ok(reply)) = tokio::time::timeout(TRY_TIMEOUT, attempt).await else { continue };
                let knows = !matches!(reply[3] & 0x0f, SERVER_FAILURE | REFUSED);
                last = Some(reply);
                if knows {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(TIMEOUT, rounds).await;
        let mut reply = last.ok_or(Unanswered::Silent)?;
        reply[..2].copy_from_slice(&own);
        Ok(reply)
    }
}

async fn over_udp(query: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
    // A port of its own for every question, chosen by the system: one more thing that a forger must guess.
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let size = socket.recv(&mut buffer).await?;
        if answers(&buffer[..size], query) {
            buffer.truncate(size);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(query: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    if answers(&reply, query) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether a message is a response to a query: it has the id and, if any, the same question, byte for byte (names are
/// not compressed in the question).
fn answers(reply: &[u8], query: &[u8]) -> bool {
    const RESPONSE: u8 = 0x80;
    if reply.len() < HEADER_BYTES || reply[..2] != query[..2] || reply[2] & RESPONSE == 0 {
        return false;
    }
    if reply[4..6] == [0, 0] {
        return true; // Failures may come without the question.
    }
    let question = query.get(HEADER_BYTES..).and_then(question_bytes).unwrap_or_default();
    let same = reply.get(HEADER_BYTES..HEADER_BYTES + question.len());
    same.is_some_and(|found| found.eq_ignore_ascii_case(question))
}

/// The bytes of the first question: labels up to the empty one, type and class.
fn question_bytes(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return bytes.get(..at + 5),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header of id 7, one question, `a.` type A class IN.
    const QUERY: [u8; 19] = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];

    fn reply(id: u8, code: u8) -> Vec<u8> {
        let mut reply = QUERY.to_vec();
        (reply[1], reply[2], reply[3]) = (id, 0x81, 0x80 | code);
        reply
    }

    #[test]
    fn only_an_answer_to_the_question_is_taken() {
        assert!(answers(&reply(7, 0), &QUERY));
        assert!(!answers(&reply(8, 0), &QUERY), "another id");
        assert!(!answers(&QUERY, &QUERY), "no response");
        let mut other = reply(7, 0);
        other[13] = b'b';
        assert!(!answers(&other, &QUERY), "another name");
        other[13] = b'A';
        assert!(answers(&other, &QUERY), "the same name");
        let mut bare = reply(7, 2)[..12].to_vec();
        bare[5] = 0;
        assert!(answers(&bare, &QUERY), "a failure without its question");
        for end in 0..QUERY.len() {
            answers(&reply(7, 0)[..end], &QUERY);
            answers(&reply(7, 0), &QUERY[..end.max(2)]);
        }
    }

    /// A resolver that answers every datagram with a code.
    async fn resolver(code: u8) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((size, peer)) = socket.recv_from(&mut buffer).await {
                let mut told = buffer[..size].to_vec();
                (told[2], told[3]) = (0x81, 0x80 | code);
                socket.send_to(&told, peer).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn the_next_resolver_is_asked_when_one_fails_and_the_answer_has_the_querys_id() {
        let (broken, good) = (resolver(SERVER_FAILURE).await, resolver(0).await);
        let forwarder = Forwarder::default();
        let told = forwarder.ask(&QUERY, 99, &[broken, good], Transport::Udp).await.unwrap();
        assert_eq!((told[1], told[3] & 0x0f), (7, 0));
        let told = forwarder.ask(&QUERY, 99, &[broken], Transport::Udp).await.unwrap();
        assert_eq!(told[3] & 0x0f, SERVER_FAILURE, "the last answer is better than none");
        assert_eq!(forwarder.ask(&QUERY, 99, &[], Transport::Udp).await, Err(Unanswered::Silent));
        forwarder.slots.forget_permits(FORWARDS_MAX);
        assert_eq!(forwarder.ask(&QUERY, 99, &[good], Transport::Udp).await, Err(Unanswered::Busy));
    }

    #[tokio::test(start_paused = true)]
    async fn resolvers_that_say_nothing_are_given_up_in_time() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let begun = tokio::time::Instant::now();
        let told = Forwarder::default().ask(&QUERY, 99, &[address, address], Transport::Udp).await;
        assert_eq!(told, Err(Unanswered::Silent));
        assert_eq!(begun.elapsed(), TIMEOUT);
    }
}
