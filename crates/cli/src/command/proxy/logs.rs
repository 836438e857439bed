use std::sync::Arc;

use freehold_model::{ContainerName, Diagnose, ErrorKind, InvalidName};

use crate::context::Context;
use crate::error::CommandError;
use crate::logs::{LogArgs, LogSource};
use crate::sight::Sight;

/// Show the logs of the proxies.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold proxy logs -f\n  \
    freehold proxy logs -h web-1 --since 10m --grep ' 50[0-9] '")]
pub(crate) struct Args {
    #[command(flatten)]
    log: LogArgs,
}

/// The name of the proxy's container is wrong, which it is not.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Name(#[from] InvalidName);

impl Diagnose for Name {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Bug
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    arguments.log.check(context)?;
    let sight = context.until_stopped(Sight::of_proxies(context)).await?;
    let container = ContainerName::parse("kamal-proxy").map_err(Name)?;
    let engines = sight.hosts.each(|engine| async move { Ok::<_, CommandError>(engine) }).await?;
    let sources: Vec<LogSource> = engines
        .into_iter()
        .map(|(host, engine)| LogSource { engine: Arc::clone(&engine), host, container: container.clone() })
        .collect();
    arguments.log.show(context, &sources).await
}
