//! `weft demo`: a whole mesh on this machine.

#[cfg(test)]
pub mod documents;
pub mod service;
