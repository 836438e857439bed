use serde::{Deserialize, Serialize};

/// How targets that speak TLS are known. A certificate that cannot be trusted is never taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetTls {
    /// The file, in the proxy's file system, with the certificates of the authorities that are trusted, in PEM. It is read
    /// again when it changes. The public authorities are trusted where neither a file nor certificates are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_path: Option<String>,
    /// Those certificates themselves, in PEM, in place of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// The name or IP address that a target's certificate must have, and that it is asked for (SNI); the target's own host where
    /// none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}
