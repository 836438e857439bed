use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use freehold_model::{Diagnose, EnvName, ErrorKind};
use http::StatusCode;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};

use crate::engine::{HijackedConnection, within};
use crate::frame::{Frames, OutputStream};
use crate::request::{EngineRequest, escape};
use crate::{Engine, EngineError, EnvValue};

/// How much of standard error [`ExecIo`] keeps.
const STDERR_TAIL: usize = 16 * 1024;

/// How often the engine is asked whether a command whose output has ended has ended itself.
const EXIT_POLL: Duration = Duration::from_millis(20);

/// A command to run in a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecSpec {
    /// The command's words; no shell reads them.
    pub argv: Vec<String>,
    /// Variables beside those of the container.
    pub env: Vec<(EnvName, EnvValue)>,
    /// Give it a terminal: then both outputs are one.
    pub tty: bool,
    /// Give it standard input.
    pub stdin: bool,
    /// `user[:group]`, or none for the container's.
    pub user: Option<String>,
    /// The folder to start in, or none for the container's.
    pub working_directory: Option<String>,
}

/// A command that could not be run in a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is no such container.
    #[error("there is no container `{container}` to run a command in")]
    NoSuchContainer {
        /// The container.
        container: String,
        /// The engine's refusal.
        source: EngineError,
    },
    /// The container does not run.
    #[error("container `{container}` does not run, so no command can run in it")]
    NotRunning {
        /// The container.
        container: String,
        /// The engine's refusal.
        source: EngineError,
    },
    /// Anything else.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl ExecError {
    fn of(container: &str, source: EngineError) -> Self {
        let container = container.to_owned();
        match source.status() {
            Some(404) => Self::NoSuchContainer { container, source },
            Some(409) => Self::NotRunning { container, source },
            _ => Self::Engine(source),
        }
    }
}

impl Diagnose for ExecError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer { .. } | Self::NotRunning { .. } => ErrorKind::Failed,
            Self::Engine(error) => error.kind(),
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoSuchContainer { .. } => Vec::new(),
            Self::NotRunning { container, .. } => {
                vec![format!("see why it stopped: `docker logs {container}`")]
            }
            Self::Engine(error) => error.help(),
        }
    }
}

/// A finished command's output, for short ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutcome {
    /// The exit code.
    pub exit_code: i64,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

/// A command that runs in a container: its output, its input, and the way to ask for its end.
///
/// The connection is its own and closes when both the output and the input are dropped; the command itself may go on.
#[derive(Debug)]
pub struct ExecSession {
    /// What the command writes.
    pub output: SessionOutput,
    /// What it reads; shutting it down is end of file.
    pub input: SessionInput,
    /// Its exit code and terminal size.
    pub control: ExecControl,
}

impl ExecSession {
    /// Makes one byte stream of standard output and standard input.
    #[must_use]
    pub fn into_io(self) -> (ExecIo, ExecControl) {
        let io =
            ExecIo { output: self.output, input: self.input, pending: Bytes::new(), stderr: BytesMut::new() };
        (io, self.control)
    }
}

/// What a command or an attached container writes.
pub struct SessionOutput {
    half: ReadHalf<HijackedConnection>,
    frames: Frames,
    buffer: Box<[u8]>,
}

impl std::fmt::Debug for SessionOutput {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SessionOutput").finish_non_exhaustive()
    }
}

impl SessionOutput {
    /// Returns the next bytes, as soon as there are any, or nothing at the end.
    ///
    /// # Errors
    /// What broke the connection.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> std::io::Result<Option<(OutputStream, Bytes)>> {
        loop {
            if let Some(piece) = self.frames.next() {
                return Ok(Some(piece));
            }
            let count = self.half.read(&mut self.buffer).await?;
            if count == 0 {
                return Ok(None);
            }
            self.frames.push(self.buffer.get(..count).unwrap_or_default());
        }
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<Option<(OutputStream, Bytes)>>> {
        loop {
            if let Some(piece) = self.frames.next() {
                return Poll::Ready(Ok(Some(piece)));
            }
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut self.half).poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(())) => self.frames.push(buffer.filled()),
            }
        }
    }
}

