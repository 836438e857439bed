use super::places::{self, PlaceArgs, Where};
use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;

/// Log in to the registry, on this machine and on the hosts, and leave the login there.
///
/// Name and password are tried first; the login is then stored by the `docker` command line, where there is one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    places: PlaceArgs,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_registry(context).await?;
    match places::wanted(&change)? {
        Where::Local(_) => Err(places::RegistryCommandError::LocalHasNoLogin.into()),
        Where::Elsewhere(name) => places::log_in(&change, arguments.places, &name).await,
    }
}
