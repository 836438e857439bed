use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use freehold_model::{HostName, SshSettings};
use russh::keys::PublicKey;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::authenticate::Authentication;
use crate::channel::{ByteStream, ChannelFailure, ChannelGuard, ChannelReader};
use crate::client::CLOSED;
use crate::command::{RemoteCommand, quote};
use crate::connect_error::ConnectError;
use crate::connection::{Connection, OpenFailure, Target};
use crate::connector::{Connector, Plan};
use crate::environment::{ClientEnvironment, FirstUse, Prompt};
use crate::forward::{ForwardError, RemoteForward};
use crate::open::{OpenError, SocketProblem};
use crate::process::{ExecError, Output, Pty, RemoteProcess};
use crate::route::Route;

/// A connection to a host, over which commands run and streams open side by side. A clone is the same connection; it
/// ends when the last clone and the last stream are gone.
///
/// No stream can hold up the others: one that is not read fails when 16 MiB wait for its reader. Streams without a
/// bound, or at a person's pace, belong on a connection of their own: [`Session::reconnect`].
#[derive(Clone)]
pub struct Session {
    connection: Arc<Connection>,
    plan: Arc<Plan>,
}

impl Session {
    pub(crate) fn new(connection: Arc<Connection>, plan: Arc<Plan>) -> Self {
        Self { connection, plan }
    }

