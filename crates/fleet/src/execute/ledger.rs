use std::collections::{BTreeMap, BTreeSet};

use freehold_model::HostName;
use freehold_plan::{Step, StepId, Undo};

use crate::journal::{JournalEntry, JournalState};

/// What the journals of all hosts say of every step, kept up to date while we write them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    states: BTreeMap<StepId, JournalState>,
    puts_back: bool,
    settled: BTreeSet<HostName>,
}

impl Ledger {
    pub(crate) fn record(&mut self, entry: &JournalEntry) {
        if entry.state == JournalState::PuttingBack {
            self.puts_back = true;
        } else {
            self.states.insert(entry.step, entry.state);
        }
    }

    /// Counts a host as finished, whichever way. Journals are begun everywhere before the first step and ended when
    /// nothing is left to do anywhere: a host without one beside others with one was the first to be told of the end.
    pub(crate) fn settle(&mut self, host: &HostName) {
        self.settled.insert(host.clone());
    }

    /// Counts no step as done any more, because some of them were undone since; what was begun is still to be undone.
    pub(crate) fn begin_anew(&mut self) {
        for state in self.states.values_mut().filter(|state| **state == JournalState::Done) {
            *state = JournalState::Begun;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Says whether everything was being put back.
    pub(crate) fn puts_back(&self) -> bool {
        self.puts_back || self.states.values().any(|state| *state == JournalState::Undone)
    }

    pub(crate) fn is_done(&self, step: &Step) -> bool {
        self.settled.contains(&step.host) || self.states.get(&step.id) == Some(&JournalState::Done)
    }

    /// Says whether a step may have changed something that is not undone.
    pub(crate) fn was_begun(&self, step: &Step) -> bool {
        matches!(self.states.get(&step.id), Some(JournalState::Begun | JournalState::Done))
    }

    /// Says whether a step is to be undone when everything is put back.
    pub(crate) fn needs_undo(&self, step: &Step) -> bool {
        step.undo != Undo::Nothing && self.was_begun(step)
    }
}