/// What a command or an attached container reads. Shutting it down is end of file.
pub struct SessionInput {
    half: WriteHalf<HijackedConnection>,
}

impl std::fmt::Debug for SessionInput {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SessionInput").finish_non_exhaustive()
    }
}

impl AsyncWrite for SessionInput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.half).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.half).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.half).poll_shutdown(context)
    }
}

/// A command's standard output and input as one byte stream; the end of its standard error is kept aside.
#[derive(Debug)]
pub struct ExecIo {
    output: SessionOutput,
    input: SessionInput,
    pending: Bytes,
    stderr: BytesMut,
}

impl ExecIo {
    /// Returns the last 16 KiB that the command has written to standard error so far.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl AsyncRead for ExecIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        while this.pending.is_empty() {
            match this.output.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(Some((OutputStream::Stdout, piece)))) => this.pending = piece,
                Poll::Ready(Ok(Some((OutputStream::Stderr, piece)))) => {
                    this.stderr.extend_from_slice(&piece);
                    let surplus = this.stderr.len().saturating_sub(STDERR_TAIL);
                    this.stderr.advance(surplus);
                }
            }
        }
        let piece = this.pending.split_to(this.pending.len().min(buffer.remaining()));
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ExecIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(context)
    }
}

/// Asks after a command that runs in a container.
#[derive(Debug, Clone)]
pub struct ExecControl {
    engine: Engine,
    id: String,
    container: String,
}

impl ExecControl {
    /// Returns the exit code. Call it when the output has ended; it waits at most the deadline of a request for the
    /// command itself to end.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn exit_code(&self) -> Result<i64, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Inspected {
            running: bool,
            exit_code: Option<i64>,
        }
        let action = format!("tell how the command in container `{}` ended", self.container);
        within(self.engine.deadlines().request, &action, async {
            loop {
                let request = EngineRequest::get(&action, format!("/exec/{}/json", self.id));
                let seen: Inspected = self.engine.read(request).await?;
                match seen.exit_code {
                    Some(code) if !seen.running => return Ok(code),
                    // Output ends a moment before the engine has noted the exit.
                    _ => tokio::time::sleep(EXIT_POLL).await,
                }
            }
        })
        .await
    }

    /// Tells the command's terminal its size in characters.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// The size may have been set.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), EngineError> {
        let action = format!("resize the terminal in container `{}`", self.container);
        let request = EngineRequest::post(action, format!("/exec/{}/resize", self.id))
            .query("w", columns.to_string())
            .query("h", rows.to_string());
        self.engine.order(request, self.engine.deadlines().request).await.map(|_| ())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreateExec<'a> {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    tty: bool,
    env: Vec<String>,
    cmd: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreatedExec {
    id: String,
}

