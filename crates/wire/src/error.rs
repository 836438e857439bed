use std::io;
use std::path::PathBuf;
use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::ProbeReport;

/// The class of a refused request, which a program can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is malformed or a value in it is out of range (400).
    Invalid,
    /// The path or method is not part of this API (404, 405).
    UnknownRequest,
    /// The proxy does not know the service (404).
    UnknownService,
    /// Another service has one of the hosts and path prefixes (409).
    HostConflict,
    /// A greater fencing number was seen (409).
    Fenced,
    /// The targets did not become healthy in time (422).
    Unhealthy,
    /// The state cannot be stored (500).
    State,
    /// The proxy is stopping, or has just handed over to a new process: connect again (503).
    Stopping,
    /// The new process that was to take over did not come up; the earlier one goes on (500).
    Upgrade,
}

impl ErrorCode {
    /// Returns the HTTP status that goes with the code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::UnknownRequest | Self::UnknownService => 404,
            Self::HostConflict | Self::Fenced => 409,
            Self::Unhealthy => 422,
            Self::State | Self::Upgrade => 500,
            Self::Stopping => 503,
        }
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorReply {
    /// The class.
    pub code: ErrorCode,
    /// What a person reads: lower case, no full stop.
    pub message: String,
    /// What the checks of each target saw, where it is about health.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeReport>,
}

/// A call to the proxy that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The socket cannot be connected to.
    #[error("cannot connect to the proxy's socket `{path}`", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The byte stream failed or does not carry HTTP.
    #[error("cannot talk to the proxy to {operation}")]
    Transport {
        /// What was being done.
        operation: String,
        /// Why not.
        source: hyper::Error,
    },
    /// The proxy closed the stream before it answered.
    #[error("the proxy closed the connection before it answered to {operation}")]
    Closed {
        /// What was being done.
        operation: String,
    },
    /// No answer came in time.
    #[error("the proxy did not answer to {operation} within {deadline:?}")]
    Deadline {
        /// What was being done.
        operation: String,
        /// The time allowed.
        deadline: Duration,
    },
    /// The answer is not what this version of the API says.
    #[error("the proxy's answer (status {status}) to {operation} is not part of this version of its API")]
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
    /// The proxy has seen a greater fencing number.
    #[error("the proxy refused to {operation}: {message}")]
    Fenced {
        /// What was being done.
        operation: String,
        /// The proxy's message.
        message: String,
    },
    /// Another service has one of the hosts and path prefixes.
    #[error("the proxy refused to {operation}: {message}")]
    HostConflict {
        /// What was being done.
        operation: String,
        /// The proxy's message.
        message: String,
    },
    /// The proxy does not know the service.
    #[error("the proxy refused to {operation}: {message}")]
    UnknownService {
        /// What was being done.
        operation: String,
        /// The proxy's message.
        message: String,
    },
    /// The targets did not become healthy in time.
    #[error("the proxy did not {operation}: {message}")]
    Unhealthy {
        /// What was being done.
        operation: String,
        /// The proxy's message.
        message: String,
        /// What the checks of each target saw.
        probes: Vec<ProbeReport>,
    },
    /// The proxy refused for another reason.
    #[error("the proxy refused to {operation}: {message}")]
    Refused {
        /// What was being done.
        operation: String,
        /// The class of the refusal.
        code: ErrorCode,
        /// The proxy's message.
        message: String,
    },
}

impl ProxyError {
    pub(crate) fn refused(operation: String, reply: ErrorReply) -> Self {
        let ErrorReply { code, message, probes } = reply;
        match code {
            ErrorCode::Fenced => Self::Fenced { operation, message },
            ErrorCode::HostConflict => Self::HostConflict { operation, message },
            ErrorCode::UnknownService => Self::UnknownService { operation, message },
            ErrorCode::Unhealthy => Self::Unhealthy { operation, message, probes },
            ErrorCode::Invalid
            | ErrorCode::UnknownRequest
            | ErrorCode::State
            | ErrorCode::Stopping
            | ErrorCode::Upgrade => Self::Refused { operation, code, message },
        }
    }

    /// Returns the proxy's own message, where the proxy answered.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Fenced { message, .. }
            | Self::HostConflict { message, .. }
            | Self::UnknownService { message, .. }
            | Self::Unhealthy { message, .. }
            | Self::Refused { message, .. } => Some(message),
            _ => None,
        }
    }
}

impl Diagnose for ProxyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fenced { .. } => ErrorKind::Locked,
            Self::HostConflict { .. } => ErrorKind::Configuration,
            Self::Unhealthy { .. } => ErrorKind::Unhealthy,
            Self::Refused { code: ErrorCode::Invalid, .. } => ErrorKind::Configuration,
            Self::Request { .. } => ErrorKind::Bug,
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        let line = match self {
            Self::Connect { .. } | Self::Closed { .. } => {
                "see whether the proxy runs: `docker ps --filter name=kamal-proxy`"
            }
            Self::Deadline { .. } | Self::Transport { .. } => {
                "read the proxy's log: `docker logs --tail 50 kamal-proxy`"
            }
            Self::Refused { code: ErrorCode::Upgrade, .. } => {
                "replace its container instead: `freehold proxy reboot` refuses no connection, and ends those that are still \
                 open after 10 s"
            }
            Self::Malformed { .. } => "the proxy may be of another version: boot it again with this one",
            Self::Fenced { .. } => {
                "another deploy has taken over since this one began: look at what it did, then deploy again"
            }
            Self::HostConflict { .. } => {
                "give each service its own `proxy.host` or path prefix, or remove the other service"
            }
            _ => return Vec::new(),
        };
        vec![line.to_owned()]
    }
}
