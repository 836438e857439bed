use std::time::Duration;

use freehold_plan::{Gate, set_gate};

use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;

/// Serve the application again after `freehold app maintenance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_without_secrets(context).await?;
    let done = change
        .carry_out(async |observed| {
            let open = (&Gate::Open, Duration::ZERO);
            Ok(set_gate(change.project(), change.release_id(), observed, open)?)
        })
        .await?;
    super::start::show(context, &done, "is live");
    Ok(())
}
