mod create;
mod deliver;
mod details;
mod dev;
mod images;
mod pull;
mod push;
mod remove;

pub(in crate::command) use images::start_registry;

use crate::context::Context;
use crate::error::CommandError;

/// Build images, push them, bring them to the hosts: the first half of a deploy, alone.
///
/// Nothing of these takes the deploy lock or touches what serves.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Push(push::Args),
    Pull(pull::Args),
    Deliver(deliver::Args),
    Dev(dev::Args),
    Create(create::Args),
    Remove(remove::Args),
    Details(details::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Push(_) => "build push",
            Verb::Pull(_) => "build pull",
            Verb::Deliver(_) => "build deliver",
            Verb::Dev(_) => "build dev",
            Verb::Create(_) => "build create",
            Verb::Remove(_) => "build remove",
            Verb::Details(_) => "build details",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Push(arguments) => push::run(context, &arguments).await,
        Verb::Pull(arguments) => pull::run(context, &arguments).await,
        Verb::Deliver(arguments) => deliver::run(context, &arguments).await,
        Verb::Dev(arguments) => dev::run(context, &arguments).await,
        Verb::Create(arguments) => create::run(context, &arguments).await,
        Verb::Remove(arguments) => remove::run(context, &arguments).await,
        Verb::Details(arguments) => context.until_stopped(details::run(context, &arguments)).await,
    }
}
