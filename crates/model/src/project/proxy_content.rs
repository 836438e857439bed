use serde::{Deserialize, Serialize};

/// What the proxy speaks with containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, as gRPC needs it.
    H2c,
}

impl TargetProtocol {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A coding by which the proxy compresses answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Zstandard.
    Zstd,
    /// Brotli.
    Br,
    /// What every client knows.
    Gzip,
}

impl Compression {
    /// All of them, the most wanted first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];
}
