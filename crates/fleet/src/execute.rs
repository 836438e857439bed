use std::time::Duration;

use freehold_model::{ReleaseId, SecretValues};
use freehold_plan::{Plan, PlanKind};

use crate::event::Event;
use crate::lease::Lease;
use crate::world::{Stop, World};

pub use error::{ExecuteError, PutBack, StepFailure, StepLeft};
pub(crate) use ledger::Ledger;
pub(crate) use run::{Run, Watching};

mod error;
mod ledger;
mod put_back;
mod run;
mod stage;

/// What a plan that was done has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The rollout.
    pub rollout: ReleaseId,
    /// What it was for.
    pub kind: PlanKind,
    /// The steps that changed something.
    pub done: usize,
    /// The steps that found everything done.
    pub already_done: usize,
    /// How long it took.
    pub elapsed: Duration,
}

/// Walks through a plan: the stages one after another, the hosts of a stage side by side, the steps of a host in order.
/// Each step stands in the journal of its host before it begins and again when it is done.
///
/// A failure before the release is live undoes every journalled step of every host, the last first. A failure after
/// that leaves the release as it is; the other steps go on, and the journal stays, so that `resume` does the rest.
///
/// # Errors
/// [`ExecuteError`], which says what failed, whether everything was put back, and what is left.
///
/// # Cancel safety
/// Not cancel safe: it is ended by `stop`. After a crash, [`crate::recover`] finishes or undoes what it did.
pub async fn execute(
    plan: &Plan,
    world: &World,
    lease: &Lease,
    secrets: &SecretValues,
    stop: &Stop,
) -> Result<Report, ExecuteError> {
    let run = Run::new(plan, world, (lease, secrets, stop))?;
    world.emit(Event::Planned { plan: Box::new(plan.clone()) });
    if plan.is_empty() {
        return Ok(run.report());
    }
    run.begin().await?;
    run.go(Watching::Soak).await
}
