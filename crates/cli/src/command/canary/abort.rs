use freehold_plan::canary_abort;

use super::{Outcome, check_whole, show};
use crate::change::{Change, Done};
use crate::context::Context;
use crate::error::CommandError;

/// Send all visitors to the release that serves, and remove the one that is tried.
///
/// Requests that it has begun end first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_without_secrets(context).await?;
    check_whole(&change)?;
    let done = abort(&change).await?;
    show(context, &done, (Outcome::of(&done, "aborted"), "is removed", ""));
    Ok(())
}

/// Removes it.
pub(super) async fn abort(change: &Change<'_>) -> Result<Done, CommandError> {
    let decide = async |observed: &_| Ok(canary_abort(change.project(), change.numbered_id(1), observed)?);
    change.carry_out(decide).await
}
