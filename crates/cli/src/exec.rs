//! A command that is run in containers of hosts, whatever the containers belong to.

mod stream;

use std::sync::Arc;
use std::time::Duration;

use freehold_docker::{EnvValue, ExecSpec, StandardStreams};
use freehold_fleet::{EngineHost, OneOff};
use freehold_model::{ContainerName, Diagnose, EnvName, ErrorKind, HostName, SecretValues};
use freehold_plan::Subject;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::error::{CommandError, UsageError};
use crate::ui::{Line, Tone};

use stream::Output;

/// How long a container may take to end after its output has ended.
const END: Duration = Duration::from_secs(30);

/// How a command is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In the first place, with the person's own input and output.
    Interactive,
    /// It is started and left alone.
    Detached,
    /// In all places at once; what it writes is shown in the order of the places.
    Collected,
    /// The same, but what it writes to standard output is passed on as it is, and nothing else is shown.
    Raw,
}

impl Mode {
    /// Reads the options of a command line, of which clap has refused the combinations that make no sense.
    ///
    /// # Errors
    /// [`UsageError`] where a terminal is asked for and JSON, too.
    pub(crate) fn of(
        context: &Context,
        is_interactive: bool,
        is_detached: bool,
        is_raw: bool,
    ) -> Result<Self, UsageError> {
        match (is_interactive, is_detached, is_raw) {
            (true, ..) if context.ui.is_json() => {
                Err(UsageError::new("`--json` and `--interactive` cannot be used together"))
            }
            (true, ..) => Ok(Self::Interactive),
            (_, true, _) => Ok(Self::Detached),
            (_, _, true) => Ok(Self::Raw),
            (false, false, false) => Ok(Self::Collected),
        }
    }

    /// Returns what becomes of the input and output of a new container.
    pub(crate) fn streams(self, context: &Context) -> StandardStreams {
        let terminal = &context.process.terminal;
        match self {
            Self::Interactive if terminal.is_stdin && terminal.is_stdout => StandardStreams::Terminal,
            Self::Interactive => StandardStreams::Interactive,
            Self::Detached => StandardStreams::Detached,
            Self::Collected | Self::Raw => StandardStreams::Output,
        }
    }
}

/// One place where the command runs.
pub(crate) struct Place {
    pub(crate) engine: Arc<EngineHost>,
    pub(crate) host: HostName,
    pub(crate) subject: Subject,
    pub(crate) container: Container,
}

/// The container that it runs in.
pub(crate) enum Container {
    /// One that runs.
    Running(ContainerName),
    /// One of its own.
    New(Box<OneOff>),
}

/// How the command ended, if not well.
#[derive(Debug, thiserror::Error)]
enum ExecError {
    /// It ended with another code than 0.
    #[error("the command ended with code {}", list(.0))]
    Failed(Vec<(HostName, i64)>),
    /// What it writes could not be read.
    #[error("lost the connection to the command on host `{host}`")]
    Lost {
        host: HostName,
        #[source]
        source: std::io::Error,
    },
}

fn list(codes: &[(HostName, i64)]) -> String {
    codes.iter().map(|(host, code)| format!("{code} on host `{host}`")).collect::<Vec<_>>().join(", ")
}

impl Diagnose for ExecError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Lost { .. } => ErrorKind::Unreachable,
            Self::Failed(_) => ErrorKind::Failed,
        }
    }
}

#[derive(Debug, Serialize)]
struct Ran {
    host: String,
    #[serde(flatten)]
    subject: Subject,
    exit_code: Option<i64>,
    stdout: String,
    stderr: String,
}

/// Returns the words of the command: a single one with blanks in it is split as a shell does.
///
/// # Errors
/// [`UsageError`] with what is wrong with its quotes.
pub(crate) fn words(command: &[String]) -> Result<Vec<String>, UsageError> {
    match command {
        [only] if only.contains(char::is_whitespace) => freehold_config::split_words(only)
            .map_err(|error| UsageError::new(format!("cannot split the command into words: {error}"))),
        words => Ok(words.to_vec()),
    }
}

/// A command, ready to be run.
pub(crate) struct Execution<'a> {
    pub(crate) context: &'a Context,
    /// Values of the secrets that new containers get.
    pub(crate) secrets: &'a SecretValues,
    pub(crate) words: Vec<String>,
    /// Variables for a container that runs; a new one has its own.
    pub(crate) variables: Vec<(EnvName, String)>,
    pub(crate) mode: Mode,
}

impl Execution<'_> {
    /// Runs it and shows what it wrote.
    ///
    /// # Errors
    /// A place where it could not be run, or where it ended with another code than 0.
    pub(crate) async fn run(&self, places: Vec<Place>) -> Result<(), CommandError> {
        self.context.ui.close();
        if self.mode == Mode::Interactive {
            let Some(place) = places.into_iter().next() else { return Ok(()) };
            return stream::interactive(self, place).await;
        }
        let mut tasks = JoinSet::new();
        for (index, place) in places.into_iter().enumerate() {
            let (spec, secrets, mode) = (self.spec(false, false), self.secrets.clone(), self.mode);
            tasks.spawn(async move {
                let output = match &place.container {
                    Container::New(command) if mode == Mode::Detached => {
                        let started = place.engine.run_detached(command, &secrets).await;
                        started.map(|()| Output::default()).map_err(CommandError::from)
                    }
                    _ => stream::collect(&place, spec, &secrets).await,
                };
                (index, place, output)
            });
        }
        let mut ended = tasks.join_all().await;
        ended.sort_by_key(|(index, ..)| *index);
        let (mut ran, mut failed) = (Vec::new(), Vec::new());
        for (_, place, output) in ended {
            let output = output?;
            if let Some(code) = output.exit_code.filter(|code| *code != 0) {
                failed.push((place.host.clone(), code));
            }
            self.show(&place, &output);
            ran.push(Ran {
                host: place.host.to_string(),
                subject: place.subject,
                exit_code: output.exit_code,
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        if !failed.is_empty() {
            return Err(ExecError::Failed(failed).into());
        }
        self.context.ui.result_json(self.context.command, &ran);
        Ok(())
    }

    /// Describes the command for a container that runs.
    fn spec(&self, tty: bool, stdin: bool) -> ExecSpec {
        let env = self.variables.iter().map(|(name, value)| (name.clone(), EnvValue::Clear(value.clone())));
        ExecSpec {
            argv: self.words.clone(),
            env: env.collect(),
            tty,
            stdin,
            user: None,
            working_directory: None,
        }
    }

    fn show(&self, place: &Place, output: &Output) {
        let ui = &self.context.ui;
        if ui.is_json() {
            return;
        }
        if self.mode == Mode::Raw {
            ui.write_result(&output.stdout);
            return;
        }
        let subject = format!("  {}", place.subject);
        ui.note(Line::new().add(Tone::Strong, place.host.as_str()).add(Tone::Faint, subject));
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            ui.note(Line::new().plain(line));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        ui.result(&text.lines().map(|line| Line::new().plain(line)).collect::<Vec<_>>());
    }
}
