use freehold_plan::stop;

use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;

/// Take the application out of the proxy and stop its containers.
///
/// They stay, for `freehold app start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_without_secrets(context).await?;
    let done =
        change.carry_out(async |observed| Ok(stop(change.project(), change.release_id(), observed))).await?;
    super::start::show(context, &done, "is stopped");
    Ok(())
}
