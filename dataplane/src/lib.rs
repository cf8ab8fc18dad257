//! The proxy.
pub mod spec;
