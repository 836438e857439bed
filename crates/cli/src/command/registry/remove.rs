use freehold_fleet::{Outcome, Work};

use super::places::{self, PlaceArgs, Where};
use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;
use crate::image_work;

/// Remove the registry of this machine with the images in it, or log out of one elsewhere.
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
            Ok(())
        }
        Where::Local(port) => {
            let act = async |_: Work<'_>| change.hosts.workshop().remove_local_registry().await;
            let title = format!("localhost:{port}");
            let work = image_work::show(&change, "registry", &title, act);
            let text = match context.until_stopped(work).await? {
                Outcome::Done(_) => "the registry of this machine is removed",
                Outcome::AlreadyDone => "there was no registry on this machine",
            };
            places::show_text(&change, text);
            Ok(())
        }
        Where::Elsewhere(name) => places::log_out(&change, arguments.places, &name).await,
    }
}
