//! RecordIO, the framing of Mesos's streams: a length in decimal digits, LF, and so many bytes. Pure.

/// Largest record that is accepted, in bytes.
pub(super) const RECORD_BYTES_MAX: usize = 64 << 20;
/// Most digits of a length that can be right.
const DIGITS_MAX: usize = 8;

/// The stream is not what it should be; nothing after this can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a record whose length is '{0}'")]
    Length(String),
    #[error("a record of {0} bytes; at most {RECORD_BYTES_MAX} are read")]
    TooLarge(usize),
}

/// What has come and is no whole record yet.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    begin: usize,
}

impl Records {
    /// Takes a piece; where pieces end means nothing.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.begin);
        self.begin = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The next record, if it is whole.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let rest = &self.bytes[self.begin..];
        let digits = rest.iter().position(|byte| *byte == b'\n');
        let head = &rest[..digits.unwrap_or(rest.len()).min(DIGITS_MAX + 1)];
        if head.len() > DIGITS_MAX || !head.iter().all(u8::is_ascii_digit) || digits == Some(0) {
            return Err(Malformed::Length(String::from_utf8_lossy(head).into_owned()));
        }
        let Some(digits) = digits else { return Ok(None) };
        let length = std::str::from_utf8(head).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        match length {
            0 => return Err(Malformed::Length("0".to_owned())),
            1..=RECORD_BYTES_MAX => {}
            _ => return Err(Malformed::TooLarge(length)),
        }
        let from = self.begin + digits + 1;
        let Some(record) = self.bytes.get(from..from + length) else { return Ok(None) };
        self.begin = from + length;
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<String>, Malformed> {
        let (mut records, mut found) = (Records::default(), Vec::new());
        for piece in pieces {
            records.push(piece);
            while let Some(record) = records.next()? {
                found.push(String::from_utf8_lossy(record).into_owned());
            }
        }
        Ok(found)
    }

    #[test]
    fn records_come_whole_wherever_the_pieces_end() {
        let text = b"20\n{\"type\":\"HEARTBEAT\"}12\n{\"type\":\"A\"}2\n\n\n";
        let expected = ["{\"type\":\"HEARTBEAT\"}", "{\"type\":\"A\"}", "\n\n"];
        assert_eq!(all(&[text]).unwrap(), expected);
        for cut in 0..=text.len() {
            assert_eq!(all(&[&text[..cut], &text[cut..]]).unwrap(), expected, "cut at {cut}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(all(&single).unwrap(), expected);
    }

    #[test]
    fn a_length_that_cannot_be_right_ends_the_stream() {
        for wrong in ["0\n", "\n", "-1\n", "x\n", "1 \n", "12345678901234567890\n", "99999999999"] {
            assert!(matches!(all(&[wrong.as_bytes()]), Err(Malformed::Length(_))), "{wrong:?}");
        }
        assert_eq!(all(&[b"99999999\n"]), Err(Malformed::TooLarge(99_999_999)));
        assert_eq!(all(&[b"1234"]).unwrap(), Vec::<String>::new());
    }
}