    /// Opens a session to one host; [`Connector`] opens sessions to several and asks a person only once.
    ///
    /// # Errors
    /// [`ConnectError`] names the hop and the stage that failed.
    ///
    /// # Cancel safety
    /// Dropping the future ends all connections that it has made.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts come from different owners; `Connector` groups them"
    )]
    pub async fn connect(
        host: &HostName,
        settings: &SshSettings,
        key_data: &[SecretString],
        environment: &ClientEnvironment,
        first_use: FirstUse,
        prompt: Arc<dyn Prompt>,
    ) -> Result<Self, ConnectError> {
        Connector::new(environment.clone(), first_use, prompt).connect(host, settings, key_data).await
    }

    /// Opens another connection, the same way and with the same answers; nobody is asked.
    ///
    /// On it a stream that is read slowly makes the host wait instead of failing, and with it every other stream of
    /// that connection. It is meant for one followed log, one terminal, one download.
    ///
    /// # Errors
    /// [`ConnectError`] names the hop and the stage that failed.
    ///
    /// # Cancel safety
    /// Dropping the future ends all connections that it has made.
    pub async fn reconnect(&self) -> Result<Self, ConnectError> {
        let connection = self.plan.reconnect().await?;
        Ok(Self { connection, plan: Arc::clone(&self.plan) })
    }

    /// Starts a command, with a terminal or without. At most 8 run at once; others wait for one to end.
    ///
    /// For output without a bound use a session from [`Session::reconnect`].
    ///
    /// # Errors
    /// [`ExecError`] if the host does not start it.
    ///
    /// # Cancel safety
    /// The command may have been started when the future is dropped.
    pub async fn exec(&self, command: &RemoteCommand, pty: Option<Pty>) -> Result<RemoteProcess, ExecError> {
        let line = command.line()?;
        let limit = self.connection.hop().connect_timeout;
        let host = self.host();
        let guard = self.open(Target::Session).await.map_err(|failure| ExecError::of(failure, host))?;
        let start = self.start(&guard, line, pty.as_ref());
        match tokio::time::timeout(limit, start).await {
            Ok(Ok(())) => Ok(RemoteProcess::new(guard, host.clone())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ExecError::StartTimedOut { host: host.clone(), after: limit }),
        }
    }

    /// Sends all requests at once and then waits for the answers, so that starting takes one round trip.
    async fn start(
        &self,
        guard: &Arc<ChannelGuard>,
        line: String,
        pty: Option<&Pty>,
    ) -> Result<(), ExecError> {
        let host = self.host();
        let half = guard.half();
        let gone = |error: russh::Error| self.exec_gone(&error);
        let forward_agent = pty.is_some() && self.connection.forwards_agent();
        if let Some(Pty { term, columns, rows }) = pty {
            half.request_pty(true, term, *columns, *rows, 0, 0, &[]).await.map_err(gone)?;
        }
        if forward_agent {
            self.connection.serve_agent();
            half.agent_forward(true).await.map_err(gone)?;
        }
        half.exec(true, line).await.map_err(gone)?;
        let failed = |failure: Option<ChannelFailure>| ExecError::of_channel(failure, host);
        if pty.is_some() && !guard.state.reply().await.map_err(failed)? {
            return Err(ExecError::NoTerminal { host: host.clone() });
        }
        if forward_agent && !guard.state.reply().await.map_err(failed)? {
            tracing::debug!(%host, "agent not forwarded");
        }
        if guard.state.reply().await.map_err(failed)? {
            Ok(())
        } else {
            Err(ExecError::Refused { host: host.clone(), prohibited: true })
        }
    }

    fn exec_gone(&self, error: &russh::Error) -> ExecError {
        let reason = self.connection.ended().unwrap_or_else(|| error.to_string());
        ExecError::Disconnected { host: self.host().clone(), reason }
    }

    /// Runs a command to its end and returns what it wrote, each stream up to the limit.
    ///
    /// A command that outlasts the deadline goes on: only one that has a terminal could be stopped.
    ///
    /// # Errors
    /// [`ExecError`] if the host does not start it, or it does not end in time. Any exit code is no error.
    ///
    /// # Cancel safety
    /// The command may have been started when the future is dropped, and goes on.
    pub async fn run(
        &self,
        command: &RemoteCommand,
        stdin: &[u8],
        deadline: Duration,
        output_limit_bytes: usize,
    ) -> Result<Output, ExecError> {
        let work = self.run_to_the_end(command, stdin, output_limit_bytes);
        match tokio::time::timeout(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(ExecError::TimedOut { host: self.host().clone(), after: deadline }),
        }
    }

    async fn run_to_the_end(
        &self,
        command: &RemoteCommand,
        input: &[u8],
        limit_bytes: usize,
    ) -> Result<Output, ExecError> {
        let process = self.exec(command, None).await?;
        let RemoteProcess { mut stdin, stdout, stderr, control } = process;
        let write = async {
            let sent = stdin.write_all(input).await;
            let ended = stdin.shutdown().await;
            sent.and(ended)
        };
        let (sent, stdout, stderr) =
            tokio::join!(write, read_up_to(stdout, limit_bytes), read_up_to(stderr, limit_bytes));
        let status = control.wait().await?;
        match sent {
            // A command need not read its input.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(ExecError::Input { host: self.host().clone(), source: error });
            }
            _ => {}
        }
        let ((stdout, more_output), (stderr, more_error)) = (stdout, stderr);
        Ok(Output { status, stdout, stderr, truncated: more_output || more_error })
    }

    /// Opens a stream to a Unix socket of the host, such as a container engine's.
    ///
    /// # Errors
    /// [`OpenError::UnixSocket`] says what a look at the host found; its `problem` tells whether a command there, such
    /// as `docker system dial-stdio`, may succeed instead.
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream.
    pub async fn open_unix_socket(&self, path: &str) -> Result<ByteStream, OpenError> {
        match self.open(Target::UnixSocket(path.to_owned())).await {
            Ok(guard) => Ok(ByteStream::new(&guard)),
            Err(OpenFailure::Refused(_)) => Err(self.explain(path).await),
            Err(failure) => Err(OpenError::of(failure, self.host(), path)),
        }
    }

    /// Opens a stream to a port that the host reaches.
    ///
    /// # Errors
    /// [`OpenError`] if the host does not allow it or cannot connect.
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream.
    pub async fn open_tcp(&self, host: &str, port: u16) -> Result<ByteStream, OpenError> {
        let guard = self.open(Target::Tcp(host.to_owned(), port)).await;
        let guard =
            guard.map_err(|failure| OpenError::of(failure, self.host(), &format!("{host}:{port}")))?;
        Ok(ByteStream::new(&guard))
    }

    /// Makes a free port on the host's loopback address whose connections come to us.
    ///
    /// # Errors
    /// [`ForwardError`] if the host does not allow it.
    ///
    /// # Cancel safety
    /// The host may keep the port until the connection ends.
    pub async fn forward_remote_port(&self) -> Result<RemoteForward, ForwardError> {
        RemoteForward::open(&self.connection, 0).await
    }

    /// Makes a port of the host's loopback address ours: its connections come to us.
    ///
    /// # Errors
    /// [`ForwardError`] if the host does not allow it, or somebody else has the port.
    ///
    /// # Cancel safety
    /// The host may keep the port until the connection ends.
    pub async fn forward_remote_port_of(&self, port: u16) -> Result<RemoteForward, ForwardError> {
        RemoteForward::open(&self.connection, port).await
    }

    /// Waits until the connection has ended, and says why. It does not keep the connection open.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub fn closed(&self) -> impl Future<Output = String> + Send + 'static {
        let mut ended = self.connection.shared().ended();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => CLOSED.to_owned(),
            }
        }
    }

    /// Says whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.connection.ended().is_some()
    }

    /// Returns how we got in.
    #[must_use]
    pub fn authentication(&self) -> &Authentication {
        self.connection.authentication()
    }

    /// Returns the identification of the host's SSH server, such as `SSH-2.0-OpenSSH_9.2p1`.
    #[must_use]
    pub fn server_version(&self) -> String {
        self.connection.shared().seen().server_version
    }

    /// Returns the SHA-256 fingerprint of the host's key.
    #[must_use]
    pub fn host_key_fingerprint(&self) -> Option<String> {
        let key = self.connection.shared().seen().host_key?;
        Some(key.fingerprint(russh::keys::HashAlg::Sha256).to_string())
    }

    /// Returns the host's key, which was checked, as `known_hosts` has it behind a name: `ssh-ed25519 AAAA…`.
    #[must_use]
    pub fn host_key(&self) -> Option<String> {
        let key = self.connection.shared().seen().host_key?;
        let line = PublicKey::new(key.key_data().clone(), "").to_openssh().ok()?;
        Some(line.trim().to_owned())
    }

    /// Returns the host's name.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.connection.hop().name
    }

    /// Returns the user on the host.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.connection.hop().user
    }

    /// Returns the way to the host.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.plan.route
    }

    /// Ends the connection for all its users and waits until that is done.
    pub async fn close(self) {
        self.connection.close().await;
    }

    async fn open(&self, target: Target) -> Result<Arc<ChannelGuard>, OpenFailure> {
        self.connection.open(target).await
    }

    /// Looks on the host why a socket did not open: SSH itself does not tell.
    async fn explain(&self, path: &str) -> OpenError {
        let limit = self.connection.hop().connect_timeout;
        let script = format!("p={}\n{EXPLAIN}", quote(path));
        let look = self.run(&RemoteCommand::Script(script), b"", limit, 0).await;
        let code = match look.map(|output| output.status) {
            Ok(crate::ExitStatus::Code(code)) => code,
            Ok(crate::ExitStatus::Signal(_)) | Err(_) => 0,
        };
        let problem = match code % 10 {
            1 => SocketProblem::Missing,
            2 => SocketProblem::NotASocket,
            3 => SocketProblem::NoPermission,
            4 => SocketProblem::NobodyListens,
            5 => SocketProblem::ForwardingOff,
            _ => SocketProblem::Unexplained,
        };
        let docker_command = (20..30).contains(&code);
        OpenError::UnixSocket { host: self.host().clone(), path: path.to_owned(), problem, docker_command }
    }
}

