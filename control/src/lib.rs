//! The control plane: facts (registry) and intent (documents) become xDS resources.
pub mod model;
pub mod resource;
