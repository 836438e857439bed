use super::places::{self, PlaceArgs, Where};
use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;

/// Forget the login of the registry, on this machine and on the hosts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    places: PlaceArgs,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_registry(context).await?;
    match places::wanted(&change)? {
        Where::Local(_) => Err(places::RegistryCommandError::LocalHasNoLogout.into()),
        Where::Elsewhere(name) => places::log_out(&change, arguments.places, &name).await,
    }
}
