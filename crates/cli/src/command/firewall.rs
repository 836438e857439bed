mod apply;
mod plan;
mod remove;
mod show;
mod verify;

use crate::context::Context;
use crate::error::CommandError;

/// Close the hosts to everyone but those whom the deploy file names, also the ports that Docker opens past other firewalls.
///
/// Each host gets a table of nftables of its own, the guard, which is loaded before Docker at every boot. It lets in SSH, the
/// ports of the proxy, the ports of accessories from the hosts of the project, and what `firewall:` in the deploy file
/// allows. A deploy does not apply it by itself; where it was applied once, a deploy keeps it in step with the file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Plan(plan::Args),
    Apply(apply::Args),
    Show(show::Args),
    Remove(remove::Args),
    Verify(verify::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Plan(_) => "firewall plan",
            Verb::Apply(_) => "firewall apply",
            Verb::Show(_) => "firewall show",
            Verb::Remove(_) => "firewall remove",
            Verb::Verify(_) => "firewall verify",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Plan(arguments) => context.until_stopped(plan::run(context, &arguments)).await,
        Verb::Apply(arguments) => apply::run(context, &arguments).await,
        Verb::Show(arguments) => context.until_stopped(show::run(context, &arguments)).await,
        Verb::Remove(arguments) => remove::run(context, &arguments).await,
        Verb::Verify(arguments) => context.until_stopped(verify::run(context, &arguments)).await,
    }
}
