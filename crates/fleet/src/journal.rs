use freehold_plan::{Plan, StepId};
use serde::{Deserialize, Serialize};

/// One line of the journal of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalEntry {
    /// The rollout.
    pub rollout: String,
    /// The step.
    pub step: StepId,
    /// What became of it.
    pub state: JournalState,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalState {
    /// It was begun; nobody knows how far it came until there is another line.
    Begun,
    /// It was done.
    Done,
    /// It was undone.
    Undone,
    /// It failed, or the run was stopped at it: from here on everything is put back. The line stands in the journal of
    /// every host that could be reached, so that a crash right after the decision does not turn it round.
    PuttingBack,
}

/// A rollout that its client did not finish, as the hosts have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredJournal {
    /// The plan, if it is stored on this host (it is on the primary host only).
    pub plan: Option<Box<Plan>>,
    /// The lines, oldest first. A torn last line is left out: its step counts as begun because of the line before.
    pub entries: Vec<JournalEntry>,
}
