use freehold_plan::{CanaryPromotion, canary_promote};

use super::check_whole;
use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;
use crate::summary;

/// Let the release serve that is tried.
///
/// All requests go to it, with the configuration that it was started with; its other roles and its jobs start, and the
/// earlier release is stopped. It is one rollout over all hosts: if anything fails, the earlier release serves as before and
/// the other one is tried on. `freehold rollback` goes back afterwards.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare(context, Build::No).await?;
    check_whole(&change)?;
    promote(&change).await
}

/// Promotes it and shows what became of it.
pub(super) async fn promote(change: &Change<'_>) -> Result<(), CommandError> {
    let done = change
        .carry_out(async |observed| {
            let promotion = CanaryPromotion {
                project: change.project(),
                id: change.numbered_id(1),
                created_at: change.created_at(),
                author: change.author.clone(),
                secrets: change.fingerprints().await?,
                random: change.context.process.seed,
            };
            Ok(canary_promote(&promotion, observed)?)
        })
        .await?;
    let took = change.finish().await?;
    summary::show(change.context, change.project(), &done, took);
    Ok(())
}
