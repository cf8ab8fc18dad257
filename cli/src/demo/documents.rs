//! The documents that the demo applies; the same files that a reader finds in `deploy/examples/demo`.

/// The gateway, and what leads from it to web.
pub const EDGE: &str = include_str!("../../../deploy/examples/demo/edge.yaml");
/// The two versions of api.
pub const VERSIONS: &str = include_str!("../../../deploy/examples/demo/versions.yaml");
/// 95 to 5.
pub const CANARY: &str = include_str!("../../../deploy/examples/demo/canary.yaml");
/// 50 to 50.
pub const HALF: &str = include_str!("../../../deploy/examples/demo/half.yaml");
/// One user sees v2.
pub const BY_USER: &str = include_str!("../../../deploy/examples/demo/by-user.yaml");
/// A document with mistakes.
pub const BROKEN: &str = include_str!("../../../deploy/examples/demo/broken.yaml");

/// What the mesh starts with.
pub fn first() -> String {
    [EDGE, VERSIONS, CANARY].join("---\n")
}
