use std::fmt;
use std::io;

use freehold_model::{Diagnose, ErrorKind};
use serde::Deserialize;

/// The number by which systems say that a disk is full.
const NO_SPACE: i64 = 28;

/// What a registry said, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegistryMessage(pub String);

/// A request that a registry did not carry out.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There are no certificates to check the registry's with.
    #[error("cannot read the certificates of this computer's authorities")]
    Authorities {
        /// Why.
        source: io::Error,
    },
    /// There is no connection, or it broke.
    #[error("registry `{registry}` cannot be reached")]
    Unreachable {
        /// The registry.
        registry: String,
        /// Why.
        source: io::Error,
    },
    /// Name and password are missing, wrong or no longer good.
    #[error("registry `{registry}` does not let in {who}")]
    Unauthorized {
        /// The registry.
        registry: String,
        /// Who asked.
        who: String,
        /// The registry's words.
        source: Option<RegistryMessage>,
    },
    /// Whoever asks may not do that.
    #[error("registry `{registry}` does not let {who} {act} `{repository}`")]
    Denied {
        /// The registry.
        registry: String,
        /// Who asked.
        who: String,
        /// What was to be done.
        act: &'static str,
        /// The repository.
        repository: String,
        /// The registry's words.
        source: Option<RegistryMessage>,
    },
    /// There is no such repository, or it is not shown to whoever asks.
    #[error("registry `{registry}` has no repository `{repository}`")]
    NoRepository {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// The registry's words.
        source: Option<RegistryMessage>,
    },
    /// Its disk is full.
    #[error("registry `{registry}` has no space left to store anything")]
    Full {
        /// The registry.
        registry: String,
        /// The registry's words.
        source: Option<RegistryMessage>,
    },
    /// It answers something else.
    #[error("registry `{registry}` answers with HTTP status {status}")]
    Refused {
        /// The registry.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// The registry's words.
        source: Option<RegistryMessage>,
    },
    /// The answer is not what the specification promises.
    #[error("the answer of registry `{registry}` cannot be understood")]
    Answer {
        /// The registry.
        registry: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RegistryError {
    /// Says whether the registry itself refused, so that asking it in another way will not help either.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized { .. } | Self::Denied { .. } | Self::NoRepository { .. } | Self::Full { .. }
        )
    }
}

impl Diagnose for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::Authorities { .. } => ErrorKind::Configuration,
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        let help = match self {
            Self::Authorities { .. } => "install `ca-certificates`, or name a bundle: `SSL_CERT_FILE=PATH`",
            Self::Unreachable { .. } => {
                "an authority of its own belongs into `/etc/docker/certs.d/SERVER/ca.crt`, on the hosts too"
            }
            Self::Unauthorized { .. } => {
                "check `registry: username:` and `password:`, and whether the token has expired"
            }
            Self::Denied { .. } => "let that user write to it, or name another image: `image:`",
            Self::NoRepository { .. } => {
                "make the repository there (ECR makes none by itself), or name another image: `image:`"
            }
            Self::Full { .. } => "free some space on the registry: remove tags and collect its garbage",
            Self::Refused { .. } | Self::Answer { .. } => return Vec::new(),
        };
        vec![help.to_owned()]
    }
}

/// What the body of a refusal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: Option<RegistryMessage>,
    pub(super) is_full: bool,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: serde_json::Value,
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.code)?;
        if self.message.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.message) }
    }
}

impl Refusal {
    pub(super) fn read(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Body>(body) else { return Self::default() };
        let texts: Vec<String> = body.errors.iter().map(ToString::to_string).collect();
        Self {
            message: (!texts.is_empty()).then(|| RegistryMessage(texts.join("; "))),
            is_full: body.errors.iter().any(|entry| has_number(&entry.detail, NO_SPACE)),
        }
    }
}

/// The distribution's filesystem driver passes on the error number of the system under `Err`.
fn has_number(detail: &serde_json::Value, number: i64) -> bool {
    match detail {
        serde_json::Value::Object(fields) => fields.iter().any(|(name, value)| {
            (name == "Err" && value.as_i64() == Some(number)) || has_number(value, number)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_by_its_number() {
        let body =
            br#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem",
            "Enclosed":{"Op":"write","Path":"/data/startedat","Err":28}}}]}"#;
        let refusal = Refusal::read(body);
        assert!(refusal.is_full);
        assert_eq!(refusal.message.map(|message| message.0).as_deref(), Some("UNKNOWN: unknown error"));
        let body = br#"{"errors":[{"code":"DENIED","detail":{"Err":13}},{"code":"OTHER","message":"x"}]}"#;
        let refusal = Refusal::read(body);
        assert!(!refusal.is_full);
        assert_eq!(refusal.message.map(|message| message.0).as_deref(), Some("DENIED; OTHER: x"));
        assert_eq!(Refusal::read(b"<html>"), Refusal::default());
    }
}