/// Ends with 10 and a digit for what is wrong with the socket `$p`, plus 10 if there is a `docker` command.
///
/// A socket on which somebody listens has the flag `__SO_ACCEPTCON` (00010000) in `/proc/net/unix`. Where that file is
/// missing, or shows another network namespace, nobody seems to listen.
const EXPLAIN: &str = r#"
found=10
command -v docker >/dev/null 2>&1 && found=20
real=$(readlink -f "$p" 2>/dev/null) || real=$p
if [ ! -e "$p" ]; then exit $((found + 1)); fi
if [ ! -S "$p" ]; then exit $((found + 2)); fi
if [ ! -w "$p" ]; then exit $((found + 3)); fi
while read -r _ _ _ flags _ _ _ name; do
    if [ "$flags" = 00010000 ] && { [ "$name" = "$p" ] || [ "$name" = "$real" ]; }; then exit $((found + 5)); fi
done </proc/net/unix 2>/dev/null
exit $((found + 4))
"#;

/// Reads a stream to its end and keeps its beginning; says whether there was more. A stream that breaks ends there:
/// the process's status tells why.
async fn read_up_to(mut from: ChannelReader, limit_bytes: usize) -> (Vec<u8>, bool) {
    let mut kept = Vec::new();
    drop((&mut from).take(limit_bytes as u64).read_to_end(&mut kept).await);
    let more = skip(&mut from).await;
    (kept, more)
}

async fn skip(from: &mut (impl AsyncRead + Unpin)) -> bool {
    let copied = tokio::io::copy(from, &mut tokio::io::sink()).await;
    copied.is_ok_and(|count| count > 0)
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("host", self.host()).finish_non_exhaustive()
    }
}
