//! `weft demo`: a whole mesh on this machine.

pub mod service;
