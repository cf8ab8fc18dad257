//! HPACK (RFC 7541): how header fields are written in HTTP/2. What comes is read in full, with a table and Huffman's code;
//! what goes is written plainly.

pub mod decoder;
pub mod encoder;
mod huffman;
pub mod table;

#[cfg(test)]
mod tests;
