use serde::{Deserialize, Serialize};

/// Lets the proxy hand its listening sockets and its state to a new process, which serves from then on.
///
/// What the earlier process has begun it ends itself, until the time limit. Nothing is changed where the new process does
/// not come up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// The executable of the new process, as a path on the proxy's own file system; the one that runs where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// How long requests, upgraded connections and streams may go on in the earlier process.
    pub drain_timeout_ms: u64,
}

/// The answer to an [`UpgradeRequest`]: the new process serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeReply {
    /// The version of the new process.
    pub version: String,
    /// The number of the new process, as the proxy's own system has it.
    pub process_id: u32,
    /// How long it took from the request until the new process served.
    pub elapsed_ms: u64,
}
