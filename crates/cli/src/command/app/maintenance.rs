use std::time::Duration;

use freehold_plan::{Gate, set_gate};

use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;

/// Answer all requests with a page that says so, and leave the application running.
///
/// Requests in flight end first. It lasts until `freehold app live`, also over deploys and restarts of the proxy. Health
/// checks by a load balancer in front of the proxy are still answered well.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  freehold app maintenance --message 'Back at 14:00'\n  freehold app live"
)]
pub(crate) struct Args {
    /// How long requests in flight may take; `drain_timeout` of the deploy file, unless it is given.
    #[arg(long, value_name = "SECONDS")]
    drain_timeout: Option<u64>,

    /// What the page says.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    message: String,
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    let change = Change::prepare_without_secrets(context).await?;
    let given = arguments.drain_timeout.map(Duration::from_secs);
    let drain = given.unwrap_or(change.project().timeouts.drain);
    let gate = Gate::Stopped { message: arguments.message };
    let done = change
        .carry_out(async |observed| {
            Ok(set_gate(change.project(), change.release_id(), observed, (&gate, drain))?)
        })
        .await?;
    super::start::show(context, &done, "is in maintenance");
    Ok(())
}
