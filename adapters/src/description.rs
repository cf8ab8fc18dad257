//! What a source says of itself: who it is, and how well it sees its platform.

/// Who a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Unique name in the mesh, such as `consul/dc1`.
    pub source: String,
    /// Kind of the platform: `files`, `consul`.
    pub platform: &'static str,
    /// The platform's cluster or datacenter.
    pub cluster: String,
    /// Region of endpoints that name none.
    pub region: String,
}

/// How well the source sees its platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Facts are current.
    Live,
    /// Facts are the last known ones, for the reason given.
    Stale(String),
}
