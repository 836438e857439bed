use freehold_plan::{RollbackTarget, rollback};

use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;
use crate::summary;

/// Go back to an earlier release, with the configuration and secrets that it had.
///
/// The hosts have kept its containers: nothing is built, sent or pulled. Without a name it is the newest release before
/// the one that serves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  freehold rollback\n  freehold releases && freehold rollback v1.1.0")]
pub(crate) struct Args {
    /// The release's identifier or version, as `freehold releases` lists them.
    release: Option<String>,
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    let name = arguments.release.or_else(|| context.arguments.version.clone());
    let target = name.map_or(RollbackTarget::Previous, RollbackTarget::Named);
    let change = Change::prepare(context, Build::No).await?;
    crate::preflight::warn_of_unchecked(context, change.project());
    let done = change
        .carry_out(async |observed| Ok(rollback(change.project(), change.release_id(), &target, observed)?))
        .await?;
    let took = change.finish().await?;
    summary::show(context, change.project(), &done, took);
    Ok(())
}
