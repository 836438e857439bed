use std::io;
use std::process::Stdio;
use std::sync::Arc;

use freehold_docker::ImageSummary;
use freehold_model::Repository;
use freehold_ssh::{ExitStatus, ProcessControl, Pty, RemoteCommand, RemoteProcess};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use crate::engine_host::EngineHost;
use crate::engine_host::connection::Connection;
use crate::host::HostError;

/// The exit code that stands for the end by a signal.
const SIGNALLED: i64 = 255;

/// A command of a person's that runs on the host itself, not in a container.
pub struct ServerCommand {
    /// What it writes to standard output; with a terminal everything.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// What it writes to standard error.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// What it reads; shutting it down is end of file.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Ends it.
    pub control: ServerControl,
}

impl std::fmt::Debug for ServerCommand {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServerCommand").finish_non_exhaustive()
    }
}

/// Asks after a command on a host.
pub struct ServerControl {
    host: Arc<EngineHost>,
    kind: Control,
}

enum Control {
    Ssh(ProcessControl),
    Local(Box<Mutex<tokio::process::Child>>),
}

impl std::fmt::Debug for ServerControl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServerControl").field("host", &self.host).finish_non_exhaustive()
    }
}

impl ServerControl {
    /// Waits for the end of the command and returns its exit code, 255 after a signal.
    ///
    /// # Errors
    /// [`HostError::Lost`] when the connection ends before.
    pub async fn exit_code(&self) -> Result<i64, HostError> {
        match &self.kind {
            Control::Ssh(control) => {
                let status = control.wait().await.map_err(|error| self.host.lost_command(error))?;
                match status {
                    ExitStatus::Code(code) => Ok(i64::from(code)),
                    ExitStatus::Signal(_) => Ok(SIGNALLED),
                }
            }
            Control::Local(child) => {
                let status =
                    child.lock().await.wait().await.map_err(|error| self.host.lost_command(error))?;
                Ok(status.code().map_or(SIGNALLED, i64::from))
            }
        }
    }

    /// Tells the command's terminal its size in characters, if it has one of its own.
    ///
    /// # Errors
    /// [`HostError::Lost`] when the connection has ended.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), HostError> {
        match &self.kind {
            Control::Ssh(control) => control
                .resize(u32::from(columns), u32::from(rows))
                .await
                .map_err(|error| self.host.lost_command(error)),
            Control::Local(_) => Ok(()),
        }
    }
}

/// What people do on a host itself.
impl EngineHost {
    /// Starts a command in the login directory, by the login shell, over a connection of its own.
    ///
    /// With a terminal its input and output are a terminal's. On this machine it then has that of this process.
    ///
    /// # Errors
    /// [`HostError`] when the host does not start it.
    ///
    /// # Cancel safety
    /// The command may have been started.
    pub async fn run_on_server(
        self: &Arc<Self>,
        command: &str,
        terminal: Option<Pty>,
    ) -> Result<ServerCommand, HostError> {
        let link = self.link().await?;
        let dedicated = link.connection.dedicated().await;
        let connection =
            dedicated.map_err(|source| HostError::Connect { host: self.name.clone(), source })?;
        match connection {
            Connection::Ssh(session) => {
                let started = session.exec(&RemoteCommand::script(command), terminal).await;
                let process = started.map_err(|error| self.lost_command(error))?;
                let RemoteProcess { stdin, stdout, stderr, control } = process;
                Ok(ServerCommand {
                    stdout: Box::new(stdout),
                    stderr: Box::new(stderr),
                    stdin: Box::new(stdin),
                    control: ServerControl { host: Arc::clone(self), kind: Control::Ssh(control) },
                })
            }
            Connection::Local { home, .. } => {
                let mut child = tokio::process::Command::new("/bin/sh")
                    .args(["-c", command])
                    .current_dir(home)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .kill_on_drop(true)
                    .spawn()
                    .map_err(|error| self.lost_command(error))?;
                let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
                let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
                    return Err(self.lost_command(io::Error::other("the command has no pipes")));
                };
                let kind = Control::Local(Box::new(Mutex::new(child)));
                Ok(ServerCommand {
                    stdout: Box::new(stdout),
                    stderr: Box::new(stderr),
                    stdin: Box::new(stdin),
                    control: ServerControl { host: Arc::clone(self), kind },
                })
            }
        }
    }

    /// Lists the images of a repository.
    ///
    /// # Errors
    /// [`HostError`] when the host or its engine does not answer.
    pub async fn images(&self, repository: &Repository) -> Result<Vec<ImageSummary>, HostError> {
        let link = self.link().await?;
        link.engine.list_images(repository).await.map_err(|error| self.engine_error("list images", error))
    }

    fn lost_command(&self, source: impl std::error::Error + Send + Sync + 'static) -> HostError {
        HostError::Lost {
            host: self.name.clone(),
            operation: "run a command".to_owned(),
            source: Some(Arc::new(source)),
        }
    }
}
