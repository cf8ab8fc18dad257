//! What is told about traffic.

pub mod metrics;
