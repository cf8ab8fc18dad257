//! Platform adapters: what runs where, told to the control plane. They know no policy.
//!
//! [`source::Source`] is the one trait; [`client`] carries what a source says to every control plane; [`app`] puts the
//! two together for the command line; [`check`] looks once and tells nothing.

pub mod app;
pub mod catalog;
pub mod check;
pub mod client;
pub mod consul;
pub mod description;
pub mod files;
pub mod metrics;
pub mod report;
pub mod settings;
pub mod source;
pub mod watch;
