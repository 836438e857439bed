use freehold_plan::AccessoryVerb;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;

/// Start accessories that have no container yet.
///
/// Those that have one are left as they are; their files and directories are brought up to date.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The accessory, or `all`.
    name: String,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    operation::run(context, &arguments.name, AccessoryVerb::Boot).await
}
