//! Conversations with a peer that the test writes byte by byte.

use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::*;
use crate::http2::{
    frame::{ACK, END_HEADERS, END_STREAM, HEADER_BYTES, Header, Kind, PADDED, PAYLOAD_BYTES_MAX, PREFACE},
    guard,
};

const LIMITS: Limits = Limits { bytes: 16 * 1024, fields: 50 };
/// `GET http://a/`
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'a'];
/// `:status: 200`
const OK: &[u8] = &[0x88];

fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::header(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

fn get(stream: u32) -> Vec<u8> {
    frame(Kind::Headers, END_HEADERS | END_STREAM, stream, GET)
}

fn post(stream: u32) -> Vec<u8> {
    frame(Kind::Headers, END_HEADERS, stream, GET)
}

fn head(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(Kind::Headers, END_HEADERS | flags, stream, block)
}

fn data(flags: u8, stream: u32, bytes: usize) -> Vec<u8> {
    frame(Kind::Data, flags, stream, &vec![b'd'; bytes])
}

fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(Kind::WindowUpdate, 0, stream, &bytes.to_be_bytes())
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(Kind::Settings, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn reset_frame(stream: u32, reason: Reason) -> Vec<u8> {
    frame(Kind::Reset, 0, stream, &reason.0.to_be_bytes())
}

/// One side of a connection, whose other side the test is.
struct Side {
    connection: Connection,
    input: BytesMut,
}

impl Side {
    /// A server whose client has said hello.
    fn server() -> Self {
        let mut side = Self::new(Role::Server(10));
        side.take(
            &[PREFACE, &frame(Kind::Settings, 0, 0, &[]), &frame(Kind::Settings, ACK, 0, &[])].concat(),
        )
        .unwrap();
        side.said();
        side
    }

    /// A client whose server has said hello.
    fn client() -> Self {
        let mut side = Self::new(Role::Client);
        side.take(&[frame(Kind::Settings, 0, 0, &[]), frame(Kind::Settings, ACK, 0, &[])].concat()).unwrap();
        side.said();
        side
    }

    fn new(role: Role) -> Self {
        Self { connection: Connection::new(role, LIMITS, Instant::now()), input: BytesMut::new() }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Fatal> {
        self.input.extend_from_slice(bytes);
        let taken = self.connection.receive(&mut self.input, Instant::now());
        if let Err(fatal) = taken {
            self.connection.fail(fatal);
        }
        taken
    }

    /// The frames that were said since: kind, flags, stream and payload.
    fn said(&mut self) -> Vec<(Kind, u8, u32, Vec<u8>)> {
        let mut bytes = Vec::new();
        loop {
            let mut parts = [std::io::IoSlice::new(&[]); crate::http2::output::PARTS_MAX];
            let count = self.connection.output().parts(&mut parts);
            let before = bytes.len();
            parts[..count].iter().for_each(|part| bytes.extend_from_slice(part));
            let size = bytes.len() - before;
            if size == 0 {
                break;
            }
            self.connection.output().advance(size);
        }
        self.connection.written();
        let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(&bytes);
        let mut frames = Vec::new();
        while let Some(header) = Header::read(rest) {
            let (frame, after) = rest.split_at(HEADER_BYTES + header.length);
            frames.push((header.kind, header.flags, header.stream, frame[HEADER_BYTES..].to_vec()));
            rest = after;
        }
        assert!(rest.is_empty());
        frames
    }

    /// The resets among what was said.
    fn resets(&mut self) -> Vec<(u32, Reason)> {
        let reason = |payload: &[u8]| Reason(u32::from_be_bytes(payload.try_into().unwrap()));
        let said = self.said().into_iter().filter(|(kind, ..)| *kind == Kind::Reset);
        said.map(|(_, _, stream, payload)| (stream, reason(&payload))).collect()
    }

    /// Bytes of DATA that were said, by stream.
    fn data_said(&mut self) -> Vec<(u32, usize)> {
        let said = self.said().into_iter().filter(|(kind, ..)| *kind == Kind::Data);
        said.map(|(_, _, stream, payload)| (stream, payload.len())).collect()
    }

    /// The only stream that was opened since.
    fn accepted(&mut self) -> Accepted {
        let mut accepted = self.connection.accepted();
        assert_eq!(accepted.len(), 1);
        accepted.remove(0)
    }

    fn ask(&mut self, ended: bool) -> Key {
        let (head, ()) = Request::get("http://a/").body(()).unwrap().into_parts();
        assert_eq!(self.connection.poll_open(Waker::noop()), Poll::Ready(Ok(())));
        self.connection.open(&head, ended)
    }

    fn send(&mut self, key: Key, part: &mut Bytes, last: bool) -> Poll<Result<(), StreamError>> {
        self.connection.poll_send(key, part, last, &mut Context::from_waker(Waker::noop()))
    }

    fn next(&mut self, key: Key) -> Poll<Option<Result<http_body::Frame<Bytes>, StreamError>>> {
        self.connection.poll_frame(key, &mut Context::from_waker(Waker::noop()))
    }

    fn chunk(&mut self, key: Key) -> Option<Bytes> {
        match self.next(key) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }
}

#[test]
fn what_breaks_the_protocol_ends_the_connection_with_its_reason() {
    let oversized = [&[0, 0x40, 1, 0, 0, 0, 0, 0, 1][..]].concat();
    let unfinished = frame(Kind::Headers, 0, 1, GET);
    let cases: Vec<(&str, Vec<u8>, Reason)> = vec![
        ("a frame above the size", oversized, Reason::FRAME_SIZE_ERROR),
        ("data of no stream", data(0, 0, 1), Reason::PROTOCOL_ERROR),
        ("data of an idle stream", data(0, 1, 1), Reason::PROTOCOL_ERROR),
        ("headers of no stream", head(0, 0, GET), Reason::PROTOCOL_ERROR),
        ("headers of an even stream", get(2), Reason::PROTOCOL_ERROR),
        ("headers that cannot be read", head(0, 1, &[0xff]), Reason::COMPRESSION_ERROR),
        (
            "padding beyond the frame",
            frame(Kind::Headers, END_HEADERS | PADDED, 1, &[9, 0]),
            Reason::PROTOCOL_ERROR,
        ),
        ("padding of nothing", frame(Kind::Data, PADDED, 1, &[]), Reason::FRAME_SIZE_ERROR),
        ("a priority that is cut short", frame(Kind::Headers, 0x24, 1, &[0; 4]), Reason::PROTOCOL_ERROR),
        ("a priority of no stream", frame(Kind::Priority, 0, 0, &[0; 5]), Reason::PROTOCOL_ERROR),
        ("a reset of no stream", reset_frame(0, Reason::CANCEL), Reason::PROTOCOL_ERROR),
        ("a reset of an idle stream", reset_frame(1, Reason::CANCEL), Reason::PROTOCOL_ERROR),
        ("a reset that is cut short", frame(Kind::Reset, 0, 1, &[0; 3]), Reason::FRAME_SIZE_ERROR),
        ("settings of a stream", frame(Kind::Settings, 0, 1, &[]), Reason::PROTOCOL_ERROR),
        ("settings that are cut short", frame(Kind::Settings, 0, 0, &[0; 5]), Reason::FRAME_SIZE_ERROR),
        ("an answer with settings", frame(Kind::Settings, ACK, 0, &[0; 6]), Reason::FRAME_SIZE_ERROR),
        ("a push setting of 2", setting(2, 2), Reason::PROTOCOL_ERROR),
        ("an initial window of 2^31", setting(4, 1 << 31), Reason::FLOW_CONTROL_ERROR),
        ("a frame size of 1", setting(5, 1), Reason::PROTOCOL_ERROR),
        ("a frame size of 2^24", setting(5, 1 << 24), Reason::PROTOCOL_ERROR),
        ("a push", frame(Kind::Push, END_HEADERS, 1, &[0; 8]), Reason::PROTOCOL_ERROR),
        ("a ping of a stream", frame(Kind::Ping, 0, 1, &[0; 8]), Reason::PROTOCOL_ERROR),
        ("a ping that is cut short", frame(Kind::Ping, 0, 0, &[0; 7]), Reason::FRAME_SIZE_ERROR),
        ("a goodbye of a stream", frame(Kind::GoAway, 0, 1, &[0; 8]), Reason::PROTOCOL_ERROR),
        ("a goodbye that is cut short", frame(Kind::GoAway, 0, 0, &[0; 7]), Reason::FRAME_SIZE_ERROR),
        ("a window that grows by nothing", window(0, 0), Reason::PROTOCOL_ERROR),
        ("a window that grows too large", window(0, i32::MAX as u32), Reason::FLOW_CONTROL_ERROR),
        ("a window of an idle stream", window(1, 1), Reason::PROTOCOL_ERROR),
        ("a window that is cut short", frame(Kind::WindowUpdate, 0, 0, &[0; 3]), Reason::FRAME_SIZE_ERROR),
        ("a continuation of nothing", frame(Kind::Continuation, END_HEADERS, 1, GET), Reason::PROTOCOL_ERROR),
        ("a block that is broken off", [unfinished.clone(), get(3)].concat(), Reason::PROTOCOL_ERROR),
        (
            "a continuation of another stream",
            [unfinished, frame(Kind::Continuation, END_HEADERS, 3, &[])].concat(),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "windows that settings make too large",
            [post(1), window(1, i32::MAX as u32 - WINDOW_BYTES), setting(4, WINDOW_BYTES + 1)].concat(),
            Reason::FLOW_CONTROL_ERROR,
        ),
    ];
    for (what, bytes, reason) in cases {
        let mut server = Side::server();
        assert_eq!(server.take(&bytes).map_err(|fatal| fatal.reason), Err(reason), "{what}");
        let said = server.said();
        let (kind, _, _, payload) = said.last().unwrap();
        assert_eq!((*kind, &payload[4..8]), (Kind::GoAway, &reason.0.to_be_bytes()[..]), "{what}");
        assert!(server.connection.is_over());
    }
}

#[test]
fn a_peer_begins_with_preface_and_settings() {
    let settings = frame(Kind::Settings, 0, 0, &[]);
    for (role, bytes, good) in [
        (Role::Server(1), [PREFACE, &settings].concat(), true),
        (Role::Server(1), b"PRI * HTTP/2.1".to_vec(), false),
        (Role::Server(1), [PREFACE, &get(1)].concat(), false),
        (Role::Server(1), [PREFACE, &frame(Kind::Settings, ACK, 0, &[])].concat(), false),
        (Role::Client, settings.clone(), true),
        (Role::Client, frame(Kind::Ping, 0, 0, &[0; 8]), false),
    ] {
        assert_eq!(Side::new(role).take(&bytes).is_ok(), good, "{role:?} {bytes:?}");
        let mut slow = Side::new(role);
        assert_eq!(bytes.iter().all(|byte| slow.take(&[*byte]).is_ok()), good, "byte by byte");
    }
}

#[test]
fn a_message_that_breaks_rules_is_refused_and_nothing_else() {
    let field = |name: &str, value: &str| {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        [&[0, name.len() as u8], name, &[value.len() as u8], value].concat()
    };
    let with = |name: &str, value: &str| [GET, &field(name, value)].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no method", vec![0x86, 0x84]),
        ("no scheme", vec![0x82, 0x84]),
        ("no path", vec![0x82, 0x86]),
        ("two methods", vec![0x82, 0x82, 0x86, 0x84]),
        ("an empty path", [&[0x82, 0x86, 0x04, 0][..]].concat()),
        ("a status", vec![0x82, 0x86, 0x84, 0x88]),
        ("a pseudo-field that is not known", with(":protocol", "websocket")),
        (
            "a pseudo-field after a field",
            [&[0x82, 0x86, 0x84][..], &field("a", "b"), &[0x01, 1, b'a']].concat(),
        ),
        ("an upper case name", with("A", "b")),
        ("an empty name", with("", "b")),
        ("a line break", with("a", "b\r\nc: d")),
        ("connection", with("connection", "close")),
        ("keep-alive", with("keep-alive", "1")),
        ("proxy-connection", with("proxy-connection", "close")),
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("upgrade", with("upgrade", "h2c")),
        ("te", with("te", "gzip")),
        ("a length that is none", with("content-length", "x")),
        ("a length with a sign", with("content-length", "+1")),
        ("two lengths", [with("content-length", "1"), field("content-length", "2")].concat()),
        ("a tunnel with a path", [&[0x02, 7][..], b"CONNECT", &[0x84, 0x01, 1, b'a']].concat()),
        ("a tunnel to nowhere", [&[0x02, 7][..], b"CONNECT"].concat()),
    ];
    for (what, block) in cases {
        let mut server = Side::server();
        server.take(&head(0, 1, &block)).unwrap();
        assert_eq!(server.resets(), [(1, Reason::PROTOCOL_ERROR)], "{what}");
        server.take(&get(3)).unwrap();
        assert_eq!(server.accepted().request.uri(), "http://a/", "{what}");
    }
    let mut server = Side::server();
    server.take(&head(0, 1, &with("te", "trailers"))).unwrap();
    assert!(!server.accepted().ended);
    server.take(&head(END_STREAM, 3, &with("content-length", "1"))).unwrap();
    assert_eq!(server.resets(), [(3, Reason::PROTOCOL_ERROR)], "a length and no body");
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    let block = [GET, &[0x0f, 0x0d, 1, b'3']].concat(); // content-length: 3
    let cases: [(&str, Vec<Vec<u8>>, bool); 6] = [
        ("as long", vec![data(0, 1, 1), data(END_STREAM, 1, 2)], true),
        ("as long, its end apart", vec![data(0, 1, 3), data(END_STREAM, 1, 0)], true),
        ("as long, with trailers", vec![data(0, 1, 3), head(END_STREAM, 1, &[])], true),
        ("longer", vec![data(0, 1, 4)], false),
        ("shorter", vec![data(END_STREAM, 1, 2)], false),
        ("shorter, with trailers", vec![data(0, 1, 2), head(END_STREAM, 1, &[])], false),
    ];
    for (what, frames, good) in cases {
        let mut server = Side::server();
        server.take(&head(0, 1, &block)).unwrap();
        server.take(&frames.concat()).unwrap();
        assert_eq!(server.resets().is_empty(), good, "{what}");
    }
}

#[test]
fn what_comes_after_the_end_or_out_of_place_concerns_its_stream_alone() {
    let cases: [(&str, Vec<u8>, Reason); 5] = [
        ("data after the end", [get(1), data(0, 1, 1)].concat(), Reason::STREAM_CLOSED),
        ("headers after the end", [get(1), get(1)].concat(), Reason::STREAM_CLOSED),
        ("trailers that do not end", [post(1), head(0, 1, &[])].concat(), Reason::PROTOCOL_ERROR),
        ("trailers with a path", [post(1), head(END_STREAM, 1, &[0x84])].concat(), Reason::PROTOCOL_ERROR),
        ("a window that grows by nothing", [get(1), window(1, 0)].concat(), Reason::PROTOCOL_ERROR),
    ];
    for (what, bytes, reason) in cases {
        let mut server = Side::server();
        server.take(&bytes).unwrap();
        assert_eq!(server.resets(), [(1, reason)], "{what}");
        server.take(&[data(0, 1, 1), reset_frame(1, reason), window(1, 1), get(3)].concat()).unwrap();
        assert!(server.resets().is_empty(), "{what}: what was under way is passed over");
    }
}

#[test]
fn a_head_that_is_too_large_is_answered_and_the_next_is_read() {
    let long = [&[0x40, 1, b'x', 0x7f, 0x81, 0x7e][..], &[b'x'; 16_256]].concat();
    let many: Vec<u8> = (0..51).flat_map(|_| [0x00, 1, b'a', 1, b'b']).collect();
    for (what, block) in [("bytes", [GET, &long].concat()), ("fields", [GET, &many].concat())] {
        let mut server = Side::server();
        let (first, rest) = block.split_at(block.len() / 2);
        server.take(&frame(Kind::Headers, END_STREAM, 1, first)).unwrap();
        server.take(&frame(Kind::Continuation, END_HEADERS, 1, rest)).unwrap();
        let said = server.said();
        assert_eq!((said.len(), said[0].1, said[0].2), (1, END_HEADERS | END_STREAM, 1), "{what}");
        assert_eq!(said[0].3, [&[0x08, 3][..], b"431"].concat(), "{what}");
        server.take(&get(3)).unwrap();
        server.accepted();
    }
}

#[test]
fn each_limit_ends_the_connection_of_who_goes_beyond() {
    let bomb: Vec<u8> = frame(Kind::Headers, 0, 1, GET);
    let empty = frame(Kind::Continuation, 0, 1, &[]);
    let one = frame(Kind::Continuation, 0, 1, &[0x82]);
    let large = frame(Kind::Continuation, 0, 1, &vec![0x82; PAYLOAD_BYTES_MAX]);
    let rapid = |n: u32| [get(2 * n + 1), reset_frame(2 * n + 1, Reason::CANCEL)].concat();
    let made = |n: u32| [post(2 * n + 1), window(2 * n + 1, 0)].concat();
    type Each<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;
    let cases: Vec<(&str, Vec<u8>, Each<'_>, u32)> = vec![
        ("rapid reset", vec![], Box::new(rapid), guard::RESETS_MAX.burst),
        ("resets that we make", vec![], Box::new(made), guard::PROVOKED_MAX.burst),
        ("pings", vec![], Box::new(|_| frame(Kind::Ping, 0, 0, &[0; 8])), guard::ACKS_MAX),
        ("settings", vec![], Box::new(|_| frame(Kind::Settings, 0, 0, &[])), guard::ACKS_MAX),
        ("empty data", post(1), Box::new(|_| data(0, 1, 0)), guard::EMPTY_FRAMES_MAX),
        (
            "padding",
            post(1),
            Box::new(|_| frame(Kind::Data, PADDED, 1, &[3, 0, 0, 0])),
            guard::EMPTY_FRAMES_MAX,
        ),
        ("continuations of nothing", bomb.clone(), Box::new(|_| empty.clone()), guard::CONTINUATIONS_MAX),
        ("continuations", bomb.clone(), Box::new(|_| one.clone()), guard::CONTINUATIONS_MAX),
        ("a large block", bomb, Box::new(|_| large.clone()), 4),
        (
            "priorities",
            vec![],
            Box::new(|_| frame(Kind::Priority, 0, 1, &[0; 5])),
            guard::IDLE_FRAMES_MAX.burst,
        ),
        (
            "frames of no kind",
            vec![],
            Box::new(|_| frame(Kind::Unknown, 0, 0, &[])),
            guard::IDLE_FRAMES_MAX.burst,
        ),
        (
            "frames for what is closed",
            [post(1), reset_frame(1, Reason::CANCEL)].concat(),
            Box::new(|_| data(0, 1, 1)),
            guard::IDLE_FRAMES_MAX.burst,
        ),
    ];
    for (what, first, each, limit) in cases {
        let mut server = Side::server();
        server.take(&first).unwrap();
        let taken = |server: &mut Side, n: u32| {
            let taken = server.take(&each(n));
            for Accepted { key, ended, .. } in server.connection.accepted() {
                if !first.is_empty() {
                    continue;
                }
                if !ended {
                    server.connection.drop_receiver(key);
                }
                server.connection.drop_sender(key);
            }
            taken
        };
        for n in 0..limit {
            assert_eq!(taken(&mut server, n), Ok(()), "{what}: {n} of {limit}");
        }
        // Time that the test takes may have earned a few more.
        let beyond = (limit..limit * 2 + 100).find_map(|n| taken(&mut server, n).err());
        assert_eq!(beyond.map(|fatal| fatal.reason), Some(Reason::ENHANCE_YOUR_CALM), "{what}");
    }
}

#[test]
fn streams_beyond_the_limit_are_refused_and_may_come_again() {
    let mut server = Side::server();
    for n in 0..11 {
        server.take(&get(2 * n + 1)).unwrap();
    }
    assert_eq!(server.resets(), [(21, Reason::REFUSED_STREAM)]);
    let first = server.connection.accepted().remove(0);
    server.connection.respond(first.key, StatusCode::OK, &HeaderMap::new(), true).unwrap();
    server.connection.drop_sender(first.key);
    server.take(&get(23)).unwrap();
    assert!(server.resets().is_empty());
}

#[test]
fn streams_whose_tasks_have_not_noticed_their_end_are_not_without_limit() {
    let mut server = Side::server();
    for n in 0..21 {
        server.take(&[get(2 * n + 1), reset_frame(2 * n + 1, Reason::CANCEL)].concat()).unwrap();
    }
    assert_eq!(server.resets(), [(41, Reason::REFUSED_STREAM)]);
}

#[test]
fn windows_bound_what_comes_and_grow_as_it_is_read() {
    let window_bytes = STREAM_WINDOW_BYTES as usize;
    let mut server = Side::server();
    server.take(&post(1)).unwrap();
    let key = server.accepted().key;
    let full: Vec<u8> = (0..window_bytes / 8192).flat_map(|_| data(0, 1, 8192)).collect();
    server.take(&full).unwrap();
    assert!(server.said().is_empty());
    let mut read = 0;
    while let Some(chunk) = server.chunk(key) {
        read += chunk.len();
    }
    assert_eq!(read, window_bytes);
    let said = server.said();
    assert!(said.iter().all(|(kind, ..)| *kind == Kind::WindowUpdate), "{said:?}");
    let grown = |stream: u32| -> u32 {
        let of = said.iter().filter(|(_, _, id, _)| *id == stream);
        of.map(|(.., bytes)| u32::from_be_bytes(bytes[..].try_into().unwrap())).sum()
    };
    assert_eq!((grown(1), grown(0)), (STREAM_WINDOW_BYTES, 0), "the connection's is not half used");
    server.take(&[full, data(0, 1, 1)].concat()).unwrap();
    assert_eq!(server.resets(), [(1, Reason::FLOW_CONTROL_ERROR)]);
}

#[test]
fn small_parts_take_no_more_memory_than_they_are() {
    let mut server = Side::server();
    server.take(&post(1)).unwrap();
    let key = server.accepted().key;
    (0..1000).for_each(|_| server.take(&data(0, 1, 1)).unwrap());
    assert_eq!(server.chunk(key).unwrap().len(), 1000);
    assert!(server.chunk(key).is_none());
}

#[test]
fn what_nobody_reads_does_not_use_up_the_connections_window() {
    let mut server = Side::server();
    let mut granted = 0;
    for n in 0..64 {
        let id = 2 * n + 1;
        let body: Vec<u8> = (0..4).flat_map(|_| data(0, id, 16_000)).collect();
        server.take(&[post(id), body].concat()).unwrap();
        let Accepted { key, .. } = server.accepted();
        server.connection.drop_receiver(key);
        server.connection.drop_sender(key);
        for (kind, _, stream, payload) in server.said() {
            if kind == Kind::WindowUpdate && stream == 0 {
                granted += u32::from_be_bytes(payload.try_into().unwrap());
            }
        }
    }
    assert!(granted > 64 * 64_000 - CONNECTION_WINDOW_BYTES, "{granted}");
}

#[test]
fn a_body_goes_as_far_as_both_windows_and_settings_reach_live_streams() {
    let mut client = Side::client();
    let key = client.ask(false);
    let mut part = Bytes::from(vec![0; 100_000]);
    assert!(client.send(key, &mut part, true).is_pending());
    let sent = |client: &mut Side| client.data_said().iter().map(|(_, bytes)| bytes).sum::<usize>();
    assert_eq!(sent(&mut client), WINDOW_BYTES as usize);
    client.take(&window(1, 10_000)).unwrap();
    assert!(client.send(key, &mut part, true).is_pending(), "the connection's window is empty");
    client.take(&window(0, 1_000_000)).unwrap();
    assert!(client.send(key, &mut part, true).is_pending());
    assert_eq!(sent(&mut client), 10_000);
    client.take(&setting(4, WINDOW_BYTES + 1000)).unwrap();
    assert!(client.send(key, &mut part, true).is_pending());
    assert_eq!(sent(&mut client), 1000);
    client.take(&[setting(4, 0), window(1, 1000)].concat()).unwrap();
    assert!(client.send(key, &mut part, true).is_pending());
    assert_eq!(sent(&mut client), 0, "the window is below zero");
    client.take(&setting(4, 1_000_000)).unwrap();
    assert_eq!(client.send(key, &mut part, true), Poll::Ready(Ok(())));
    let said = client.said();
    assert_eq!(said.last().unwrap().1, END_STREAM);
}

#[test]
fn streams_share_the_connections_room_in_turn() {
    let mut client = Side::client();
    client.take(&[setting(4, 10_000_000), window(0, 100_000_000)].concat()).unwrap();
    let keys: Vec<_> = (0..20).map(|_| client.ask(false)).collect();
    client.said();
    let mut parts: Vec<_> = keys.iter().map(|_| Bytes::from(vec![0; 1_000_000])).collect();
    let mut total = std::collections::BTreeMap::new();
    for round in 0..20 {
        for (key, part) in keys.iter().zip(&mut parts) {
            // The first time all try; afterwards those do whose turn it is.
            if round == 0 || client.connection.streams.get(*key).turn {
                assert!(client.send(*key, part, false).is_pending());
            }
        }
        assert!(client.connection.output.len() <= OUTPUT_BYTES_MAX + 2 * PAYLOAD_BYTES_MAX);
        for (stream, bytes) in client.data_said() {
            *total.entry(stream).or_insert(0) += bytes;
        }
    }
    assert_eq!(total.len(), 20);
    let (least, most) = (total.values().min().unwrap(), total.values().max().unwrap());
    assert!(*most <= 3 * least, "{total:?}");
}

#[test]
fn a_turn_that_is_not_used_is_passed_on() {
    let mut client = Side::client();
    client.take(&setting(4, 1_000_000)).unwrap();
    let keys = [client.ask(false), client.ask(false), client.ask(false)];
    client.said();
    let mut parts = keys.map(|_| Bytes::from(vec![0; 100_000]));
    for (key, part) in keys.iter().zip(&mut parts) {
        assert!(client.send(*key, part, false).is_pending());
    }
    client.said();
    client.take(&window(0, 1)).unwrap();
    assert!(client.connection.streams.get(keys[0]).turn);
    client.connection.drop_sender(keys[0]);
    assert!(client.connection.streams.get(keys[1]).turn);
}

#[test]
fn a_peer_that_does_not_read_is_not_read() {
    let mut server = Side::server();
    let large = HeaderMap::from_iter([("x".parse().unwrap(), "v".repeat(10_000).parse().unwrap())]);
    let mut answered = 0;
    while !server.connection.stopped() {
        server.take(&get(2 * answered + 1)).unwrap();
        let key = server.accepted().key;
        server.connection.respond(key, StatusCode::OK, &large, true).unwrap();
        server.connection.drop_sender(key);
        answered += 1;
    }
    assert!(server.connection.output.len() < READ_STOP_BYTES + 11_000);
    server.said();
    assert!(!server.connection.stopped());
}

#[test]
fn a_goodbye_lets_streams_finish_that_were_sent_before_it_was_read() {
    let mut server = Side::server();
    server.take(&get(1)).unwrap();
    let first = server.accepted();
    server.connection.say_goodbye();
    let said = server.said();
    assert_eq!((said[0].0, &said[0].3[..4]), (Kind::GoAway, &[0x7f, 0xff, 0xff, 0xff][..]));
    let ping = frame(Kind::Ping, ACK, 0, &said[1].3);
    server.take(&[get(3), ping, get(5)].concat()).unwrap();
    let second = server.accepted();
    let said = server.said();
    assert_eq!((said[0].0, &said[0].3[..4]), (Kind::GoAway, &[0, 0, 0, 3][..]));
    for Accepted { key, .. } in [first, second] {
        assert!(!server.connection.is_over());
        server.connection.respond(key, StatusCode::OK, &HeaderMap::new(), true).unwrap();
        server.connection.drop_sender(key);
    }
    assert!(server.connection.is_over());
}

#[test]
fn a_client_knows_what_its_server_did_not_look_at() {
    let mut client = Side::client();
    let keys = [client.ask(true), client.ask(true), client.ask(true)];
    client.take(&reset_frame(1, Reason::REFUSED_STREAM)).unwrap();
    client.take(&frame(Kind::GoAway, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0])).unwrap();
    assert!(client.connection.is_closed());
    assert_eq!(client.connection.poll_open(Waker::noop()), Poll::Ready(Err(StreamError::Lost)));
    let mut cx = Context::from_waker(Waker::noop());
    let error = |polled: Poll<Result<_, StreamError>>| match polled {
        Poll::Ready(Err(error)) => Some(error),
        Poll::Ready(Ok(_)) | Poll::Pending => None,
    };
    let mut errors = keys.map(|key| error(client.connection.poll_response(key, &mut cx)));
    assert_eq!(
        errors,
        [Some(StreamError::Reset(Reason::REFUSED_STREAM)), None, Some(StreamError::Unprocessed)]
    );
    client.connection.lose();
    errors = keys.map(|key| error(client.connection.poll_response(key, &mut cx)));
    assert_eq!(errors[1], Some(StreamError::Lost));
}

#[test]
fn a_client_opens_no_more_streams_than_its_server_allows() {
    let mut client = Side::client();
    client.take(&setting(3, 1)).unwrap();
    let key = client.ask(true);
    assert!(client.connection.poll_open(Waker::noop()).is_pending());
    client.connection.drop_receiver(key);
    assert_eq!(client.resets(), [(1, Reason::CANCEL)]);
    assert!(client.connection.poll_open(Waker::noop()).is_ready());
}

#[test]
fn an_answer_comes_after_interim_ones_and_may_be_bodiless() {
    let length = [0x0f, 0x0d, 1, b'3']; // content-length: 3
    let mut cx = Context::from_waker(Waker::noop());
    let mut client = Side::client();
    let key = client.ask(true);
    client.take(&head(0, 1, &[&[0x08, 3][..], b"103"].concat())).unwrap();
    assert!(client.connection.poll_response(key, &mut cx).is_pending());
    client.take(&[head(0, 1, &[OK, &length].concat()), data(END_STREAM, 1, 3)].concat()).unwrap();
    let Poll::Ready(Ok((response, false))) = client.connection.poll_response(key, &mut cx) else { panic!() };
    assert_eq!((response.status(), client.chunk(key).unwrap().len()), (StatusCode::OK, 3));
    for (what, block, good) in [
        ("not modified", [&[0x8b][..], &length].concat(), true),
        ("ok", [OK, &length].concat(), false),
        ("switching protocols", [&[0x08, 3][..], b"101"].concat(), false),
        ("no status", length.to_vec(), false),
        ("a status and a method", vec![0x88, 0x82], false),
    ] {
        let mut client = Side::client();
        client.ask(true);
        client.take(&head(END_STREAM, 1, &block)).unwrap();
        assert_eq!(client.resets().is_empty(), good, "{what}");
    }
}

/// What both sides of some exchanges say, frame by frame.
fn recorded(role: Role) -> Vec<Vec<u8>> {
    let hello = frame(Kind::Settings, 0, 0, &[0, 4, 0, 1, 0, 0]);
    let block: &[u8] = if role == Role::Client { OK } else { GET };
    let indexed = [block, &[0x40, 1, b'k', 1, b'v']].concat();
    let mut frames = vec![if role == Role::Client { hello } else { [PREFACE, &hello].concat() }];
    frames.push(frame(Kind::Settings, ACK, 0, &[]));
    for id in [1, 3, 5] {
        frames.push(head(0, id, &indexed));
        frames.push(frame(Kind::Data, PADDED, id, &[1, b'x', b'y', 0]));
        frames.push(data(0, id, 5000));
        frames.push(window(id, 5000));
        frames.push(window(0, 5000));
        frames.push(frame(Kind::Ping, 0, 0, &[1; 8]));
        frames.push(frame(Kind::Headers, END_STREAM, id, &[0x40, 1]));
        frames.push(frame(Kind::Continuation, END_HEADERS, id, &[b't', 0x83, 0x1d, 0x6f, 0x4f]));
    }
    frames.push(reset_frame(5, Reason::CANCEL));
    frames.push(frame(Kind::GoAway, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]));
    frames
}

