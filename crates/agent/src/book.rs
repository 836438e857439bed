//! What the agent knows of one schedule, and every decision about it.

use std::collections::{BTreeMap, BTreeSet};

use freehold_model::{JobName, ReleaseId, ScheduleName, ScheduleState};
use freehold_wire::agent::{
    AgentErrorCode, AgentRefusal, ForgetRequest, RevertRequest, RunRecord, ScheduleReply, ScheduleSet,
    ScheduledContainer, StoreRequest, SwitchRequest,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::refusal;

mod due;
mod status;

pub(crate) use due::{Admission, LATE_LIMIT};

/// The part that a client decides. It holds secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) name: ScheduleName,
    /// The greatest fencing number seen; it stays when all else is removed.
    pub(crate) fence: u64,
    pub(crate) state: ScheduleState,
    /// The state before the last switch.
    pub(crate) before: ScheduleState,
    /// The jobs of each release.
    pub(crate) releases: BTreeMap<ReleaseId, ScheduleSet>,
}

/// The part that runs make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct History {
    /// Up to when it was looked for times at which a job is due.
    pub(crate) seen: BTreeMap<JobName, Timestamp>,
    /// The number of the last run of each job.
    pub(crate) last_run: BTreeMap<JobName, u64>,
    /// The runs, oldest first.
    pub(crate) runs: Vec<RunRecord>,
}

/// One schedule.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub(crate) plan: Plan,
    pub(crate) history: History,
}

impl Book {
    pub(crate) fn new(name: ScheduleName) -> Self {
        let plan = Plan {
            name,
            fence: 0,
            state: ScheduleState::Off,
            before: ScheduleState::Off,
            releases: BTreeMap::new(),
        };
        Self { plan, history: History::default() }
    }

    /// Says whether nothing is left but the fencing number.
    pub(crate) fn is_empty(&self) -> bool {
        self.plan.releases.is_empty() && !self.history.runs.iter().any(|run| run.state.is_open())
    }

    /// Returns the jobs that are meant, whether they are paused or not.
    pub(crate) fn set(&self) -> Option<(&ReleaseId, &ScheduleSet)> {
        let release = self.plan.state.release()?;
        Some((release, self.plan.releases.get(release)?))
    }

    /// Returns a job of a release.
    pub(crate) fn job(&self, release: &ReleaseId, name: &JobName) -> Option<&ScheduledContainer> {
        self.plan.releases.get(release)?.jobs.iter().find(|job| job.name == *name)
    }

    pub(crate) fn store(
        &mut self,
        release: ReleaseId,
        request: StoreRequest,
    ) -> Result<ScheduleReply, AgentRefusal> {
        self.raise_fence(request.fence)?;
        let changed = self.plan.releases.insert(release, request.set).is_none();
        Ok(self.reply(changed))
    }

    pub(crate) fn forget(&mut self, request: &ForgetRequest) -> Result<ScheduleReply, AgentRefusal> {
        self.raise_fence(request.fence)?;
        let count = self.plan.releases.len();
        let meant = self.plan.state.release().cloned();
        let is_gone = |id: &ReleaseId| request.releases.contains(id) && meant.as_ref() != Some(id);
        self.plan.releases.retain(|id, _| !is_gone(id));
        self.forget_unknown_jobs();
        Ok(self.reply(self.plan.releases.len() < count))
    }

    pub(crate) fn switch(
        &mut self,
        request: &SwitchRequest,
        now: Timestamp,
    ) -> Result<ScheduleReply, AgentRefusal> {
        self.raise_fence(request.fence)?;
        if let Some(release) = request.to.release().filter(|id| !self.plan.releases.contains_key(id)) {
            let message = format!("the jobs of release `{release}` are not stored");
            return Err(refusal(AgentErrorCode::Unknown, message));
        }
        if self.plan.state == request.to {
            return Ok(self.reply(false));
        }
        let before = self.plan.state.clone();
        self.enter(request.to.clone(), now);
        self.plan.before = before;
        Ok(self.reply(true))
    }

    pub(crate) fn revert(
        &mut self,
        request: &RevertRequest,
        now: Timestamp,
    ) -> Result<ScheduleReply, AgentRefusal> {
        self.raise_fence(request.fence)?;
        let before = self.plan.before.clone();
        let is_known = before.release().is_none_or(|id| self.plan.releases.contains_key(id));
        if self.plan.state != request.from || !is_known {
            return Ok(self.reply(false));
        }
        self.enter(before, now);
        self.plan.before = request.from.clone();
        Ok(self.reply(true))
    }

    /// Gives everything up but the fencing number and runs that have not ended.
    pub(crate) fn clear(&mut self, fence: u64) -> Result<(), AgentRefusal> {
        self.raise_fence(fence)?;
        self.plan.state = ScheduleState::Off;
        self.plan.before = ScheduleState::Off;
        self.plan.releases.clear();
        self.forget_unknown_jobs();
        Ok(())
    }

    pub(crate) fn reply(&self, changed: bool) -> ScheduleReply {
        ScheduleReply { changed, state: self.plan.state.clone(), ending_runs: 0 }
    }

    /// Changes the state. A job that goes on as it was misses nothing meanwhile; any other is not due for what is past.
    fn enter(&mut self, state: ScheduleState, now: Timestamp) {
        let was_active = self.plan.state.is_active();
        let earlier: BTreeMap<JobName, String> = self
            .set()
            .into_iter()
            .flat_map(|(_, set)| &set.jobs)
            .map(|job| (job.name.clone(), job.schedule.to_string()))
            .collect();
        self.plan.state = state;
        let Some((_, set)) = self.set() else { return };
        let changed: Vec<JobName> = set
            .jobs
            .iter()
            .filter(|job| {
                !was_active || earlier.get(&job.name).map(String::as_str) != Some(job.schedule.as_str())
            })
            .map(|job| job.name.clone())
            .collect();
        for job in changed {
            self.history.seen.insert(job, now);
        }
    }

    fn raise_fence(&mut self, fence: u64) -> Result<(), AgentRefusal> {
        if fence < self.plan.fence {
            let message =
                format!("fencing number {fence} for `{}` is behind {}", self.plan.name, self.plan.fence);
            return Err(refusal(AgentErrorCode::Fenced, message));
        }
        self.plan.fence = fence;
        Ok(())
    }

    /// Forgets what is remembered of jobs that no release has any longer, but for runs that have not ended.
    fn forget_unknown_jobs(&mut self) {
        let known: BTreeSet<&JobName> =
            self.plan.releases.values().flat_map(|set| &set.jobs).map(|job| &job.name).collect();
        self.history.runs.retain(|run| run.state.is_open() || known.contains(&run.job));
        self.history.seen.retain(|job, _| known.contains(job));
        let open: BTreeSet<JobName> = self.history.runs.iter().map(|run| run.job.clone()).collect();
        self.history.last_run.retain(|job, _| known.contains(job) || open.contains(job));
    }
}

#[cfg(test)]
pub(crate) mod tests;
