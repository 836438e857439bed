mod stream;

use std::sync::Arc;
use std::time::Duration;

use freehold_docker::{EnvValue, ExecSpec, StandardStreams};
use freehold_fleet::{EngineHost, OneOff};
use freehold_model::{ContainerName, Diagnose, EnvName, ErrorKind, HostName, ImageReference, Role, Tag};
use freehold_plan::Observed;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::{CommandError, UsageError};
use crate::ui::{Line, Tone};

use stream::Output;

/// Run a command with the application's image.
///
/// By default in a new container on every host and for every role, with the role's environment, volumes and options.
/// The words are passed on as they are; one word with blanks in it is split as a shell does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold app exec -p bin/rails db:migrate   # on the primary host only\n  \
    freehold app exec -i --reuse sh             # a shell in the running container\n  \
    freehold app exec -r jobs 'bin/check --all'")]
pub(crate) struct Args {
    /// On the primary host, with your terminal.
    #[arg(short, long)]
    interactive: bool,

    /// In the container that serves instead of a new one.
    #[arg(long)]
    reuse: bool,

    /// More environment variables.
    #[arg(short, long, value_name = "NAME:VALUE", value_parser = variable)]
    env: Vec<(EnvName, String)>,

    /// Start it and leave it alone; its container stays.
    #[arg(long, conflicts_with_all = ["interactive", "reuse"])]
    detach: bool,

    /// Print what it writes to standard output as it is, and nothing else.
    #[arg(long, conflicts_with_all = ["interactive", "detach"])]
    raw: bool,

    /// The command.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn variable(text: &str) -> Result<(EnvName, String), String> {
    let split = text.split_once([':', '=']);
    let (name, value) = split.ok_or_else(|| "write it as NAME:VALUE".to_owned())?;
    Ok((EnvName::parse(name).map_err(|error| error.to_string())?, value.to_owned()))
}

/// How long a container may take to end after its output has ended.
const END: Duration = Duration::from_secs(30);

