//! Drives the real `weft` program from outside. Reading order: `program` (find and run it), `wait`, `backend` (what is
//! behind the proxies), `client` and `load` (what is before them), `envoy` (the other dataplane), `grpc` (neither proxy),
//! `consul` and `mesos` (real platforms), `sim` (platforms that no package holds) with `town` around them, `netns` (hosts), `mesh` (all of it wired together), `case` (the differential table).

pub mod access_log;
pub mod backend;
pub mod case;
pub mod client;
pub mod collector;
pub mod consul;
pub mod envoy;
pub mod grpc;
pub mod load;
pub mod mesh;
pub mod mesos;
pub mod netns;
pub mod program;
pub mod services;
pub mod sim;
pub mod tls;
pub mod town;
pub mod wait;
