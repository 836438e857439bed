//! Logging in and out on this machine and on the hosts.

use std::sync::Arc;

use freehold_fleet::{EngineHost, Host, HostError, ServerCommand};
use freehold_model::{Diagnose, ErrorKind, HostName, RegistryPlace};
use freehold_plan::{BuildPlaceName, registry_name};
use freehold_ssh::quote;
use futures_util::future::join_all;
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::change::Change;
use crate::error::CommandError;
use crate::ui::{Line, Tone};

/// Where a command about the registry acts.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct PlaceArgs {
    /// Not on this machine.
    #[arg(short = 'L', long, alias = "skip_local")]
    pub(super) skip_local: bool,

    /// Not on the hosts.
    #[arg(short = 'R', long, alias = "skip_remote")]
    pub(super) skip_remote: bool,
}

/// Where the registry is.
pub(super) enum Where {
    /// On this machine, at a port of the loopback address.
    Local(u16),
    /// Elsewhere; its name for people.
    Elsewhere(String),
}

/// Why a command about the registry cannot be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegistryCommandError {
    /// There is none.
    #[error("the deploy file has no `registry:`")]
    NoRegistry,
    /// The one of this machine asks for no password.
    #[error("the registry of this machine asks for no login")]
    LocalHasNoLogin,
    /// The same.
    #[error("the registry of this machine knows no login to forget")]
    LocalHasNoLogout,
    /// The password is not there.
    #[error("there is no user and password for registry `{registry}`")]
    NoCredentials { registry: String },
    /// `docker` did not store or forget it.
    #[error("`docker {verb}` {place} ended with code {code}: {said}")]
    Refused { verb: &'static str, place: String, code: i64, said: String },
    /// What it writes could not be read.
    #[error("lost the connection to `docker` on host `{host}`")]
    Lost {
        host: HostName,
        #[source]
        source: std::io::Error,
    },
}

impl Diagnose for RegistryCommandError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRegistry | Self::NoCredentials { .. } => ErrorKind::Configuration,
            Self::LocalHasNoLogin | Self::LocalHasNoLogout => ErrorKind::Usage,
            Self::Refused { .. } => ErrorKind::Failed,
            Self::Lost { .. } => ErrorKind::Unreachable,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoRegistry => vec!["none is needed: images go straight to the hosts".to_owned()],
            Self::LocalHasNoLogin => vec!["start it: `freehold registry setup`".to_owned()],
            Self::LocalHasNoLogout => vec!["remove it: `freehold registry remove`".to_owned()],
            Self::NoCredentials { .. } => vec!["set `registry: username:` and `password:`".to_owned()],
            Self::Refused { .. } | Self::Lost { .. } => Vec::new(),
        }
    }
}

/// Says where the project's registry is.
///
/// # Errors
/// There is none.
pub(super) fn wanted(change: &Change<'_>) -> Result<Where, RegistryCommandError> {
    let project = change.project();
    match project.registry.as_ref().map(|registry| &registry.place) {
        Some(RegistryPlace::Local { port }) => Ok(Where::Local(*port)),
        Some(_) => Ok(Where::Elsewhere(registry_name(project).unwrap_or_default())),
        None => Err(RegistryCommandError::NoRegistry),
    }
}

/// What became of it at one place.
#[derive(Debug, Serialize)]
struct PlaceOutcome {
    /// A host, or `this machine`.
    place: String,
    registry: String,
    /// Whether `docker` keeps the login, or kept one until now.
    is_stored: bool,
}

/// Exit code of our script where there is no `docker` to store a login.
const NO_DOCKER: i64 = 127;

/// Logs in, and has `docker` keep the login where there is one.
///
/// # Errors
/// The first place where it was refused.
pub(super) async fn log_in(
    change: &Change<'_>,
    places: PlaceArgs,
    registry: &str,
) -> Result<(), CommandError> {
    let missing = || RegistryCommandError::NoCredentials { registry: registry.to_owned() };
    let server = Some(registry).filter(|name| *name != "Docker Hub");
    let workshop = change.hosts.workshop();
    let known = workshop.registries.iter().find(|known| known.server.as_deref() == server);
    let credentials = known.ok_or_else(missing)?;
    let server = credentials.server.as_deref().map(quote).unwrap_or_default();
    let line = format!("docker login {server} --username {} --password-stdin", quote(&credentials.username));
    let password = credentials.password.expose_secret();
    let at = async |place: BuildPlaceName| {
        workshop.check_registry(registry, &place).await?;
        run(change, &place, "login", (&line, password)).await
    };
    let work = join_all(self::all(change, places).into_iter().map(at));
    let outcomes = change.context.until_stopped(async { Ok::<_, CommandError>(work.await) }).await?;
    show(change, registry, "logged in", outcomes)
}

