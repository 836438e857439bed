use freehold_plan::AccessoryVerb;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;

/// Start accessories that were stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The accessory, or `all`.
    name: String,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    operation::run(context, &arguments.name, AccessoryVerb::Start).await
}
