//! What is told about traffic.

pub mod load;
pub mod metrics;
pub mod shaping;
