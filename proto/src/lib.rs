//! The words on the wire: our registry, admin and extension protocols, and the xDS types that we speak.
//!
//! Generated code is checked in, so that a build needs no protobuf compiler; `tests/generated.rs` compares it with the
//! `.proto` files and rewrites it when `WEFT_BLESS=1`.

pub use envoy_types::pb as xds;

pub mod document;
pub mod latency;
pub mod node;
pub mod spiffe;

/// Adapter to control plane: services, endpoints and documents.
pub mod registry {
    /// Version 1.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        include!("generated/weft.registry.v1.rs");
    }
}

/// People to control plane.
pub mod admin {
    /// Version 1.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        include!("generated/weft.admin.v1.rs");
    }
}

/// Proxies and adapters to control plane: certificates, and whom to believe.
pub mod identity {
    /// Version 1.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        include!("generated/weft.identity.v1.rs");
    }
}

/// Applications to the agent beside them: who they are, by the SPIFFE Workload API.
pub mod workload {
    #![allow(missing_docs, clippy::all)]
    include!("generated/spiffe.workload.rs");
}

/// What only the weft proxy has.
pub mod extension {
    /// Version 1.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        include!("generated/weft.extension.v1.rs");
    }
}
