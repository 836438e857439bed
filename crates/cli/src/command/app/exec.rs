use std::sync::Arc;

use freehold_fleet::{MissingImage, OneOff};
use freehold_model::{ContainerName, Diagnose, EnvName, ErrorKind, HostName, Role, Tag};
use freehold_plan::{ContainerRequest, NETWORK, Observed, ObservedHost, image_of, introduce};

use crate::audit;
use crate::change::{Build, Change};
use crate::command::status;
use crate::context::Context;
use crate::error::CommandError;
use crate::exec::{self, Container, Execution, Mode, Place};

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

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
enum AppExecError {
    /// Nothing runs there.
    #[error("no container of role `{role}` runs on host `{host}`")]
    NothingRuns { host: HostName, role: String },
    /// No version is known.
    #[error("no version of the application is known on host `{host}`")]
    NoVersion { host: HostName },
    /// Its name would be too long.
    #[error(transparent)]
    Name(#[from] freehold_model::InvalidName),
}

impl Diagnose for AppExecError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NothingRuns { .. } => vec!["run it in a new container: leave out `--reuse`".to_owned()],
            Self::NoVersion { .. } => {
                vec!["deploy first, or name a version that the host has: `--version`".to_owned()]
            }
            Self::Name(_) => Vec::new(),
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    let mode = Mode::of(context, arguments.interactive, arguments.detach, arguments.raw)?;
    let words = exec::words(&arguments.command)?;
    let change = Change::prepare_without_record(context, Build::No).await?;
    let observed = change.observe().await?;
    let mut places = places(&change, &observed, &arguments, (mode, &words))?;
    if mode == Mode::Interactive {
        places.truncate(1);
    }
    note(&change, &observed, &places, &arguments.command.join(" ")).await;
    let (secrets, variables) = (&change.secrets, arguments.env);
    Execution { context, secrets, words, variables, mode }.run(places).await
}

/// Writes down what is run where, and on which version.
async fn note(change: &Change<'_>, observed: &Observed, places: &[Place], command: &str) {
    let project = change.project();
    let mut acts: Vec<(Arc<_>, String)> = Vec::new();
    for place in places {
        let version = match &place.container {
            Container::New(one_off) => one_off.container.image.tag.as_ref().map(Tag::to_string),
            Container::Running(name) => observed.hosts.get(&place.host).and_then(|seen| {
                let container = seen.containers.iter().find(|container| container.name == *name)?;
                Some(status::version(project, container))
            }),
        };
        let act = format!("Executed cmd '{command}' on app version {}", version.unwrap_or_default());
        if !acts
            .iter()
            .any(|(host, known)| freehold_fleet::Host::name(&**host) == &place.host && *known == act)
        {
            acts.push((Arc::clone(&place.engine), act));
        }
    }
    audit::write_down(change.context, project, &change.author.email, acts).await;
}

fn places(
    change: &Change<'_>,
    observed: &Observed,
    arguments: &Args,
    (mode, words): (Mode, &[String]),
) -> Result<Vec<Place>, CommandError> {
    let project = change.project();
    let mut places = Vec::new();
    for host in project.hosts() {
        let (Some(seen), Some(engine)) = (observed.hosts.get(&host), change.hosts.get(&host)) else {
            continue;
        };
        for role in project.roles.values() {
            let Some(entry) = role.hosts.iter().find(|entry| entry.name == host) else { continue };
            let container = if arguments.reuse {
                let nothing =
                    || AppExecError::NothingRuns { host: host.clone(), role: role.name.to_string() };
                Container::Running(seen.current(project, &role.name).ok_or_else(nothing)?.name.clone())
            } else {
                let tag = version(change, seen, role)
                    .ok_or_else(|| AppExecError::NoVersion { host: host.clone() })?;
                let mut container = container(change, role, &tag, words)?;
                container.environment = entry.environment.clone();
                introduce(project, &host, NETWORK, (&mut container.options, &mut container.environment));
                let registry = project.registry.as_ref();
                Container::New(Box::new(OneOff {
                    container,
                    variables: arguments.env.clone(),
                    streams: mode.streams(change.context),
                    missing: if registry.is_some() { MissingImage::Pull } else { MissingImage::Fail },
                }))
            };
            let (engine, subject) = (Arc::clone(engine), (&role.name).into());
            places.push(Place { engine, host: host.clone(), subject, container });
        }
    }
    Ok(places)
}

/// Returns the version to run: what was asked for, otherwise what serves, otherwise the last release.
fn version(change: &Change<'_>, seen: &ObservedHost, role: &Role) -> Option<Tag> {
    let project = change.project();
    match (&change.version, seen.current(project, &role.name)) {
        (Some(version), _) => Some(version.clone()),
        (None, Some(container)) => Tag::parse(status::version(project, container)).ok(),
        (None, None) => seen.releases.first().map(|release| release.version.clone()),
    }
}

/// Describes a new container of a role, as Kamal's one-off containers are: without labels, so that they are neither
/// pruned nor counted as releases.
fn container(
    change: &Change<'_>,
    role: &Role,
    tag: &Tag,
    words: &[String],
) -> Result<ContainerRequest, AppExecError> {
    let project = change.project();
    let hex: String = change.context.process.seed.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{}-exec-{tag}-{hex}", project.role_prefix(&role.name));
    Ok(ContainerRequest {
        name: ContainerName::parse(name)?,
        image: image_of(project, role, tag).into(),
        hostname: None,
        network: NETWORK.to_owned(),
        command: Some(words.to_vec()),
        environment: freehold_model::Environment::default(),
        labels: std::collections::BTreeMap::new(),
        volumes: role.volumes.clone(),
        options: role.options.clone(),
        logging: role.logging.clone(),
        stop_timeout: role.stop_timeout,
    })
}
