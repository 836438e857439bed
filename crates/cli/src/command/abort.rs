use freehold_fleet::Intent;

use crate::change::{Build, Change};
use crate::command::resume;
use crate::context::Context;
use crate::error::CommandError;

/// Put back everything that a rollout that was cut off has changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare(context, Build::No).await?;
    let recovered = change.recover(Intent::Back).await?;
    resume::show(context, &recovered);
    Ok(())
}
