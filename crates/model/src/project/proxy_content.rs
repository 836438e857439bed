use serde::{Deserialize, Serialize};

/// What the proxy speaks with targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, without being asked before (prior knowledge; RFC 9113, section 3.3), as gRPC needs it.
    H2c,
    /// HTTP/2 over TLS; a target that does not agree on it gets HTTP/1.1 over TLS.
    H2,
    /// HTTP/1.1 over TLS.
    Https,
}

impl TargetProtocol {
    /// Finds the protocol of a name; none where there is no such name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "http1" => Some(Self::Http1),
            "h2c" => Some(Self::H2c),
            "h2" => Some(Self::H2),
            "https" => Some(Self::Https),
            _ => None,
        }
    }

    /// Says whether it is what is spoken where nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Says whether it is spoken over TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::H2 | Self::Https)
    }
}

/// How containers are known that speak TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetTls {
    /// The certificates of the authorities that are trusted, in PEM; the public ones where none are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
    /// The name that their certificates must have; their address where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// A coding by which the proxy compresses answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Zstandard, RFC 8878.
    Zstd,
    /// Brotli, RFC 7932.
    Br,
    /// What every client knows, RFC 1952.
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
