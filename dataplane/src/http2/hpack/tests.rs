//! Blocks of the standard's appendix C, what may not be in one, and what we write read again.

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use super::{
    decoder::{Decoder, Sink, Unreadable},
    encoder,
    table::{Field, Name},
};

/// Takes all fields, up to so many bytes.
struct All {
    fields: Vec<String>,
    bytes_left: usize,
}

impl Sink for All {
    fn admits(&mut self, bytes: usize) -> bool {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.bytes_left > 0
    }

    fn take(&mut self, field: Field) {
        self.fields.push(match field {
            Field::Method(method) => format!(":method: {method}"),
            Field::Scheme(scheme) => format!(":scheme: {scheme}"),
            Field::Authority(authority) => format!(":authority: {authority}"),
            Field::Path(path) => format!(":path: {path}"),
            Field::Status(status) => format!(":status: {}", status.as_str()),
            Field::Regular(name, value) => format!("{name}: {}", value.to_str().unwrap()),
            Field::Bad(name) => format!("bad {name:?}"),
        });
    }
}

fn read_within(decoder: &mut Decoder, block: &[u8], bytes_left: usize) -> Result<Vec<String>, Unreadable> {
    let mut all = All { fields: Vec::new(), bytes_left };
    decoder.decode(block, &mut all).map(|()| all.fields)
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Unreadable> {
    read_within(decoder, block, usize::MAX)
}

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn requests_of_the_standard_are_read_with_and_without_huffmans_code() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::default();
        let mut read = |block: &str| read(&mut decoder, &hex(block)).unwrap();
        let first = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
        assert_eq!(read(blocks[0]), first);
        assert_eq!(read(blocks[1]), [&first[..], &["cache-control: no-cache"]].concat());
        let third = [
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value",
        ];
        assert_eq!(read(blocks[2]), third);
    }
}

#[test]
fn what_cannot_be_in_a_block_makes_it_unreadable() {
    let cases = [
        ("80", "index 0"),
        ("be", "an index beyond both tables"),
        ("ff ff ff ff ff 7f", "a number that is too long"),
        ("00", "a field without a name"),
        ("00 01 61", "a field without a value"),
        ("00 05 61 62", "a name that is cut short"),
        ("04 7f", "a length that is cut short"),
        ("00 81 1e 00", "a name with wrong padding"),
        ("3f e2 1f", "a table of 4097 bytes"),
        ("82 20", "a change of size after a field"),
        ("20 20 20", "three changes of size"),
        ("7e", "a name by an index beyond both tables"),
    ];
    for (block, what) in cases {
        assert_eq!(read(&mut Decoder::default(), &hex(block)), Err(Unreadable), "{what}");
    }
}

#[test]
fn what_is_not_wanted_is_in_the_table_all_the_same() {
    let mut decoder = Decoder::default();
    let block = hex("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d");
    assert_eq!(read_within(&mut decoder, &block, 1).unwrap(), [""; 0]);
    assert_eq!(read(&mut decoder, &hex("be")).unwrap(), [":authority: www.example.com"]);
}

#[test]
fn what_is_bad_keeps_its_place_in_the_table() {
    let mut decoder = Decoder::default();
    // `A: b`, `a: \n`, `a: b`, all to be kept.
    let fields = read(&mut decoder, &hex("40 0141 0162 40 0161 010a 40 0161 0162")).unwrap();
    let bad = format!("bad {:?}", Name::Regular("a".parse().unwrap()));
    assert_eq!(fields, ["bad Bad", &bad, "a: b"]);
    assert_eq!(read(&mut decoder, &hex("c0 bf be")).unwrap(), ["bad Bad", &bad, "a: b"]);
    // The second one's name is as good as any; nobody knows any more how long the first one's was.
    assert_eq!(read(&mut decoder, &hex("7f 00 0162")).unwrap(), ["a: b"]);
    assert_eq!(read(&mut decoder, &hex("7f 02 0162")), Err(Unreadable));
}

