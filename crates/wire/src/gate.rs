use serde::{Deserialize, Serialize};

use crate::DrainReport;

/// Whether a service's requests go to its targets. It outlives deploys and restarts of the proxy.
///
/// While they do not, `GET` and `HEAD` of the health check's path are answered 200 by the proxy, so that a load balancer
/// in front of it does not take the host out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Gate {
    /// They do.
    #[default]
    Open,
    /// They wait.
    Paused {
        /// How long each waits, from its arrival; then it is answered 504.
        max_pause_ms: u64,
    },
    /// They are answered 503.
    Stopped {
        /// What the page says; a text of the proxy's own where it is empty.
        message: String,
    },
}

impl Gate {
    /// Says whether requests go to the targets.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::Open
    }

    /// Returns the word for the state, as `list` shows it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "running",
            Self::Paused { .. } => "paused",
            Self::Stopped { .. } => "stopped",
        }
    }
}

/// Opens or closes a service's gate. Closing it drains: what is in flight finishes until the time limit.
///
/// Requests that wait go on when it is opened, and are refused when it is stopped; a pause that replaces another one is only
/// for requests that come later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateRequest {
    /// The new state.
    pub gate: Gate,
    /// How long requests in flight may go on; upgraded connections are cut at once. Nothing where the gate is opened.
    pub drain_timeout_ms: u64,
    /// The holder's fencing number: refused where the proxy has seen a greater one for this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}

/// The answer to a [`GateRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateReply {
    /// The state before.
    pub previous: Gate,
    /// What became of the drain, where the gate was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<DrainReport>,
}
