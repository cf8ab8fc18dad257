//! Lines out of pieces that end anywhere. Pure.

/// Longest line that is accepted, in bytes.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 20;

/// A line is longer than [`LINE_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {} MiB", LINE_BYTES_MAX >> 20)]
pub(crate) struct TooLong;

/// What has come and is no whole line yet.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// Where the next line begins.
    begin: usize,
    /// Up to where no end of a line was found.
    looked: usize,
}

impl Lines {
    /// Takes a piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        self.bytes.drain(..self.begin);
        self.looked -= self.begin;
        self.begin = 0;
        self.bytes.extend_from_slice(piece);
        if self.looked > LINE_BYTES_MAX { Err(TooLong) } else { Ok(()) }
    }

    /// The next line without its end, LF or CRLF.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let end = self.bytes[self.looked..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.looked + end) else {
            self.looked = self.bytes.len();
            return None;
        };
        let line = &self.bytes[self.begin..end];
        (self.begin, self.looked) = (end + 1, end + 1);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_wherever_the_pieces_end() {
        let text = b"{}\r\n{\"a\":1}\n\nlast\n";
        for cut in 0..=text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in [&text[..cut], &text[cut..]] {
                lines.push(piece).unwrap();
                while let Some(line) = lines.next() {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(found, ["{}", "{\"a\":1}", "", "last"], "cut at {cut}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let (mut lines, piece) = (Lines::default(), vec![b'x'; LINE_BYTES_MAX / 2 + 1]);
        for taken in [Ok(()), Ok(()), Err(TooLong)] {
            assert_eq!(lines.push(&piece), taken);
            assert_eq!(lines.next(), None);
        }
    }
}
