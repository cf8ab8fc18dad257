//! Whole adapters: a platform on one side, control planes on the other.

#[path = "adapters/client.rs"]
mod client;
#[path = "adapters/consul_real.rs"]
mod consul_real;
#[path = "adapters/control_plane.rs"]
mod control_plane;
