//! What the proxies of a fleet say to each other.

use serde::{Deserialize, Serialize};

use super::Subject;

/// What one proxy says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::acme) enum Message {
    /// How does it stand with this?
    Ask { subject: Subject },
    /// Somebody orders it, or did.
    Claim { subject: Subject, claim: Claim },
    /// A proof that an authority may look for at any of them.
    Prove(Proven),
}

/// What the other one answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::acme) enum Reply {
    State(State),
    Claimed { is_granted: bool },
    Done,
}

/// How it stands with a subject at one of the proxies.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::acme) struct State {
    pub(super) id: String,
    pub(super) claim: Option<Claim>,
    /// What is stored: a key with its certificate, or an account.
    pub(in crate::acme) stored: Option<String>,
}

/// Who orders, and until when nobody else does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::acme) struct Claim {
    pub(super) holder: String,
    /// In seconds since 1970.
    pub(super) until: i64,
    /// How many orders in a row have failed.
    pub(super) failures: u32,
    /// Why the last one did, while it is waited until the next.
    pub(super) error: Option<String>,
}

/// A proof that is shown by HTTP and TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proven {
    pub(in crate::acme) name: String,
    pub(in crate::acme) token: String,
    pub(in crate::acme) text: String,
    /// Of the text, where it is shown by TLS.
    pub(in crate::acme) digest: Vec<u8>,
}
