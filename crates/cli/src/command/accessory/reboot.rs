use freehold_plan::AccessoryVerb;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;

/// Replace the containers of accessories by new ones, of the image and configuration of now.
///
/// The image is pulled first. Host after host the old container is stopped, because the two share data and ports, and
/// comes back if the new one does not become healthy.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The accessory, or `all`.
    name: String,

    /// One host after another, which is always so.
    #[arg(long, hide = true)]
    rolling: bool,

    /// Do not ask; nothing is ever asked.
    #[arg(short = 'y', long, hide = true)]
    confirmed: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    operation::run(context, &arguments.name, AccessoryVerb::Reboot).await
}
