use freehold_plan::AccessoryVerb;

use super::operation::Operation;
use crate::command::remove::Declined;
use crate::context::Context;
use crate::error::CommandError;

/// Remove accessories: containers, images, and the files and directories that were made for them.
///
/// The directories hold the data of most databases. Named volumes and absolute paths of the host stay.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The accessory, or `all`.
    name: String,

    /// Do not ask.
    #[arg(short = 'y', long)]
    confirmed: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let operation = Operation::prepare(context, &arguments.name, AccessoryVerb::Remove).await?;
    if !arguments.confirmed {
        let question = format!("Remove {} with everything stored in its directories?", operation.title());
        confirm(context, &question).await?;
    }
    operation.carry_out().await
}

/// Asks a person whether data may go.
///
/// # Errors
/// [`Declined`]: the answer is no, or there is nobody to ask.
pub(super) async fn confirm(context: &Context, question: &str) -> Result<(), Declined> {
    if !context.ui.can_ask() {
        return Err(Declined::NobodyToAsk);
    }
    if freehold_ssh::Prompt::confirm(&context.ui, question).await { Ok(()) } else { Err(Declined::No) }
}
