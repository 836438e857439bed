use freehold_plan::AccessoryVerb;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;

/// Stop and start accessories: the same containers, nothing new.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The accessory, or `all`.
    name: String,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    operation::run(context, &arguments.name, AccessoryVerb::Restart).await
}
