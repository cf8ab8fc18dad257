//! Platform adapters: what runs where, told to the control plane. They know no policy.
//!
//! [`source::Source`] is the one trait; [`client`] carries what a source says to every control plane; [`app`] puts the
//! two together for the command line; [`check`] looks once and tells nothing.

pub mod app;
mod blocking;
pub mod catalog;
pub mod check;
pub mod client;
pub mod consul;
mod conversation;
pub mod description;
pub mod files;
mod gather;
mod http;
pub mod kubernetes;
mod lines;
pub mod marathon;
pub mod mesos;
pub mod metrics;
pub mod nomad;
pub mod report;
pub mod settings;
pub mod source;
mod tags;
mod trust;
pub mod watch;
