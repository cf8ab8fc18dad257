//! Who traces a request, as headers say it: W3C Trace Context, and B3 in one header or several. Pure.
//!
//! What a request comes with is read in this order, and what cannot be read is as if it were not there: W3C's two headers,
//! B3's one, B3's several. It goes on with W3C's headers, and with B3's in the form in which they came, if they did.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// Longest `tracestate` that goes on; what W3C asks everybody to pass on is 512 bytes.
const STATE_BYTES_MAX: usize = 512;

/// The form in which a request told of its trace, besides W3C's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// W3C's alone.
    W3c,
    /// B3 in one header.
    Single,
    /// B3 in several.
    Multiple,
}

/// What a request came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace; not zero.
    pub trace: u128,
    /// The span that is the parent; not zero.
    pub span: u64,
    /// Whether it is sampled; none leaves that to us.
    pub sampled: Option<bool>,
    /// W3C's `tracestate`.
    pub state: Option<HeaderValue>,
}

/// What goes on with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: u128,
    /// Our span.
    pub span: u64,
    /// Our span's parent; zero begins a trace.
    pub parent: u64,
    /// Whether it is sampled.
    pub sampled: bool,
    /// W3C's `tracestate`, which we add nothing to.
    pub state: Option<HeaderValue>,
    /// How it goes on, besides W3C's headers.
    pub form: Form,
}

/// What a request says of its trace; none where it says nothing that can be understood.
pub fn read(headers: &HeaderMap) -> Option<Parent> {
    w3c(headers).or_else(|| single(headers)).or_else(|| multiple(headers))
}

/// The decision of a request that comes without any: B3 may say it without a trace.
pub fn decided(headers: &HeaderMap) -> Option<bool> {
    match one(headers, &B3) {
        Some(text) => sampled(text),
        None => flagged(headers),
    }
}

/// The form in which it goes on: as it came, be that understood or not.
pub fn form(headers: &HeaderMap) -> Form {
    if headers.contains_key(B3) {
        Form::Single
    } else if headers.contains_key(TRACE_ID) {
        Form::Multiple
    } else {
        Form::W3c
    }
}

impl Context {
    /// Continues what a request came with, or begins a trace. `drawn` is whether a trace that nobody has decided on is
    /// sampled; the ids are by chance.
    pub fn begin(
        parent: Option<Parent>,
        form: Form,
        drawn: impl FnOnce() -> bool,
        mut id: impl FnMut() -> u128,
    ) -> Self {
        let span = low(id());
        match parent {
            Some(Parent { trace, span: parent, sampled, state }) => {
                let sampled = sampled.unwrap_or_else(drawn);
                Self { trace, span, parent, sampled, state, form }
            }
            None => {
                let trace = id().max(1);
                Self { trace, span, parent: 0, sampled: drawn(), state: None, form }
            }
        }
    }

    /// Says it in a request's headers.
    pub fn write(&self, headers: &mut HeaderMap) {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(self.trace, &mut text[3..35]);
        hex(self.span.into(), &mut text[36..52]);
        text[54] = if self.sampled { b'1' } else { b'0' };
        put(headers, TRACEPARENT, &text);
        match &self.state {
            Some(state) => drop(headers.insert(TRACESTATE, state.clone())),
            // What is there belongs to a trace that could not be read.
            None => drop(headers.remove(TRACESTATE)),
        }
        match self.form {
            Form::W3c => {}
            Form::Single => {
                let mut text = *b"00000000000000000000000000000000-0000000000000000-0-0000000000000000";
                hex(self.trace, &mut text[..32]);
                hex(self.span.into(), &mut text[33..49]);
                text[50] = if self.sampled { b'1' } else { b'0' };
                hex(self.parent.into(), &mut text[52..]);
                put(headers, B3, if self.parent == 0 { &text[..51] } else { &text });
            }
            Form::Multiple => {
                let mut trace = [b'0'; 32];
                let [mut span, mut parent] = [[b'0'; 16]; 2];
                hex(self.trace, &mut trace);
                hex(self.span.into(), &mut span);
                hex(self.parent.into(), &mut parent);
                put(headers, TRACE_ID, &trace);
                put(headers, SPAN_ID, &span);
                headers.remove(PARENT_ID);
                if self.parent != 0 {
                    put(headers, PARENT_ID, &parent);
                }
                if !headers.contains_key(FLAGS) {
                    put(headers, SAMPLED, if self.sampled { b"1" } else { b"0" });
                }
            }
        }
    }
}

