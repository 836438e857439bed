use freehold_plan::{AccessoryStep, AccessoryVerb};

use super::operation;
use crate::context::Context;
use crate::error::CommandError;

/// Remove the images of accessories.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The accessory, or `all`.
    name: String,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    operation::run(context, &arguments.name, AccessoryVerb::Only(AccessoryStep::RemoveImage)).await
}
