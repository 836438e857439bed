mod acquire;
mod release;
mod status;

use crate::context::Context;
use crate::error::CommandError;

/// Look at the deploy lock, take it, or release it.
///
/// Every command that changes hosts takes the lock by itself. Take it by hand to keep others from deploying; a deploy
/// of Kamal respects it too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Status(status::Args),
    Acquire(acquire::Args),
    Release(release::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Status(_) => "lock status",
            Verb::Acquire(_) => "lock acquire",
            Verb::Release(_) => "lock release",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Status(arguments) => status::run(context, &arguments).await,
        Verb::Acquire(arguments) => acquire::run(context, arguments).await,
        Verb::Release(arguments) => release::run(context, &arguments).await,
    }
}
