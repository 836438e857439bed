use std::collections::BTreeMap;
use std::sync::Arc;

use freehold_fleet::{MissingImage, OneOff};
use freehold_model::{
    Accessory, ContainerName, ContainerOptions, Diagnose, ErrorKind, HostName, InvalidName, Project,
};
use freehold_plan::{ContainerRequest, ObservedAccessories};

use super::operation::{self, Chosen};
use crate::audit;
use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;
use crate::exec::{self, Container, Execution, Mode, Place};

/// Run a command with the image of an accessory.
///
/// By default in a new container on every host of it, with its environment, network and volumes. The words are passed on
/// as they are; one word with blanks in it is split as a shell does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold accessory exec db -i --reuse psql -U app   # in the running container\n  \
    freehold accessory exec db --raw 'pg_dump app' >app.sql")]
pub(crate) struct Args {
    /// The accessory.
    name: String,

    /// On its first host, with your terminal.
    #[arg(short, long)]
    interactive: bool,

    /// In the container that runs instead of a new one.
    #[arg(long)]
    reuse: bool,

    /// Print what it writes to standard output as it is, and nothing else.
    #[arg(long, conflicts_with = "interactive")]
    raw: bool,

    /// The command.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
enum AccessoryExecError {
    /// Nothing runs there.
    #[error("accessory `{name}` does not run on host `{host}`")]
    NothingRuns { host: HostName, name: String },
    /// Its name would be too long.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl Diagnose for AccessoryExecError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NothingRuns { name, .. } => vec![
                format!("start it: `freehold accessory boot {name}`"),
                "or run the command in a new container: leave out `--reuse`".to_owned(),
            ],
            Self::Name(_) => Vec::new(),
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    let mode = Mode::of(context, arguments.interactive, false, arguments.raw)?;
    let words = exec::words(&arguments.command)?;
    let choice = |project: &Project| Ok(operation::choose(context, project, &arguments.name)?);
    let prepared = context.until_stopped(Change::prepare_accessories(context, choice)).await?;
    let (change, chosen): (Change<'_>, Chosen) = prepared;
    let seen = match arguments.reuse {
        true => Some(context.until_stopped(operation::observe(&change.hosts, &chosen)).await?),
        false => None,
    };
    let mut places = Vec::new();
    for (accessory, hosts) in &chosen {
        for host in hosts {
            let Some(engine) = change.hosts.get(host) else { continue };
            let container = match &seen {
                Some(seen) => running(accessory, host, seen)?,
                None => new(context, accessory, mode, &words)?,
            };
            let (engine, subject) = (Arc::clone(engine), (&accessory.name).into());
            places.push(Place { engine, host: host.clone(), subject, container });
        }
    }
    if mode == Mode::Interactive {
        places.truncate(1);
    }
    let command = arguments.command.join(" ");
    let act = |place: &Place| {
        (Arc::clone(&place.engine), format!("Executed cmd '{command}' on {} accessory", place.subject))
    };
    let acts: Vec<_> = places.iter().map(act).collect();
    audit::write_down(context, &change.loaded.whole, &change.author.email, acts).await;
    Execution { context, secrets: &change.secrets, words, variables: Vec::new(), mode }.run(places).await
}

fn running(
    accessory: &Accessory,
    host: &HostName,
    seen: &ObservedAccessories,
) -> Result<Container, AccessoryExecError> {
    let seen = seen.get(host).and_then(|on_host| on_host.get(&accessory.name));
    match seen.filter(|seen| seen.state.is_running()) {
        Some(seen) => Ok(Container::Running(seen.name.clone())),
        None => Err(AccessoryExecError::NothingRuns { host: host.clone(), name: accessory.name.to_string() }),
    }
}

/// Describes a new container, as Kamal does: without the labels and options of the one that runs, which may claim what
/// there is only one of.
fn new(
    context: &Context,
    accessory: &Accessory,
    mode: Mode,
    words: &[String],
) -> Result<Container, AccessoryExecError> {
    let hex: String = context.process.seed.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    let container = ContainerRequest {
        name: ContainerName::parse(format!("{}-exec-{hex}", accessory.container))?,
        image: accessory.image.clone(),
        hostname: None,
        network: accessory.network.clone(),
        command: Some(words.to_vec()),
        environment: accessory.environment.clone(),
        labels: BTreeMap::new(),
        volumes: accessory.mounts(),
        options: ContainerOptions::default(),
        logging: accessory.logging.clone(),
        stop_timeout: None,
    };
    let streams = mode.streams(context);
    let one_off = OneOff { container, variables: Vec::new(), streams, missing: MissingImage::Pull };
    Ok(Container::New(Box::new(one_off)))
}