/// Version 00, and what later versions have in common with it (W3C Trace Context, 3.2.2 and 4.3).
fn w3c(headers: &HeaderMap) -> Option<Parent> {
    let text = one(headers, &TRACEPARENT)?;
    let mut parts = text.splitn(5, '-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let more = parts.next().is_some();
    let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
    if version.len() != 2 || version == "ff" || (version == "00" && more) || flags.len() != 2 || !lower {
        return None;
    }
    number(version, &[2])?;
    let (trace, span) = (number(trace, &[32])?, number(span, &[16])? as u64);
    let sampled = Some(number(flags, &[2])? & 1 == 1);
    let state = state(headers);
    (trace != 0 && span != 0).then_some(Parent { trace, span, sampled, state })
}

/// All lines of `tracestate` as one.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(TRACESTATE).iter();
    let first = lines.next()?;
    let joined = match lines.next() {
        None => first.clone(),
        Some(_) => {
            let all: Vec<&[u8]> = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes).collect();
            HeaderValue::from_bytes(&all.join(&b","[..])).ok()?
        }
    };
    Some(joined).filter(|state| !state.is_empty() && state.len() <= STATE_BYTES_MAX)
}

/// `TRACE-SPAN[-SAMPLED[-PARENT]]`.
fn single(headers: &HeaderMap) -> Option<Parent> {
    let text = one(headers, &B3)?;
    let mut parts = text.splitn(4, '-');
    let (trace, span) = (number(parts.next()?, &[16, 32])?, number(parts.next()?, &[16])? as u64);
    let sampled = match parts.next() {
        None => None,
        Some(text) => Some(sampled(text)?),
    };
    (trace != 0 && span != 0).then_some(Parent { trace, span, sampled, state: None })
}

fn multiple(headers: &HeaderMap) -> Option<Parent> {
    let trace = number(one(headers, &TRACE_ID)?, &[16, 32])?;
    let span = number(one(headers, &SPAN_ID)?, &[16])? as u64;
    let sampled = flagged(headers);
    (trace != 0 && span != 0).then_some(Parent { trace, span, sampled, state: None })
}

/// What B3's several headers say of sampling.
fn flagged(headers: &HeaderMap) -> Option<bool> {
    let debug = one(headers, &FLAGS).is_some_and(|flags| flags == "1");
    if debug { Some(true) } else { sampled(one(headers, &SAMPLED)?) }
}

