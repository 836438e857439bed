use std::fmt;
use std::io;
use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind};

/// What an engine said, word for word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineMessage(pub String);

impl fmt::Display for EngineMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.0.trim_end())
    }
}

impl std::error::Error for EngineMessage {}

/// A request that an engine did not carry out. `action` says which one, with the name of its subject.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no connection, or it broke before the answer was complete.
    #[error("no connection to the Docker engine to {action}")]
    Connection {
        /// What was asked for.
        action: String,
        /// What happened to the connection.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine did not answer in time.
    #[error("the Docker engine did not {action} within {} s", limit.as_secs_f32())]
    Timeout {
        /// What was asked for.
        action: String,
        /// The deadline that passed.
        limit: Duration,
    },
    /// The engine refused.
    #[error("the Docker engine did not {action} (HTTP status {status})")]
    Refused {
        /// What was asked for.
        action: String,
        /// The HTTP status.
        status: u16,
        /// The engine's own words.
        source: EngineMessage,
    },
    /// The engine began and then reported a failure.
    #[error("the Docker engine did not {action}")]
    Failed {
        /// What was asked for.
        action: String,
        /// The engine's own words.
        source: EngineMessage,
    },
    /// The answer is not what the Engine API promises.
    #[error("the answer of the Docker engine to the request to {action} cannot be understood")]
    Answer {
        /// What was asked for.
        action: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EngineError {
    /// Returns the HTTP status with which the engine refused.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns the engine's own words, if it said any.
    #[must_use]
    pub fn engine_message(&self) -> Option<&str> {
        match self {
            Self::Refused { source, .. } | Self::Failed { source, .. } => Some(&source.0),
            _ => None,
        }
    }

    pub(crate) fn connection(
        action: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Connection { action: action.into(), source: source.into() }
    }

    pub(crate) fn answer(
        action: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Answer { action: action.into(), source: source.into() }
    }
}

/// The cause lies below hyper's own errors.
fn connection_help(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let kind = causes.filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind).last();
    match kind {
        Some(io::ErrorKind::PermissionDenied) => {
            "the user may not use the engine's socket: add it to the group, `sudo usermod -aG docker USER`, log in anew"
        }
        Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            "no engine listens there: install it or start it, `systemctl start docker`"
        }
        _ => "check that the engine runs and that you may use its socket: `docker info` on that host",
    }
}

impl Diagnose for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Connection { .. } | Self::Timeout { .. } => ErrorKind::Unreachable,
            Self::Refused { .. } | Self::Failed { .. } | Self::Answer { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Connection { source, .. } => vec![connection_help(source.as_ref()).to_owned()],
            Self::Timeout { .. } => {
                vec![
                    "look at the load and the disk of that host; `docker info` there should answer at once"
                        .to_owned(),
                ]
            }
            Self::Refused { status: 500.., .. } | Self::Failed { .. } => {
                vec![
                    "look at the engine's log on that host (`journalctl -u docker`) and its disk (`df -h`)"
                        .to_owned(),
                ]
            }
            Self::Refused { .. } => Vec::new(),
            Self::Answer { .. } => {
                vec![
                    "Docker Engine 20.10 or newer, or Podman 4.3 or newer, must listen on that socket"
                        .to_owned(),
                ]
            }
        }
    }
}
