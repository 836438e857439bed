mod boot;
mod details;
mod operation;
mod reboot;
mod remove;
mod restart;
mod start;
mod stop;

use crate::context::Context;
use crate::error::CommandError;

/// Work with the long-lived containers beside the application: databases, caches.
///
/// A deploy never touches them. NAME is the accessory's name in the deploy file, or `all`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Boot(boot::Args),
    #[command(visible_alias = "upgrade")]
    Reboot(reboot::Args),
    Start(start::Args),
    Stop(stop::Args),
    Restart(restart::Args),
    Details(details::Args),
    Remove(remove::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Boot(_) => "accessory boot",
            Verb::Reboot(_) => "accessory reboot",
            Verb::Start(_) => "accessory start",
            Verb::Stop(_) => "accessory stop",
            Verb::Restart(_) => "accessory restart",
            Verb::Details(_) => "accessory details",
            Verb::Remove(_) => "accessory remove",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Boot(arguments) => boot::run(context, &arguments).await,
        Verb::Reboot(arguments) => reboot::run(context, &arguments).await,
        Verb::Start(arguments) => start::run(context, &arguments).await,
        Verb::Stop(arguments) => stop::run(context, &arguments).await,
        Verb::Restart(arguments) => restart::run(context, &arguments).await,
        Verb::Details(arguments) => context.until_stopped(details::run(context, &arguments)).await,
        Verb::Remove(arguments) => remove::run(context, &arguments).await,
    }
}

pub(crate) use operation::{Setup, needed};
