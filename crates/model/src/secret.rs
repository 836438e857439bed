use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::SecretName;

/// The values of the secrets that a project names, kept out of every `Debug` and `Serialize`.
#[derive(Debug, Clone, Default)]
pub struct SecretValues(BTreeMap<SecretName, SecretString>);

impl SecretValues {
    /// Makes the values of a map.
    #[must_use]
    pub fn new(values: BTreeMap<SecretName, SecretString>) -> Self {
        Self(values)
    }

    /// Returns the value of a secret.
    #[must_use]
    pub fn value(&self, name: &SecretName) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// Returns every name with its value, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&SecretName, &SecretString)> {
        self.0.iter()
    }
}

/// A one-way fingerprint of a secret's value: it tells whether a value changed, never what it is.
///
/// It is the first 16 hex digits of an HMAC-SHA256 of the value under a key that never leaves the host's own state, so
/// that short values cannot be guessed from a plan or a stored release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretFingerprint(pub String);

impl fmt::Display for SecretFingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}
