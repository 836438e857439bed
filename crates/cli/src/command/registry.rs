mod login;
mod logout;
mod places;
mod remove;
mod setup;

use crate::context::Context;
use crate::error::CommandError;

/// Log in to the image registry, or work with the one on this machine.
///
/// A deploy needs none of these: it uses name and password of the deploy file and leaves nothing behind. They are for
/// people who use `docker pull` by hand.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Setup(setup::Args),
    Login(login::Args),
    Logout(logout::Args),
    Remove(remove::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Setup(_) => "registry setup",
            Verb::Login(_) => "registry login",
            Verb::Logout(_) => "registry logout",
            Verb::Remove(_) => "registry remove",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Setup(arguments) => setup::run(context, &arguments).await,
        Verb::Login(arguments) => login::run(context, &arguments).await,
        Verb::Logout(arguments) => logout::run(context, &arguments).await,
        Verb::Remove(arguments) => remove::run(context, &arguments).await,
    }
}
