//! Reads header blocks (RFC 7541, 3.2). A block is always read to its end, so that the table stays the same as the peer's,
//! however much of it its reader wants. Pure.

use super::{
    huffman,
    table::{FIELD_OVERHEAD_BYTES, Field, Name, Table},
};

/// Changes of the table's size that one block may begin with: the smallest and the last (RFC 7541, 4.2).
const RESIZES_MAX: u32 = 2;
/// Bytes of a number beyond its prefix: no length or index of ours needs more.
const NUMBER_BYTES_MAX: u32 = 4;

/// Who takes the fields of a block.
pub trait Sink {
    /// Whether a field that counts so many bytes is wanted.
    fn admits(&mut self, bytes: usize) -> bool;
    /// Takes one that is.
    fn take(&mut self, field: Field);
}

/// A block cannot be read, and none after it: COMPRESSION_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What a connection's peer has written so far.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table,
    /// A name and a value, where they are in Huffman's code.
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// Reads a whole block.
    pub fn decode(&mut self, block: &[u8], sink: &mut impl Sink) -> Result<(), Unreadable> {
        let mut rest = block;
        let (mut resizes, mut begun) = (0, false);
        while let Some(&first) = rest.first() {
            if first & 0xe0 == 0x20 {
                resizes += 1;
                let size = number(&mut rest, 5)?;
                if begun || resizes > RESIZES_MAX || !self.table.resize(size) {
                    return Err(Unreadable);
                }
                continue;
            }
            begun = true;
            match first {
                0x80.. => self.indexed(&mut rest, sink)?,
                0x40.. => self.literal(&mut rest, 6, sink)?,
                _ => self.literal(&mut rest, 4, sink)?,
            }
        }
        Ok(())
    }

    /// Gives back what a long block took.
    pub fn rest(&mut self) {
        (self.name, self.value) = (Vec::new(), Vec::new());
    }

    fn indexed(&mut self, rest: &mut &[u8], sink: &mut impl Sink) -> Result<(), Unreadable> {
        let index = number(rest, 7)?;
        let bytes = self.table.size(index).ok_or(Unreadable)?;
        if sink.admits(bytes) {
            let (field, _) = self.table.get(index).ok_or(Unreadable)?;
            sink.take(field);
        }
        Ok(())
    }

    /// A field whose value is written out, to be indexed where its prefix has six bits.
    fn literal(&mut self, rest: &mut &[u8], prefix: u32, sink: &mut impl Sink) -> Result<(), Unreadable> {
        let (index, sensitive) = (prefix == 6, rest.first().is_some_and(|first| first & 0xf0 == 0x10));
        let (name, name_bytes) = match number(rest, prefix)? {
            0 => {
                let text = string(rest, &mut self.name)?;
                (Name::read(text), text.len())
            }
            at => {
                // How long a bad name was is not known any more: the field's size would be another than the peer's.
                let name = self.table.name(at).filter(|name| *name != Name::Bad).ok_or(Unreadable)?;
                let bytes = name.bytes();
                (name, bytes)
            }
        };
        let value = string(rest, &mut self.value)?;
        let bytes = name_bytes + value.len() + FIELD_OVERHEAD_BYTES;
        let wanted = sink.admits(bytes);
        if !wanted && !index {
            return Ok(());
        }
        let field = name.with(value, sensitive);
        match (wanted, index) {
            (true, true) => {
                self.table.insert(field.clone(), bytes);
                sink.take(field);
            }
            (true, false) => sink.take(field),
            (false, _) => self.table.insert(field, bytes),
        }
        Ok(())
    }
}

/// A number that begins in the low bits of a byte (RFC 7541, 5.1).
fn number(rest: &mut &[u8], prefix: u32) -> Result<usize, Unreadable> {
    let (&first, mut left) = rest.split_first().ok_or(Unreadable)?;
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        for place in 0..=NUMBER_BYTES_MAX {
            let (&byte, after) = left.split_first().filter(|_| place < NUMBER_BYTES_MAX).ok_or(Unreadable)?;
            left = after;
            value += usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = left;
    Ok(value)
}

/// A string (RFC 7541, 5.2), as it stands in the block or read into `scratch`.
fn string<'s, 'a: 's>(rest: &mut &'a [u8], scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Unreadable> {
    let coded = rest.first().ok_or(Unreadable)? & 0x80 != 0;
    let length = number(rest, 7)?;
    let (text, after) = rest.split_at_checked(length).ok_or(Unreadable)?;
    *rest = after;
    if !coded {
        return Ok(text);
    }
    scratch.clear();
    if huffman::decode(text, scratch) { Ok(scratch) } else { Err(Unreadable) }
}
