use freehold_plan::{AccessoryStep, AccessoryVerb};

use super::operation::Operation;
use super::remove;
use crate::context::Context;
use crate::error::CommandError;

/// Remove the folders of accessories on their hosts, with everything stored in them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The accessory, or `all`.
    name: String,

    /// Do not ask.
    #[arg(short = 'y', long)]
    confirmed: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let verb = AccessoryVerb::Only(AccessoryStep::RemoveServiceDirectory);
    let operation = Operation::prepare(context, &arguments.name, verb).await?;
    if !arguments.confirmed {
        remove::confirm(
            context,
            &format!("Remove everything stored in the folders of {}?", operation.title()),
        )
        .await?;
    }
    operation.carry_out().await
}
