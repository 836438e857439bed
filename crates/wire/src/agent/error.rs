use freehold_model::{Diagnose, ErrorKind};
use serde::{Deserialize, Serialize};

/// The class of a refused request, which a program can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentErrorCode {
    /// The request is malformed or a value in it is out of range (400).
    Invalid,
    /// The path or method is not part of this API (404).
    UnknownRequest,
    /// There is no such schedule, release, job or run (404).
    Unknown,
    /// A greater fencing number was seen (409).
    Fenced,
    /// The state cannot be stored (500).
    State,
    /// The agent is stopping (503).
    Stopping,
}

impl AgentErrorCode {
    /// Returns the HTTP status that goes with the code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::UnknownRequest | Self::Unknown => 404,
            Self::Fenced => 409,
            Self::State => 500,
            Self::Stopping => 503,
        }
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRefusal {
    /// The class.
    pub code: AgentErrorCode,
    /// What a person reads: lower case, no full stop.
    pub message: String,
}

/// A call to the agent that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The byte stream failed or does not carry HTTP.
    #[error("cannot talk to the agent to {operation}")]
    Transport {
        /// What was being done.
        operation: String,
        /// Why not.
        source: hyper::Error,
    },
    /// The agent closed the stream before it answered.
    #[error("the agent closed the connection before it answered to {operation}")]
    Closed {
        /// What was being done.
        operation: String,
    },
    /// No answer came in time.
    #[error("the agent did not answer to {operation} within {} s", deadline.as_secs())]
    Deadline {
        /// What was being done.
        operation: String,
        /// The time allowed.
        deadline: std::time::Duration,
    },
    /// The answer is not what this version of the API says.
    #[error("the agent's answer (status {status}) to {operation} is not part of this version of its API")]
    Malformed {
        /// What was being done.
        operation: String,
        /// The status of the answer.
        status: u16,
        /// What is wrong with its body.
        source: serde_json::Error,
    },
    /// The request cannot be written as HTTP.
    #[error("cannot make the request to {operation}")]
    Request {
        /// What was being done.
        operation: String,
        /// Why not.
        source: http::Error,
    },
    /// The agent refused.
    #[error("the agent refused to {operation}: {message}")]
    Refused {
        /// What was being done.
        operation: String,
        /// The class of the refusal.
        code: AgentErrorCode,
        /// The agent's message.
        message: String,
    },
}

impl AgentError {
    /// Returns the class of the refusal, where the agent answered.
    #[must_use]
    pub fn code(&self) -> Option<AgentErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl Diagnose for AgentError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { code: AgentErrorCode::Fenced, .. } => ErrorKind::Locked,
            Self::Request { .. } => ErrorKind::Bug,
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        let line = match self {
            Self::Closed { .. } | Self::Deadline { .. } | Self::Transport { .. } => {
                "read the agent's log: `docker logs --tail 50 freehold-agent` on the host"
            }
            Self::Malformed { .. } => {
                "the agent may be of another version: the next `freehold deploy` renews it"
            }
            Self::Refused { code: AgentErrorCode::Unknown, .. } => "see what there is: `freehold cron list`",
            _ => return Vec::new(),
        };
        vec![line.to_owned()]
    }
}
