use std::sync::Arc;

use freehold_model::Project;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;
use crate::logs::{LogArgs, LogSource};
use crate::sight::Sight;

/// Show the log of an accessory, of all its hosts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold accessory logs db -f\n  \
    freehold accessory logs db --since 10m --grep ERROR")]
pub(crate) struct Args {
    /// The accessory, or `all`.
    name: String,

    #[command(flatten)]
    log: LogArgs,
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    arguments.log.check(context)?;
    let choice = |project: &Project| Ok(operation::choose(context, project, &arguments.name)?);
    let (sight, chosen) = context.until_stopped(Sight::of_accessories(context, choice)).await?;
    let mut sources = Vec::new();
    for (accessory, hosts) in &chosen {
        for host in hosts {
            let Some(engine) = sight.hosts.get(host) else { continue };
            let (engine, container) = (Arc::clone(engine), accessory.container.clone());
            sources.push(LogSource { engine, host: host.clone(), container });
        }
    }
    arguments.log.show(context, &sources).await
}
