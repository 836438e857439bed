use freehold_fleet::Outcome;

use super::places::{self, PlaceArgs, Where};
use crate::change::Change;
use crate::command::build;
use crate::context::Context;
use crate::error::CommandError;

/// Start the registry of this machine (`registry: server: localhost:PORT`), or log in to one elsewhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    places: PlaceArgs,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_registry(context).await?;
    match places::wanted(&change)? {
        Where::Local(_) if arguments.places.skip_local => {
            places::show_text(&change, "nothing to do: the registry is on this machine");
        }
        Where::Local(port) => {
            let started = context.until_stopped(build::start_registry(&change, port)).await?;
            let verb = if started == Outcome::AlreadyDone { "runs" } else { "is started" };
            places::show_text(&change, &format!("the registry {verb} on localhost:{port}"));
        }
        Where::Elsewhere(name) => places::log_in(&change, arguments.places, &name).await?,
    }
    Ok(())
}
