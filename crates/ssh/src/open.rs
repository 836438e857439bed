use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind, HostName};
use russh::ChannelOpenFailure;

use crate::connection::OpenFailure;

/// A stream to a socket that a host reaches did not open.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The connection to the host ended.
    #[error("the connection to `{host}` ended: {reason}")]
    Disconnected {
        /// The host.
        host: HostName,
        /// Why.
        reason: String,
    },
    /// The host did not answer in time.
    #[error("`{host}` did not open a stream to `{target}` within {} s", after.as_secs_f32())]
    TimedOut {
        /// The host.
        host: HostName,
        /// What was to be reached.
        target: String,
        /// The deadline.
        after: Duration,
    },
    /// The host's sshd does not allow it.
    #[error("`{host}` does not allow a stream to `{target}`")]
    Prohibited {
        /// The host.
        host: HostName,
        /// What was to be reached.
        target: String,
    },
    /// The host could not connect.
    #[error("`{host}` cannot connect to `{target}`")]
    Refused {
        /// The host.
        host: HostName,
        /// What was to be reached.
        target: String,
    },
    /// The host could not connect to a Unix socket of its own.
    #[error("cannot open the socket `{path}` on `{host}`: {problem}")]
    UnixSocket {
        /// The host.
        host: HostName,
        /// The socket's path.
        path: String,
        /// What a look at the host found.
        problem: SocketProblem,
        /// Whether the host has a `docker` command, with which `docker system dial-stdio` would be another way.
        docker_command: bool,
    },
}

/// Why a Unix socket of a host did not open: to SSH all of these look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketProblem {
    /// There is no such file, or the user may not see it.
    Missing,
    /// The file is not a socket.
    NotASocket,
    /// The user may not use it.
    NoPermission,
    /// Nobody listens on it.
    NobodyListens,
    /// The socket is fine: sshd does not forward streams to sockets (`AllowStreamLocalForwarding`, `DisableForwarding`).
    ForwardingOff,
    /// The look itself did not succeed.
    Unexplained,
}

impl SocketProblem {
    /// Says whether a command that connects to the socket could succeed where forwarding did not.
    #[must_use]
    pub fn may_work_by_command(self) -> bool {
        matches!(self, Self::ForwardingOff | Self::NobodyListens | Self::Unexplained)
    }
}

impl std::fmt::Display for SocketProblem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "it does not exist",
            Self::NotASocket => "it is not a socket",
            Self::NoPermission => "the user may not use it",
            Self::NobodyListens => "nobody listens on it",
            Self::ForwardingOff => "sshd does not forward streams to sockets",
            Self::Unexplained => "the host refused without a reason",
        })
    }
}

impl OpenError {
    pub(crate) fn of(failure: OpenFailure, host: &HostName, target: &str) -> Self {
        let (host, target) = (host.clone(), target.to_owned());
        match failure {
            OpenFailure::TimedOut(after) | OpenFailure::Busy(after) => Self::TimedOut { host, target, after },
            OpenFailure::Refused(ChannelOpenFailure::AdministrativelyProhibited) => {
                Self::Prohibited { host, target }
            }
            OpenFailure::Refused(_) => Self::Refused { host, target },
            OpenFailure::Disconnected(reason) => Self::Disconnected { host, reason },
        }
    }
}

impl Diagnose for OpenError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Disconnected { .. } | Self::TimedOut { .. } => ErrorKind::Unreachable,
            Self::Prohibited { .. } | Self::Refused { .. } | Self::UnixSocket { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Prohibited { .. } => {
                vec!["set `AllowTcpForwarding yes` in the host's sshd_config".to_owned()]
            }
            Self::UnixSocket { problem, path, .. } => match problem {
                SocketProblem::Missing | SocketProblem::NobodyListens => {
                    vec!["is the service behind it installed and running?".to_owned()]
                }
                SocketProblem::NoPermission => {
                    vec![format!("let the user use `{path}`, for Docker: `usermod -aG docker USER`")]
                }
                SocketProblem::ForwardingOff => {
                    vec!["set `AllowStreamLocalForwarding yes` in the host's sshd_config".to_owned()]
                }
                SocketProblem::NotASocket | SocketProblem::Unexplained => Vec::new(),
            },
            Self::Disconnected { .. } | Self::TimedOut { .. } | Self::Refused { .. } => Vec::new(),
        }
    }
}
