mod check;
mod extract;
mod fetch;
mod print;

use crate::context::Context;
use crate::error::CommandError;

/// Look at the project's secrets, or fetch some from a password manager.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Fetch(fetch::Args),
    Extract(extract::Args),
    Print(print::Args),
    Check(check::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Fetch(_) => "secrets fetch",
            Verb::Extract(_) => "secrets extract",
            Verb::Print(_) => "secrets print",
            Verb::Check(_) => "secrets check",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Fetch(arguments) => context.until_stopped(fetch::run(context, arguments)).await,
        Verb::Extract(arguments) => extract::run(context, &arguments),
        Verb::Print(arguments) => context.until_stopped(print::run(context, &arguments)).await,
        Verb::Check(arguments) => context.until_stopped(check::run(context, &arguments)).await,
    }
}
