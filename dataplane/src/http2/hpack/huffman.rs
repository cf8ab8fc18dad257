//! Huffman's code of RFC 7541, appendix B, read a symbol a look-up. Pure.

/// Length in bits of each symbol's code, the end of the string last. The code is canonical: it follows from the lengths.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, //
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, //
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, //
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, //
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const LENGTH_MAX: usize = 30;
/// Codes up to this many bits are found in one look: all of the letters, figures and marks that are common.
const SHORT_BITS: usize = 8;
/// The end of the string as a symbol; it must not occur.
const END: u16 = 256;

/// The code, arranged for reading.
struct Code {
    /// Symbol and length of the code that eight bits begin with; length 0 where it is longer.
    short: [(u8, u8); 1 << SHORT_BITS],
    /// All symbols by their codes.
    symbols: [u16; 257],
    /// By length: the first code, how many there are, and the place of the first symbol.
    lengths: [(u32, u32, u32); LENGTH_MAX + 1],
}

static CODE: Code = arrange();

const fn arrange() -> Code {
    let mut made = Code { short: [(0, 0); 256], symbols: [0; 257], lengths: [(0, 0, 0); LENGTH_MAX + 1] };
    let (mut code, mut place, mut length) = (0u32, 0, 1);
    while length <= LENGTH_MAX {
        code <<= 1;
        made.lengths[length] = (code, 0, place as u32);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                made.symbols[place] = symbol as u16;
                made.lengths[length].1 += 1;
                if length <= SHORT_BITS {
                    let mut index = (code as usize) << (SHORT_BITS - length);
                    let end = index + (1 << (SHORT_BITS - length));
                    while index < end {
                        made.short[index] = (symbol as u8, length as u8);
                        index += 1;
                    }
                }
                code += 1;
                place += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    made
}

/// Appends what `coded` says; false where it is no text of this code.
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    let mut coded = coded.iter();
    let (mut bits, mut held) = (0u64, 0u32); // The next bits are the highest.
    loop {
        while held <= 56 {
            let Some(byte) = coded.next() else { break };
            bits |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        let (symbol, length) = match CODE.short[(bits >> 56) as usize] {
            (symbol, length) if length > 0 => (u16::from(symbol), u32::from(length)),
            _ => long(bits),
        };
        if length > held {
            // What is left is padding: fewer than eight bits, all ones.
            return held < 8 && (held == 0 || bits >> (64 - held) == (1 << held) - 1);
        }
        let Ok(byte) = u8::try_from(symbol) else { return false };
        out.push(byte);
        bits <<= length;
        held -= length;
    }
}

/// The symbol of a code that is longer than a look-up, and its length.
fn long(bits: u64) -> (u16, u32) {
    for (length, &(first, count, place)) in (0u32..).zip(&CODE.lengths).skip(SHORT_BITS + 1) {
        let offset = (bits >> (64 - length)) as u32;
        if let Some(offset) = offset.checked_sub(first).filter(|offset| *offset < count) {
            return (CODE.symbols[(place + offset) as usize], length);
        }
    }
    (END, LENGTH_MAX as u32) // The code is complete: nothing is left over.
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(coded: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        decode(coded, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    /// Writes it, as nobody but a test has to.
    fn write(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let (first, _, place) = CODE.lengths[length];
            let at = CODE.symbols.iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
            bits += &format!("{:0length$b}", first as usize + at - place as usize);
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    #[test]
    fn the_examples_of_the_standard_are_read() {
        let cases: [(&[u8], &str); 5] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0x64, 0x02], "302"),
            (&[], ""),
        ];
        for (coded, text) in cases {
            assert_eq!(read(coded).as_deref(), Some(text));
        }
    }

    #[test]
    fn every_byte_is_read_as_it_was_written() {
        let all: Vec<u8> = (0..=255).collect();
        for text in [all.clone(), all.into_iter().rev().collect()] {
            let mut out = Vec::new();
            assert!(decode(&write(&text), &mut out));
            assert_eq!(out, text);
        }
    }

    #[test]
    fn padding_is_short_and_all_ones() {
        let cases: [(&[u8], bool); 6] = [
            (&[0x1f], true),                          // a, 111
            (&[0x1e], false),                         // a, 110
            (&[0xff], false),                         // a whole byte of padding
            (&[0x1f, 0xff], false),                   // a, and more than a byte of padding
            (&[0xff, 0xff, 0xff, 0xff], false),       // the end of the string
            (&[0xff, 0xff, 0xff, 0xfc, 0x1f], false), // the same, and more
        ];
        for (coded, good) in cases {
            assert_eq!(read(coded).is_some(), good, "{coded:x?}");
        }
    }
}