/// B3's word on sampling: yes, no, or yes to all of it (`d`).
fn sampled(text: &str) -> Option<bool> {
    match text {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// The only value of a header, as text.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// A number of one of some lengths in hexadecimal digits.
fn number(text: &str, lengths: &[usize]) -> Option<u128> {
    let digits = lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if digits { u128::from_str_radix(text, 16).ok() } else { None }
}

/// The lower half of a random number; not zero.
fn low(number: u128) -> u64 {
    (number as u64).max(1)
}

fn hex(mut number: u128, out: &mut [u8]) {
    for place in out.iter_mut().rev() {
        *place = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, text: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        let mut found = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            found.append(name, value);
        }
        found
    }

    #[track_caller]
    fn check(lines: &[(&str, &str)], expected: Option<(Option<bool>, Form)>) {
        let headers = headers(lines);
        let found = read(&headers);
        if let Some(parent) = &found {
            assert_eq!(
                (format!("{:032x}", parent.trace), format!("{:016x}", parent.span)),
                (TRACE.into(), SPAN.into())
            );
        }
        assert_eq!(found.map(|parent| (parent.sampled, form(&headers))), expected, "{lines:?}");
    }

    #[test]
    fn w3c_is_read_strictly() {
        let w3c = |sampled| Some((Some(sampled), Form::W3c));
        let one = |text: String, expected| check(&[("traceparent", &text)], expected);
        one(format!("00-{TRACE}-{SPAN}-01"), w3c(true));
        one(format!("00-{TRACE}-{SPAN}-00"), w3c(false));
        one(format!("00-{TRACE}-{SPAN}-03"), w3c(true));
        one(format!("01-{TRACE}-{SPAN}-01-more"), w3c(true));
        one(format!("00-{TRACE}-{SPAN}-01-more"), None);
        one(format!("ff-{TRACE}-{SPAN}-01"), None);
        one(format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None);
        one(format!("00-{TRACE}-{SPAN}"), None);
        one(format!("00-{TRACE}-{SPAN}-1"), None);
        one(format!("00-{}-{SPAN}-01", "0".repeat(32)), None);
        one(format!("00-{TRACE}-{}-01", "0".repeat(16)), None);
        one(format!("00-{TRACE}-+{}-01", &SPAN[1..]), None);
        let text = format!("00-{TRACE}-{SPAN}-01");
        check(&[("traceparent", &text), ("traceparent", &text)], None);
    }

    #[test]
    fn b3_is_read_in_one_header_or_several() {
        let single = |text: String, expected: Option<Option<bool>>| {
            check(&[("b3", &text)], expected.map(|sampled| (sampled, Form::Single)));
        };
        single(format!("{TRACE}-{SPAN}"), Some(None));
        single(format!("{TRACE}-{SPAN}-1"), Some(Some(true)));
        single(format!("{TRACE}-{SPAN}-d-{SPAN}"), Some(Some(true)));
        single(format!("{TRACE}-{SPAN}-0"), Some(Some(false)));
        single(format!("{TRACE}-{SPAN}-x"), None);
        single("0".into(), None);
        let multiple = |more: (&str, &str), sampled| {
            let lines = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), more];
            check(&lines, Some((sampled, Form::Multiple)));
        };
        multiple(("x-b3-sampled", "1"), Some(true));
        multiple(("x-b3-sampled", "0"), Some(false));
        multiple(("x-b3-flags", "1"), Some(true));
        multiple(("x-other", "1"), None);
        check(&[("x-b3-traceid", TRACE)], None);
        check(&[("x-b3-traceid", "xyz"), ("x-b3-spanid", SPAN)], None);
    }

    #[test]
    fn w3c_goes_before_b3_and_a_bare_decision_counts() {
        let text = format!("00-{TRACE}-{SPAN}-00");
        check(&[("traceparent", &text), ("b3", "1")], Some((Some(false), Form::Single)));
        assert_eq!(decided(&headers(&[("b3", "0")])), Some(false));
        assert_eq!(decided(&headers(&[("x-b3-sampled", "1")])), Some(true));
        assert_eq!(decided(&headers(&[])), None);
    }

    #[test]
    fn short_ids_of_traces_are_taken() {
        let parent = read(&headers(&[("b3", &format!("{SPAN}-{SPAN}-1"))])).unwrap();
        assert_eq!(format!("{:x}", parent.trace), SPAN);
    }

    #[track_caller]
    fn goes_on(lines: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut ids = [0x1122_u128, 0x3344].into_iter();
        let mut headers = headers(lines);
        let context = Context::begin(read(&headers), form(&headers), || true, || ids.next().unwrap());
        context.write(&mut headers);
        let mut found: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_trace_goes_on_as_it_came_and_in_w3cs_words() {
        let begun = format!("00-{:032x}-{:016x}-01", 0x3344, 0x1122);
        goes_on(&[], &[("traceparent", &begun)]);
        goes_on(&[("traceparent", "nonsense"), ("tracestate", "a=b")], &[("traceparent", &begun)]);
        let ours = format!("00-{TRACE}-{:016x}-00", 0x1122);
        let theirs = format!("00-{TRACE}-{SPAN}-00");
        goes_on(
            &[("traceparent", &theirs), ("tracestate", "a=b"), ("tracestate", "c=d")],
            &[("traceparent", &ours), ("tracestate", "a=b,c=d")],
        );
        let b3 = format!("{TRACE}-{:016x}-0-{SPAN}", 0x1122);
        goes_on(&[("b3", &format!("{TRACE}-{SPAN}-0"))], &[("b3", &b3), ("traceparent", &ours)]);
        let span = format!("{:016x}", 0x1122);
        goes_on(
            &[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "0")],
            &[
                ("traceparent", &ours),
                ("x-b3-parentspanid", SPAN),
                ("x-b3-sampled", "0"),
                ("x-b3-spanid", &span),
                ("x-b3-traceid", TRACE),
            ],
        );
    }
}
