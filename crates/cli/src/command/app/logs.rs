use std::sync::Arc;

use freehold_model::{ContainerName, Diagnose, ErrorKind, HostName};

use crate::context::Context;
use crate::error::CommandError;
use crate::logs::{LogArgs, LogSource};
use crate::sight::Sight;

/// Show the log of the application.
///
/// Without `--container-id` it is that of the containers that serve, on all hosts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold app logs -f\n  \
    freehold app logs --since 10m --grep ERROR --grep-options '-i -C 2'\n  \
    freehold app logs -h web-2 -n 500")]
pub(crate) struct Args {
    #[command(flatten)]
    log: LogArgs,

    /// The container, by name or identifier, on the hosts that have it.
    #[arg(long, alias = "container_id", value_name = "CONTAINER")]
    container_id: Option<String>,
}

/// There is no log to show.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct NoContainer {
    what: String,
}

impl Diagnose for NoContainer {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        vec!["see what there is: `freehold app containers`".to_owned()]
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    arguments.log.check(context)?;
    let sight = context.until_stopped(Sight::prepare(context)).await?;
    let sources = context.until_stopped(sources(&sight, arguments.container_id.as_deref())).await?;
    arguments.log.show(context, &sources).await
}

/// Returns the containers whose logs are shown, with their hosts.
async fn sources(sight: &Sight, wanted: Option<&str>) -> Result<Vec<LogSource>, CommandError> {
    let observed = sight.observe().await?;
    let project = &sight.loaded.chosen;
    let mut found: Vec<(HostName, ContainerName)> = Vec::new();
    for host in project.hosts() {
        let Some(seen) = observed.hosts.get(&host) else { continue };
        match wanted {
            Some(wanted) => {
                let named = seen
                    .containers
                    .iter()
                    .find(|container| container.name.as_str() == wanted || container.id.starts_with(wanted));
                found.extend(named.map(|container| (host.clone(), container.name.clone())));
            }
            None => {
                let current = project.roles.keys().filter_map(|role| seen.current(project, role));
                found.extend(current.map(|container| (host.clone(), container.name.clone())));
            }
        }
    }
    if found.is_empty() {
        let what = match wanted {
            Some(wanted) => format!("no host has a container `{wanted}` of this service"),
            None => "no container of this service runs".to_owned(),
        };
        return Err(NoContainer { what }.into());
    }
    let source = |(host, container): (HostName, ContainerName)| {
        Some(LogSource { engine: Arc::clone(sight.hosts.get(&host)?), host, container })
    };
    Ok(found.into_iter().filter_map(source).collect())
}