impl Engine {
    /// Runs a command in a running container, over a connection of its own.
    ///
    /// # Errors
    /// [`ExecError`].
    ///
    /// # Cancel safety
    /// The command may have been started and then goes on.
    pub async fn exec(&self, container: &str, spec: &ExecSpec) -> Result<ExecSession, ExecError> {
        let action = format!("run a command in container `{container}`");
        let create = CreateExec {
            attach_stdin: spec.stdin,
            attach_stdout: true,
            attach_stderr: true,
            tty: spec.tty,
            env: spec.env.iter().map(|(name, value)| format!("{name}={}", exposed(value))).collect(),
            cmd: &spec.argv,
            user: spec.user.as_deref(),
            working_dir: spec.working_directory.as_deref(),
        };
        let body = serde_json::to_vec(&create).map_err(|error| EngineError::answer(&action, error))?;
        let request =
            EngineRequest::post(&action, format!("/containers/{}/exec", escape(container))).json(body);
        let created: CreatedExec =
            self.read(request).await.map_err(|error| ExecError::of(container, error))?;
        let start = format!(r#"{{"Detach":false,"Tty":{}}}"#, spec.tty);
        let request =
            EngineRequest::post(&action, format!("/exec/{}/start", created.id)).json(start.into_bytes());
        let (output, input) =
            self.hijack(request, spec.tty).await.map_err(|error| ExecError::of(container, error))?;
        let control = ExecControl { engine: self.clone(), id: created.id, container: container.to_owned() };
        Ok(ExecSession { output, input, control })
    }

    /// Runs a short command without input and collects its output, at most 1 MiB of each stream.
    ///
    /// # Errors
    /// [`ExecError`]; [`EngineError::Timeout`] if it takes longer than `limit`.
    ///
    /// # Cancel safety
    /// The command may go on.
    pub async fn exec_collect(
        &self,
        container: &str,
        spec: &ExecSpec,
        limit: Duration,
    ) -> Result<ExecOutcome, ExecError> {
        const LARGEST_OUTPUT: usize = 1024 * 1024;
        let action = format!("run a command in container `{container}`");
        let run = async {
            let mut session = self.exec(container, spec).await?;
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some((stream, bytes)) =
                session.output.next().await.map_err(|error| EngineError::connection(&action, error))?
            {
                let kept = if stream == OutputStream::Stdout { &mut stdout } else { &mut stderr };
                let room = LARGEST_OUTPUT.saturating_sub(kept.len());
                kept.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
            }
            Ok(ExecOutcome { exit_code: session.control.exit_code().await?, stdout, stderr })
        };
        match tokio::time::timeout(limit, run).await {
            Ok(outcome) => outcome,
            Err(_) => Err(EngineError::Timeout { action, limit }.into()),
        }
    }

    /// Attaches to a container's standard streams, over a connection of its own. Attach before starting it and
    /// nothing is missed. `tty` must be what the container was made with.
    ///
    /// # Errors
    /// [`EngineError`]; status 404 if there is no such container.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn attach_container(
        &self,
        container: &str,
        tty: bool,
    ) -> Result<(SessionOutput, SessionInput), EngineError> {
        let action = format!("attach to container `{container}`");
        let request = EngineRequest::post(action, format!("/containers/{}/attach", escape(container)))
            .query("stream", "1")
            .query("stdin", "1")
            .query("stdout", "1")
            .query("stderr", "1");
        self.hijack(request, tty).await
    }

    /// Tells a container's terminal its size in characters.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// The size may have been set.
    pub async fn resize_container(
        &self,
        container: &str,
        columns: u16,
        rows: u16,
    ) -> Result<(), EngineError> {
        let action = format!("resize the terminal of container `{container}`");
        let request = EngineRequest::post(action, format!("/containers/{}/resize", escape(container)))
            .query("w", columns.to_string())
            .query("h", rows.to_string());
        self.order(request, self.deadlines().request).await.map(|_| ())
    }

    async fn hijack(
        &self,
        request: EngineRequest,
        tty: bool,
    ) -> Result<(SessionOutput, SessionInput), EngineError> {
        let action = request.action.clone();
        let limit = self.deadlines().request;
        let request = request.header("connection", "Upgrade").header("upgrade", "tcp");
        let (answer, connection) = self.send_apart(request, limit).await?;
        if answer.status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(EngineError::answer(
                action,
                format!("it has status {} instead of 101", answer.status),
            ));
        }
        let upgraded = within(limit, &action, async {
            connection.upgraded().await.map_err(|error| EngineError::connection(&action, error))
        })
        .await?;
        let (read, write) = tokio::io::split(upgraded);
        let buffer = vec![0; 16 * 1024].into_boxed_slice();
        Ok((SessionOutput { half: read, frames: Frames::new(tty), buffer }, SessionInput { half: write }))
    }
}

fn exposed(value: &EnvValue) -> &str {
    match value {
        EnvValue::Clear(value) => value,
        EnvValue::Secret(value) => value.expose_secret(),
    }
}