#[test]
fn nothing_that_a_peer_says_is_a_panic() {
    for seed in 0..3000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let role = if rng.random() { Role::Client } else { Role::Server(3) };
        let mut side = Side::new(role);
        if role == Role::Client {
            (0..3).for_each(|_| _ = side.ask(rng.random()));
        }
        let mut frames = recorded(role);
        for _ in 0..rng.random_range(0..6) {
            let (from, to) = (rng.random_range(1..frames.len()), rng.random_range(1..frames.len()));
            match rng.random_range(0..4) {
                0 => frames.swap(from, to),
                1 => frames.insert(to, frames[from].clone()),
                2 => drop(frames.remove(from)),
                _ => {
                    let frame = &mut frames[from];
                    let at = rng.random_range(0..frame.len());
                    frame[at] ^= 1 << rng.random_range(0..8);
                }
            }
        }
        let bytes = frames.concat();
        let mut rest = &bytes[..];
        let mut held: Vec<(Key, bool)> = Vec::new();
        while !rest.is_empty() && !side.connection.is_over() {
            let (now, later) = rest.split_at(rng.random_range(1..=rest.len().min(6000)));
            rest = later;
            let _ = side.take(now);
            for Accepted { key, ended, .. } in side.connection.accepted() {
                held.push((key, !ended));
            }
            for (key, receives) in std::mem::take(&mut held) {
                if receives {
                    let _ = side.next(key);
                }
                match rng.random_range(0..4) {
                    0 => {
                        if receives {
                            side.connection.drop_receiver(key);
                        }
                        side.connection.drop_sender(key);
                        continue;
                    }
                    1 => _ = side.connection.respond(key, StatusCode::OK, &HeaderMap::new(), false),
                    2 => _ = side.send(key, &mut Bytes::from_static(&[0; 9000]), false),
                    _ => {}
                }
                held.push((key, receives));
            }
            if rng.random() {
                side.said();
            }
        }
    }
}