#[test]
fn the_table_gives_up_its_oldest_and_what_is_larger_empties_it() {
    let mut decoder = Decoder::default();
    let field = |name: u8, bytes: usize| {
        let mut block = vec![0x40, 1, name, 0x7f];
        let rest = bytes - 33 - 127;
        block.extend([(rest % 128) as u8 | 0x80, (rest / 128) as u8]);
        block.extend(vec![b'x'; bytes - 33]);
        block
    };
    read(&mut decoder, &field(b'a', 2048)).unwrap();
    read(&mut decoder, &field(b'b', 2048)).unwrap();
    assert!(read(&mut decoder, &[0xbf]).unwrap()[0].starts_with("a: "));
    read(&mut decoder, &field(b'c', 2049)).unwrap();
    assert!(read(&mut decoder, &[0xbe]).unwrap()[0].starts_with("c: "));
    assert_eq!(read(&mut decoder, &[0xbf]), Err(Unreadable));
    read(&mut decoder, &field(b'd', 4097)).unwrap();
    assert_eq!(read(&mut decoder, &[0xbe]), Err(Unreadable));
    read(&mut decoder, &field(b'e', 200)).unwrap();
    assert_eq!(read(&mut decoder, &[0x20, 0xbe]), Err(Unreadable), "a table of no bytes is empty");
}

#[test]
fn what_is_written_is_read_again() {
    let mut headers = HeaderMap::new();
    let names = [
        "accept",
        "accept-encoding",
        "accept-language",
        "accept-ranges",
        "age",
        "allow",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "etag",
        "expires",
        "from",
        "if-none-match",
        "if-match",
        "last-modified",
        "link",
        "location",
        "range",
        "referer",
        "retry-after",
        "server",
        "set-cookie",
        "user-agent",
        "vary",
        "via",
        "x-request-id",
        "grpc-status",
        "te",
        "traceparent",
        "x-envoy-upstream-service-time",
        "content-location",
    ];
    for name in names {
        headers.append(name, HeaderValue::from_static("some value"));
    }
    headers.append("x-long", HeaderValue::from_bytes(&[b'l'; 40_000]).unwrap());
    let expected: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    for (uri, head) in [
        ("http://a/", [":method: GET", ":scheme: http", ":authority: a", ":path: /"]),
        ("https://a:1/b?c", [":method: GET", ":scheme: https", ":authority: a:1", ":path: /b?c"]),
    ] {
        let mut out = Vec::new();
        encoder::request(&mut out, &Method::GET, &uri.parse::<Uri>().unwrap(), &headers);
        let read = read(&mut Decoder::default(), &out).unwrap();
        assert_eq!(read[..4], head);
        assert_eq!(read[4..], expected);
    }
    for status in [200, 204, 206, 304, 400, 404, 500, 503] {
        let mut out = Vec::new();
        encoder::response(&mut out, StatusCode::from_u16(status).unwrap(), &headers);
        let read = read(&mut Decoder::default(), &out).unwrap();
        assert_eq!(read[0], format!(":status: {status}"));
        assert_eq!(read[1..], expected);
    }
}

#[test]
fn what_must_not_be_kept_stays_so() {
    let mut headers = HeaderMap::new();
    for name in ["authorization", "x-key"] {
        let mut value = HeaderValue::from_static("secret");
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let mut out = Vec::new();
    encoder::fields(&mut out, &headers);
    let mut sensitive = Vec::new();
    struct Kept<'a>(&'a mut Vec<bool>);
    impl Sink for Kept<'_> {
        fn admits(&mut self, _: usize) -> bool {
            true
        }
        fn take(&mut self, field: Field) {
            self.0.push(matches!(field, Field::Regular(_, value) if value.is_sensitive()));
        }
    }
    Decoder::default().decode(&out, &mut Kept(&mut sensitive)).unwrap();
    assert_eq!(sensitive, [true, true]);
}
