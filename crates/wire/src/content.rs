//! What is spoken with targets, and how answers are compressed.

use serde::{Deserialize, Serialize};

/// What targets speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, without being asked before (prior knowledge). RFC 9113, section 3.3.
    H2c,
}

impl TargetProtocol {
    /// Finds the protocol of a name; none where there is no such name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "http1" => Some(Self::Http1),
            "h2c" => Some(Self::H2c),
            _ => None,
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A coding by which an answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

impl Compression {
    /// All of them, the most wanted first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// Returns the name that HTTP has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    /// Finds the coding of a name; none where there is no such name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.as_str() == name)
    }
}
