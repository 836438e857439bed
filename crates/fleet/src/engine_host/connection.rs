use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use freehold_docker::{ByteStream, Dial, UnixSocket};
use freehold_model::{Diagnose, HostName, SshSettings};
use freehold_ssh::{Connector, OpenError, RemoteCommand, RemoteProcess, Session, SocketProblem};
use secrecy::SecretString;

use crate::engine_host::shell::ShellStreams;

/// How a host is reached.
#[derive(Clone)]
pub enum Reach {
    /// It is this machine: no SSH.
    Local {
        /// The folder that stands for the login directory.
        home: PathBuf,
        /// The engine's socket.
        socket: PathBuf,
    },
    /// By SSH.
    Ssh(Box<SshReach>),
}

/// What opening an SSH session needs.
#[derive(Clone)]
pub struct SshReach {
    /// Opens sessions; hosts that share it share the answers of the person.
    pub connector: Connector,
    /// The deploy file's settings.
    pub settings: SshSettings,
    /// Private keys that are secrets.
    pub key_data: Vec<SecretString>,
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { socket, .. } => {
                formatter.debug_struct("Local").field("socket", socket).finish_non_exhaustive()
            }
            Self::Ssh(_) => formatter.debug_struct("Ssh").finish_non_exhaustive(),
        }
    }
}

/// An open way to a host.
#[derive(Clone)]
pub(super) enum Connection {
    Local { home: PathBuf, socket: PathBuf },
    Ssh(Session),
}

impl Connection {
    pub(super) async fn open(
        host: &HostName,
        reach: &Reach,
    ) -> Result<Self, Arc<dyn Diagnose + Send + Sync>> {
        match reach {
            Reach::Local { home, socket } => Ok(Self::Local { home: home.clone(), socket: socket.clone() }),
            Reach::Ssh(ssh) => ssh
                .connector
                .connect(host, &ssh.settings, &ssh.key_data)
                .await
                .map(Self::Ssh)
                .map_err(|error| Arc::new(error) as Arc<dyn Diagnose + Send + Sync>),
        }
    }

    /// Returns how the host let us in, for people.
    pub(super) fn authentication(&self) -> String {
        match self {
            Self::Local { .. } => "local".to_owned(),
            Self::Ssh(session) => session.authentication().to_string(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Local { .. } => true,
            Self::Ssh(session) => !session.is_closed(),
        }
    }

    /// Opens a connection of its own to the same host, without asking anybody again.
    pub(super) async fn dedicated(&self) -> Result<Self, Arc<dyn Diagnose + Send + Sync>> {
        match self {
            Self::Local { .. } => Ok(self.clone()),
            Self::Ssh(session) => session
                .reconnect()
                .await
                .map(Self::Ssh)
                .map_err(|error| Arc::new(error) as Arc<dyn Diagnose + Send + Sync>),
        }
    }

    /// Starts a `/bin/sh` in the login directory.
    pub(super) async fn open_shell(&self) -> io::Result<ShellStreams> {
        match self {
            Self::Local { home, .. } => {
                fs_err::create_dir_all(home)?;
                let mut child = tokio::process::Command::new("/bin/sh")
                    .current_dir(home)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .kill_on_drop(true)
                    // Ctrl-C reaches the whole process group of a terminal; the shell must outlive it to put things back.
                    .process_group(0)
                    .spawn()?;
                match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
                    (Some(stdin), Some(stdout), Some(stderr)) => Ok(ShellStreams {
                        stdin: Box::new(stdin),
                        stdout: Box::new(stdout),
                        stderr: Box::new(stderr),
                        _guard: Box::new(child),
                    }),
                    _ => Err(io::Error::other("the shell has no pipes")),
                }
            }
            Self::Ssh(session) => {
                let process = session
                    .exec(&RemoteCommand::script("exec /bin/sh"), None)
                    .await
                    .map_err(io::Error::other)?;
                let RemoteProcess { stdin, stdout, stderr, control } = process;
                Ok(ShellStreams {
                    stdin: Box::new(stdin),
                    stdout: Box::new(stdout),
                    stderr: Box::new(stderr),
                    _guard: Box::new(control),
                })
            }
        }
    }

    /// Returns a dialler of the engine's socket.
    pub(super) fn dial(&self, socket: &Path) -> Arc<dyn Dial> {
        match self {
            Self::Local { .. } => Arc::new(UnixSocket::new(socket)),
            Self::Ssh(session) => Arc::new(SshDial {
                session: session.clone(),
                socket: socket.display().to_string(),
                command: OnceLock::new(),
            }),
        }
    }
}

/// Dials the engine through SSH: the socket by a forwarded channel, or by `docker system dial-stdio` where the server
/// does not forward, or where only root may use the socket and `sudo` asks for no password.
struct SshDial {
    session: Session,
    socket: String,
    /// The command to use in place of forwarding, once that is known not to work.
    command: OnceLock<Vec<String>>,
}

/// How long `sudo` may take to say whether it does as asked.
const SUDO_DEADLINE: Duration = Duration::from_secs(20);

impl SshDial {
    /// Finds the command that reaches a socket which the person may not use.
    async fn as_root(&self) -> Option<Vec<String>> {
        let docker = ["sudo", "-n", "docker", "-H"].map(str::to_owned).into_iter();
        let docker: Vec<String> = docker.chain([format!("unix://{}", self.socket)]).collect();
        let ask = docker.iter().cloned().chain(["version".to_owned()]);
        let asked = self.session.run(&RemoteCommand::arguments(ask), b"", SUDO_DEADLINE, 0).await.ok()?;
        let dial = ["system", "dial-stdio"].map(str::to_owned);
        asked.status.success().then(|| docker.into_iter().chain(dial).collect())
    }
}

#[async_trait]
impl Dial for SshDial {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        let words = match self.command.get() {
            Some(words) => words,
            None => match self.session.open_unix_socket(&self.socket).await {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(OpenError::UnixSocket { problem, docker_command: true, .. })
                    if problem.may_work_by_command() =>
                {
                    let words = ["docker", "system", "dial-stdio"].map(str::to_owned);
                    self.command.get_or_init(|| words.to_vec())
                }
                Err(error @ OpenError::UnixSocket { problem: SocketProblem::NoPermission, .. }) => {
                    match self.as_root().await {
                        Some(words) => self.command.get_or_init(|| words),
                        None => return Err(io::Error::other(error)),
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            },
        };
        let process =
            self.session.exec(&RemoteCommand::arguments(words), None).await.map_err(io::Error::other)?;
        let RemoteProcess { stdin, stdout, stderr, control } = process;
        Ok(Box::new(CommandStream {
            io: tokio::io::join(stdout, stdin),
            _stderr: Box::new(stderr),
            _control: Box::new(control),
        }))
    }
}

/// A command's standard output and input as one stream.
struct CommandStream<R, W> {
    io: tokio::io::Join<R, W>,
    _stderr: Box<dyn std::any::Any + Send>,
    _control: Box<dyn std::any::Any + Send>,
}

impl<R, W> tokio::io::AsyncRead for CommandStream<R, W>
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<R, W> tokio::io::AsyncWrite for CommandStream<R, W>
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_shutdown(context)
    }
}
