use serde::{Deserialize, Serialize};

use crate::SecretName;

/// What the proxy of a host needs to order certificates, for all its services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyAcme {
    /// The URL of the directory of the certificate authority that is meant where a service names none; Let's Encrypt's where
    /// none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// An e-mail address that it may write to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// The certificates, in PEM, of those who are trusted when the authority is talked to; the public ones where none are
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<String>,
    /// The account there to which new ones are bound (RFC 8555, section 7.3.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<ExternalAccount>,
    /// The name server that takes proofs for wildcards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsUpdates>,
}

/// An account that exists already at a certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// The name of its key.
    pub key_id: String,
    /// The secret that holds the key, in URL-safe base64.
    pub hmac_key: SecretName,
}

/// A name server that takes changes of its zones (RFC 2136), signed with HMAC-SHA256 (RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsUpdates {
    /// Where it is, `host:port`.
    pub server: String,
    /// The name of the key.
    pub key_name: String,
    /// The secret that holds the key, in base64.
    pub key: SecretName,
}

impl ProxyAcme {
    /// Returns the secrets that it needs.
    #[must_use]
    pub fn secret_names(&self) -> Vec<SecretName> {
        let account = self.account.iter().map(|account| account.hmac_key.clone());
        account.chain(self.dns.iter().map(|dns| dns.key.clone())).collect()
    }
}
