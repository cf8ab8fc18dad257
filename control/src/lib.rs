//! The control plane: facts (registry) and intent (documents) become xDS resources.
pub mod access_log;
pub mod admin;
pub mod ads;
pub mod app;
pub mod canary;
pub mod compile;
pub mod documents;
pub mod lrs;
pub mod model;
pub mod peer;
pub mod registry;
pub mod resource;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod traffic;
pub mod virtual_ips;
