use std::sync::Arc;
use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind, HostName};
use russh::ChannelOpenFailure;

use crate::channel::{ChannelFailure, ChannelGuard, ChannelReader, ChannelWriter, ExitStatus, Source};
use crate::command::InvalidCommand;
use crate::connection::OpenFailure;

/// A terminal for a remote process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// Its type, such as `xterm-256color`.
    pub term: String,
    /// Its width in characters.
    pub columns: u32,
    /// Its height in characters.
    pub rows: u32,
}

/// A process that runs on a host.
///
/// Dropping all of its parts closes the channel, but the process goes on: OpenSSH ends only one that has a terminal
/// (it gets a hang-up) or that writes to the closed channel.
#[derive(Debug)]
pub struct RemoteProcess {
    /// Its standard input; shutting it down is the end of the input.
    pub stdin: ChannelWriter,
    /// Its standard output. Output that nobody reads fails the stream on a shared connection; dropped, it is thrown away.
    pub stdout: ChannelReader,
    /// Its standard error, to which the same applies. With a terminal it is empty.
    pub stderr: ChannelReader,
    /// Its end and its terminal.
    pub control: ProcessControl,
}

/// Waits for a remote process and tells it of changes of its terminal.
#[derive(Clone)]
pub struct ProcessControl {
    guard: Arc<ChannelGuard>,
    host: HostName,
}

impl std::fmt::Debug for ProcessControl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ProcessControl").field("host", &self.host).finish_non_exhaustive()
    }
}

impl RemoteProcess {
    pub(crate) fn new(guard: Arc<ChannelGuard>, host: HostName) -> Self {
        Self {
            stdin: guard.writer(),
            stdout: guard.reader(Source::Output),
            stderr: guard.reader(Source::Error),
            control: ProcessControl { guard, host },
        }
    }

    /// Waits for the end of the process. Output that was not read until then can be read after.
    ///
    /// # Errors
    /// [`ExecError`] if the connection ends before, or the host does not say how the process ended.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub async fn wait(&self) -> Result<ExitStatus, ExecError> {
        self.control.wait().await
    }

    /// Tells the process that its terminal has another size.
    ///
    /// # Errors
    /// [`ExecError::Disconnected`] if the connection has ended.
    pub async fn resize(&self, columns: u32, rows: u32) -> Result<(), ExecError> {
        self.control.resize(columns, rows).await
    }
}

impl ProcessControl {
    /// Waits for the end of the process, as [`RemoteProcess::wait`] does.
    ///
    /// # Errors
    /// [`ExecError`] if the connection ends before, or the host does not say how the process ended.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub async fn wait(&self) -> Result<ExitStatus, ExecError> {
        let host = || self.host.clone();
        match self.guard.state.exit().await {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(ExecError::NoStatus { host: host() }),
            Err(ChannelFailure::Overflow) => Err(ExecError::NotRead { host: host() }),
            Err(ChannelFailure::Disconnected(reason)) => {
                Err(ExecError::Disconnected { host: host(), reason })
            }
        }
    }

    /// Tells the process that its terminal has another size.
    ///
    /// # Errors
    /// [`ExecError::Disconnected`] if the connection has ended.
    pub async fn resize(&self, columns: u32, rows: u32) -> Result<(), ExecError> {
        let sent = self.guard.half().window_change(columns, rows, 0, 0).await;
        sent.map_err(|error| ExecError::Disconnected { host: self.host.clone(), reason: error.to_string() })
    }
}

/// What a remote command wrote, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Whether one of the two was longer than the limit and its rest was thrown away.
    pub truncated: bool,
}

/// A command did not run on a host, or nobody knows how it ended.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The command cannot be given to a shell.
    #[error(transparent)]
    Invalid(#[from] InvalidCommand),
    /// The connection to the host ended.
    #[error("the connection to `{host}` ended: {reason}")]
    Disconnected {
        /// The host.
        host: HostName,
        /// Why.
        reason: String,
    },
    /// The host did not start the command in time.
    #[error("`{host}` did not start the command within {} s", after.as_secs_f32())]
    StartTimedOut {
        /// The host.
        host: HostName,
        /// The deadline.
        after: Duration,
    },
    /// As many commands as one connection may have are running.
    #[error("too many commands run on `{host}` at once; none ended within {} s", after.as_secs_f32())]
    Busy {
        /// The host.
        host: HostName,
        /// The deadline.
        after: Duration,
    },
    /// The host's sshd refuses another command.
    #[error("`{host}` refuses to run a command")]
    Refused {
        /// The host.
        host: HostName,
        /// Whether sshd allows no commands at all, in contrast to no more of them.
        prohibited: bool,
    },
    /// The host refuses a terminal for the command.
    #[error("`{host}` refuses a terminal")]
    NoTerminal {
        /// The host.
        host: HostName,
    },
    /// The command took too long. It may still be running.
    #[error("the command on `{host}` did not end within {} s", after.as_secs_f32())]
    TimedOut {
        /// The host.
        host: HostName,
        /// The deadline.
        after: Duration,
    },
    /// The output waited for its reader for too long.
    #[error("the output of the command on `{host}` was not read")]
    NotRead {
        /// The host.
        host: HostName,
    },
    /// The host closed the channel without an exit code.
    #[error("`{host}` did not say how the command ended")]
    NoStatus {
        /// The host.
        host: HostName,
    },
    /// The input could not be sent.
    #[error("cannot send the input of the command to `{host}`")]
    Input {
        /// The host.
        host: HostName,
        /// Why.
        source: std::io::Error,
    },
}

impl ExecError {
    pub(crate) fn of(failure: OpenFailure, host: &HostName) -> Self {
        let host = host.clone();
        match failure {
            OpenFailure::TimedOut(after) => Self::StartTimedOut { host, after },
            OpenFailure::Busy(after) => Self::Busy { host, after },
            OpenFailure::Refused(reason) => {
                let prohibited = reason == ChannelOpenFailure::AdministrativelyProhibited;
                Self::Refused { host, prohibited }
            }
            OpenFailure::Disconnected(reason) => Self::Disconnected { host, reason },
        }
    }

    pub(crate) fn of_channel(failure: Option<ChannelFailure>, host: &HostName) -> Self {
        let host = host.clone();
        match failure {
            None => Self::Refused { host, prohibited: true },
            Some(ChannelFailure::Overflow) => Self::NotRead { host },
            Some(ChannelFailure::Disconnected(reason)) => Self::Disconnected { host, reason },
        }
    }
}

impl Diagnose for ExecError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Disconnected { .. } | Self::StartTimedOut { .. } => ErrorKind::Unreachable,
            Self::NotRead { .. } => ErrorKind::Bug,
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Refused { prohibited: false, .. } => {
                vec!["raise `MaxSessions` in the host's sshd_config".to_owned()]
            }
            Self::Refused { prohibited: true, .. } | Self::NoTerminal { .. } => {
                vec![
                    "look at `ForceCommand`, `PermitTTY` and the options in `authorized_keys` on the host"
                        .to_owned(),
                ]
            }
            _ => Vec::new(),
        }
    }
}