/// Why a command could not be run, or how it ended.
#[derive(Debug, thiserror::Error)]
enum ExecError {
    /// Nothing runs there.
    #[error("no container of role `{role}` runs on host `{host}`")]
    NothingRuns { host: HostName, role: String },
    /// No version is known.
    #[error("no version of the application is known on host `{host}`")]
    NoVersion { host: HostName },
    /// Its name would be too long.
    #[error(transparent)]
    Name(#[from] freehold_model::InvalidName),
    /// The command ended with another code than 0.
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
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NothingRuns { .. } => vec!["run it in a new container: leave out `--reuse`".to_owned()],
            Self::NoVersion { .. } => {
                vec!["deploy first, or name a version that the host has: `--version`".to_owned()]
            }
            Self::Name(_) | Self::Failed(_) | Self::Lost { .. } => Vec::new(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Ran {
    host: String,
    role: String,
    exit_code: Option<i64>,
    stdout: String,
    stderr: String,
}

/// One place where the command runs.
struct Place {
    host: HostName,
    engine: Arc<EngineHost>,
    role: Role,
    kind: Kind,
}

enum Kind {
    Reuse(ContainerName),
    New(Box<OneOff>),
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    if arguments.interactive && context.ui.is_json() {
        return Err(UsageError::new("`--json` and `--interactive` cannot be used together").into());
    }
    let words = words(&arguments.command)?;
    let change = Change::prepare_without_record(context, Build::No).await?;
    let observed = change.observe().await?;
    let mut places = places(&change, &observed, &arguments, &words)?;
    context.ui.close();
    if arguments.interactive {
        places.truncate(1);
        let Some(place) = places.pop() else { return Ok(()) };
        return stream::interactive(context, &change, place, &arguments, words).await;
    }
    let mut tasks = JoinSet::new();
    for (index, place) in places.into_iter().enumerate() {
        let (words, env) = (words.clone(), arguments.env.clone());
        let (secrets, is_detached) = (change.secrets.clone(), arguments.detach);
        tasks.spawn(async move {
            let (host, role) = (place.host.clone(), place.role.name.to_string());
            let output = if is_detached {
                match &place.kind {
                    Kind::New(command) => place
                        .engine
                        .run_detached(command, &secrets)
                        .await
                        .map(|()| Output::default())
                        .map_err(CommandError::from),
                    Kind::Reuse(_) => Ok(Output::default()),
                }
            } else {
                stream::collect(&place, words, env, &secrets).await
            };
            (index, host, role, output)
        });
    }
    let mut ended = tasks.join_all().await;
    ended.sort_by_key(|(index, ..)| *index);
    let mut ran = Vec::new();
    let mut failed = Vec::new();
    for (_, host, role, output) in ended {
        let output = output?;
        if let Some(code) = output.exit_code.filter(|code| *code != 0) {
            failed.push((host.clone(), code));
        }
        show(context, &arguments, &host, &role, &output);
        ran.push(Ran {
            host: host.to_string(),
            role,
            exit_code: output.exit_code,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    if !failed.is_empty() {
        return Err(ExecError::Failed(failed).into());
    }
    context.ui.result_json(context.command, &ran);
    Ok(())
}

/// Returns the words of the command: a single one with blanks in it is split.
fn words(command: &[String]) -> Result<Vec<String>, UsageError> {
    match command {
        [only] if only.contains(char::is_whitespace) => freehold_config::split_words(only)
            .map_err(|error| UsageError::new(format!("cannot split the command into words: {error}"))),
        words => Ok(words.to_vec()),
    }
}

fn places(
    change: &Change<'_>,
    observed: &Observed,
    arguments: &Args,
    words: &[String],
) -> Result<Vec<Place>, CommandError> {
    let project = change.project();
    let mut places = Vec::new();
    for host in project.hosts() {
        let (Some(seen), Some(engine)) = (observed.hosts.get(&host), change.hosts.get(&host)) else {
            continue;
        };
        for role in project.roles.values() {
            let Some(entry) = role.hosts.iter().find(|entry| entry.name == host) else { continue };
            let current = seen.current(project, &role.name);
            let kind = if arguments.reuse {
                let nothing = || ExecError::NothingRuns { host: host.clone(), role: role.name.to_string() };
                Kind::Reuse(current.ok_or_else(nothing)?.name.clone())
            } else {
                let tag = match (&change.version, current) {
                    (Some(version), _) => Some(version.clone()),
                    (None, Some(container)) => {
                        Tag::parse(crate::command::status::version(project, container)).ok()
                    }
                    (None, None) => seen.releases.first().map(|release| release.version.clone()),
                };
                let tag = tag.ok_or_else(|| ExecError::NoVersion { host: host.clone() })?;
                let hex: String =
                    change.context.process.seed.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
                let name = format!("{}-exec-{tag}-{hex}", project.role_prefix(&role.name));
                Kind::New(Box::new(OneOff {
                    name: ContainerName::parse(name).map_err(ExecError::from)?,
                    image: ImageReference { repository: project.image.clone(), tag },
                    role: role.clone(),
                    environment: entry.environment.clone(),
                    variables: arguments.env.clone(),
                    command: words.to_vec(),
                    streams: streams(change.context, arguments),
                }))
            };
            places.push(Place { host: host.clone(), engine: Arc::clone(engine), role: role.clone(), kind });
        }
    }
    Ok(places)
}

fn streams(context: &Context, arguments: &Args) -> StandardStreams {
    match (arguments.interactive, context.process.terminal.is_stdin && context.process.terminal.is_stdout) {
        (true, true) => StandardStreams::Terminal,
        (true, false) => StandardStreams::Interactive,
        (false, _) if arguments.detach => StandardStreams::Detached,
        (false, _) => StandardStreams::Output,
    }
}

/// Describes a command for a container that runs.
fn spec(words: Vec<String>, env: Vec<(EnvName, String)>, tty: bool, stdin: bool) -> ExecSpec {
    let env = env.into_iter().map(|(name, value)| (name, EnvValue::Clear(value))).collect();
    ExecSpec { argv: words, env, tty, stdin, user: None, working_directory: None }
}

fn show(context: &Context, arguments: &Args, host: &HostName, role: &str, output: &Output) {
    if context.ui.is_json() {
        return;
    }
    if arguments.raw {
        context.ui.write_result(&output.stdout);
        return;
    }
    context.ui.note(Line::new().add(Tone::Strong, host.as_str()).add(Tone::Faint, format!("  {role}")));
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        context.ui.note(Line::new().plain(line));
    }
    let lines: Vec<Line> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| Line::new().plain(line)).collect();
    context.ui.result(&lines);
}
