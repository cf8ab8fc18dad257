//! Simulators of platforms that no package holds: they speak the documented protocols and misbehave on demand. Each is a
//! program, too (`cargo run -p weft-tests --bin sim-nomad`), which takes commands on its standard input.

pub mod console;
pub mod fault;
pub mod kubernetes;
pub mod marathon;
pub mod mesos;
pub mod nomad;
pub mod server;
