mod bootstrap;
mod exec;

use crate::context::Context;
use crate::error::CommandError;

/// Work on the hosts themselves.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Bootstrap(bootstrap::Args),
    Exec(exec::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Bootstrap(_) => "server bootstrap",
            Verb::Exec(_) => "server exec",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Bootstrap(arguments) => bootstrap::run(context, &arguments).await,
        Verb::Exec(arguments) => context.until_stopped(exec::run(context, arguments)).await,
    }
}