/// Has `docker` forget the login.
///
/// # Errors
/// The first place where it did not.
pub(super) async fn log_out(
    change: &Change<'_>,
    places: PlaceArgs,
    registry: &str,
) -> Result<(), CommandError> {
    let server = Some(registry).filter(|name| *name != "Docker Hub").map(quote).unwrap_or_default();
    let line = format!("docker logout {server}");
    let at = async |place: BuildPlaceName| run(change, &place, "logout", (&line, "")).await;
    let work = join_all(self::all(change, places).into_iter().map(at));
    let outcomes = change.context.until_stopped(async { Ok::<_, CommandError>(work.await) }).await?;
    show(change, registry, "logged out", outcomes)
}

fn all(change: &Change<'_>, places: PlaceArgs) -> Vec<BuildPlaceName> {
    let local = (!places.skip_local).then_some(BuildPlaceName::Local);
    let hosts = change.hosts.names().iter().filter(|_| !places.skip_remote);
    local.into_iter().chain(hosts.cloned().map(BuildPlaceName::Host)).collect()
}

/// Runs a command line of `docker` at a place, and says whether there is a `docker`.
async fn run(
    change: &Change<'_>,
    place: &BuildPlaceName,
    verb: &'static str,
    (line, input): (&str, &str),
) -> Result<(String, bool), CommandError> {
    let script = format!("command -v docker >/dev/null 2>&1 || exit {NO_DOCKER}; {line}");
    let (name, (code, said)) = match place {
        BuildPlaceName::Local => ("this machine".to_owned(), here(change, &script, input).await?),
        BuildPlaceName::Host(host) => match change.hosts.get(host) {
            Some(engine) => (host.to_string(), there(engine, &script, input).await?),
            None => return Ok((host.to_string(), false)),
        },
    };
    match code {
        0 => Ok((name, true)),
        NO_DOCKER => Ok((name, false)),
        code => {
            let place = format!("on {name}");
            Err(RegistryCommandError::Refused { verb, place, code, said }.into())
        }
    }
}

async fn here(change: &Change<'_>, script: &str, input: &str) -> Result<(i64, String), CommandError> {
    let failed =
        |source| crate::error::FileError { operation: "run `docker` on this machine".to_owned(), source };
    let mut child = tokio::process::Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(&change.context.process.directory)
        .env_clear()
        .envs(change.context.environment())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing has closed it already, which its exit code tells of.
        drop(stdin.write_all(input.as_bytes()).await);
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    Ok((output.status.code().map_or(-1, i64::from), last_line(&output.stderr)))
}

async fn there(host: &Arc<EngineHost>, script: &str, input: &str) -> Result<(i64, String), CommandError> {
    let lost = |source| RegistryCommandError::Lost { host: host.name().clone(), source };
    let command: Result<ServerCommand, HostError> = host.run_on_server(script, None).await;
    let ServerCommand { mut stdout, mut stderr, mut stdin, control } = command?;
    let feed = async {
        // One that reads nothing has closed it already, which its exit code tells of.
        drop(stdin.write_all(input.as_bytes()).await);
        drop(stdin.shutdown().await);
        drop(stdin);
        Ok(())
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let read = tokio::try_join!(feed, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
    read.map_err(lost)?;
    Ok((control.exit_code().await?, last_line(&err)))
}

fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").trim().to_owned()
}

fn show(
    change: &Change<'_>,
    registry: &str,
    done: &str,
    outcomes: Vec<Result<(String, bool), CommandError>>,
) -> Result<(), CommandError> {
    let context = change.context;
    let mut all = Vec::new();
    for outcome in outcomes {
        let (place, is_stored) = outcome?;
        all.push(PlaceOutcome { place, registry: registry.to_owned(), is_stored });
    }
    context.ui.close();
    let line = |place: &PlaceOutcome| {
        let rest = match place.is_stored {
            true => format!(" {done} {} {registry}", if done == "logged in" { "to" } else { "of" }),
            false => {
                " has no `docker` command line: nothing is stored there, and nothing needs to be".to_owned()
            }
        };
        Line::new()
            .add(Tone::Good, context.ui.done_mark())
            .plain(" ")
            .add(Tone::Strong, &place.place)
            .plain(rest)
    };
    context.ui.result(&all.iter().map(line).collect::<Vec<_>>());
    context.ui.result_json(context.command, &all);
    Ok(())
}

/// Shows what became of the registry of this machine.
pub(super) fn show_text(change: &Change<'_>, text: &str) {
    let context = change.context;
    context.ui.close();
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text)]);
    context.ui.result_json(context.command, &serde_json::json!({ "state": text }));
}
