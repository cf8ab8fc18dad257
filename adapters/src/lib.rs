//! Platform adapters: what runs where, told to the control plane. They know no policy.
//!
//! [`source::Source`] is the one trait; [`client`] carries what a source says to every control plane; [`app`] puts the
//! two together for the command line.

pub mod app;
pub mod catalog;
pub mod client;
pub mod consul;
pub mod description;
pub mod files;
pub mod metrics;
pub mod settings;
pub mod source;
pub mod watch;
