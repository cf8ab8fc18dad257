//! The proxy.
pub mod settings;
pub mod spec;
pub mod xds;
