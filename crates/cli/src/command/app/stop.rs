use freehold_plan::stop;

use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;

/// Take the application out of the proxy and stop its containers.
///
/// They stay, for `freehold app start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare(context, Build::No).await?;
    let done =
        change.carry_out(async |observed| Ok(stop(change.project(), change.release_id(), observed))).await?;
    super::start::show(context, &done, "is stopped");
    Ok(())
}
