//! The command line: `freehold agent serve`, and the way to its socket.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use freehold_docker::{Deadlines, Engine, UnixSocket};
use freehold_model::{Diagnose, ErrorKind};
use freehold_wire::bridge;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::clock::SystemClock;
use crate::control;
use crate::store::Store;

/// How long what is being written down may take when the agent stops.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The pause before the engine is asked again at the start.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the engine may take to answer at the start: it may be starting itself.
const ENGINE_LIMIT: Duration = Duration::from_secs(60);

/// Runs the scheduled jobs of a host.
#[derive(Debug, Parser)]
#[command(name = "freehold agent", disable_version_flag = true)]
enum Verb {
    /// Runs jobs when they are due, in the foreground.
    Serve(ServeArguments),
    /// Connects standard input and output to the control socket of the agent that runs.
    Api(SocketArgument),
}

#[derive(Debug, clap::Args)]
struct ServeArguments {
    #[command(flatten)]
    socket: SocketArgument,

    /// The folder with the jobs and their history.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/freehold-agent")]
    state_dir: PathBuf,

    /// The socket of the engine.
    #[arg(long, value_name = "PATH", default_value = "/run/docker.sock")]
    engine: PathBuf,
}

#[derive(Debug, clap::Args)]
struct SocketArgument {
    /// The control socket.
    #[arg(long, value_name = "PATH", default_value = "/var/lib/freehold-agent/agent.sock")]
    socket: PathBuf,
}

/// Where a command reads from and writes to.
pub struct Console {
    /// Standard input.
    pub input: Box<dyn Read + Send>,
    /// Standard output.
    pub output: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Console").finish_non_exhaustive()
    }
}

/// A command of the agent did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line is wrong.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
    },
    /// The system gives no thread, event loop or signal.
    #[error("cannot start the agent")]
    Threads {
        /// Why not.
        source: io::Error,
    },
    /// The control socket cannot be made.
    #[error("cannot make the control socket `{path}`", path = path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder of the state cannot be used.
    #[error("cannot use the folder `{folder}` for the state", folder = folder.display())]
    State {
        /// Which folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The engine does not answer.
    #[error("the engine at `{path}` does not answer: {message}", path = path.display())]
    Engine {
        /// Its socket.
        path: PathBuf,
        /// What was tried last, and why it failed.
        message: String,
    },
    /// The control socket cannot be connected to standard input and output.
    #[error("cannot connect standard input and output to the control socket `{path}`", path = path.display())]
    Bridge {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Diagnose for CommandError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage { .. } => ErrorKind::Usage,
            Self::Socket { .. } | Self::State { .. } => ErrorKind::Configuration,
            Self::Threads { .. } | Self::Engine { .. } | Self::Bridge { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        let line = match self {
            Self::Usage { .. } => "see `freehold agent serve --help`",
            Self::Socket { .. } => "choose another path with `--socket`",
            Self::State { .. } => "choose another folder with `--state-dir`",
            Self::Engine { .. } => "name the engine's socket with `--engine`",
            Self::Bridge { .. } => "see whether the agent runs in this container",
            Self::Threads { .. } => return Vec::new(),
        };
        vec![line.to_owned()]
    }
}

/// Says whether a word behind `freehold agent` is one of the agent's own.
#[must_use]
pub fn is_command(word: &str) -> bool {
    matches!(word, "serve" | "api")
}

/// Runs a command: the arguments are those behind `agent`.
///
/// # Errors
/// [`CommandError`].
pub fn run(arguments: Vec<OsString>, mut console: Console) -> Result<(), CommandError> {
    let words = std::iter::once(OsString::from("freehold agent")).chain(arguments);
    let verb = match Verb::try_parse_from(words) {
        Ok(verb) => verb,
        Err(error) if error.use_stderr() => {
            let message = error.to_string();
            let message = message.trim().trim_start_matches("error: ").to_owned();
            return Err(CommandError::Usage { message });
        }
        Err(help) => {
            // Without a reader there is nobody to tell.
            write!(console.output, "{help}").ok();
            return Ok(());
        }
    };
    match verb {
        Verb::Serve(arguments) => serve(&arguments),
        Verb::Api(arguments) => {
            let Console { input, mut output } = console;
            let path = arguments.socket;
            bridge(&path, input, &mut output).map_err(|source| CommandError::Bridge { path, source })
        }
    }
}

fn serve(arguments: &ServeArguments) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CommandError::Threads { source })?;
    runtime.block_on(serve_until_stopped(arguments))
}

async fn serve_until_stopped(arguments: &ServeArguments) -> Result<(), CommandError> {
    let threads = |source| CommandError::Threads { source };
    let mut terminate = signal(SignalKind::terminate()).map_err(threads)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(threads)?;
    let state = |source| CommandError::State { folder: arguments.state_dir.clone(), source };
    let store = Store::in_folder(&arguments.state_dir).map_err(state)?;
    let engine = Engine::over(Arc::new(UnixSocket::new(&arguments.engine)), Deadlines::default());
    let stopping = CancellationToken::new();
    let agent =
        Agent::new(Arc::new(engine), Arc::new(SystemClock), store, stopping.clone()).map_err(state)?;
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "agent started");
    let outcome = tokio::select! {
        outcome = work(&agent, arguments) => outcome,
        () = stopped => Ok(()),
    };
    stopping.cancel();
    agent.tasks.close();
    if tokio::time::timeout(STOP_LIMIT, agent.tasks.wait()).await.is_err() {
        tracing::warn!("runs were left in the middle of a step");
    }
    tracing::info!("agent stopped");
    outcome
}

async fn work(agent: &Arc<Agent>, arguments: &ServeArguments) -> Result<(), CommandError> {
    await_engine(agent, &arguments.engine).await?;
    let listener = listen(&arguments.socket.socket)
        .map_err(|source| CommandError::Socket { path: arguments.socket.socket.clone(), source })?;
    let own_uid = fs_err::metadata(&arguments.state_dir)
        .map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata))
        .map_err(|source| CommandError::State { folder: arguments.state_dir.clone(), source })?;
    tokio::select! {
        () = control::serve(Arc::clone(agent), listener, own_uid) => Ok(()),
        () = agent.keep_time() => Ok(()),
        () = agent.miss_engine() => {
            let message = "it was away for too long".to_owned();
            Err(CommandError::Engine { path: arguments.engine.clone(), message })
        }
    }
}

/// Waits for the engine and goes on with what an earlier agent began.
async fn await_engine(agent: &Arc<Agent>, path: &Path) -> Result<(), CommandError> {
    let deadline = tokio::time::Instant::now() + ENGINE_LIMIT;
    while let Err(error) = agent.containers.answers().await {
        if tokio::time::Instant::now() >= deadline {
            return Err(CommandError::Engine { path: path.to_owned(), message: error.to_string() });
        }
        tokio::time::sleep(PAUSE).await;
    }
    agent
        .recover()
        .await
        .map_err(|error| CommandError::Engine { path: path.to_owned(), message: error.to_string() })
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs_err::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}
