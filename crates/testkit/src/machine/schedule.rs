//! The fake agent: schedules in memory.

use std::collections::BTreeMap;

use freehold_fleet::{Outcome, StepError};
use freehold_model::{ReleaseId, RoleName, ScheduleName, ScheduleState};
use freehold_plan::{Action, ObservedAgent, ObservedSchedule};

use super::effect::changed;
use super::{Machine, State};

/// A schedule in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeSchedule {
    /// Its role.
    pub role: RoleName,
    /// Which jobs run.
    pub state: ScheduleState,
    /// The state before the last switch.
    pub before: ScheduleState,
    /// The releases whose jobs are stored, with their images.
    pub releases: BTreeMap<ReleaseId, String>,
}

/// Returns what a client sees of the agent.
pub(super) fn observed(agent: Option<&BTreeMap<ScheduleName, FakeSchedule>>) -> ObservedAgent {
    let Some(agent) = agent else { return ObservedAgent::Absent };
    let schedules = agent.iter().map(|(name, schedule)| ObservedSchedule {
        name: name.clone(),
        role: schedule.role.clone(),
        state: schedule.state.clone(),
        releases: schedule.releases.clone(),
    });
    ObservedAgent::Running { schedules: schedules.collect() }
}

impl Machine {
    /// Returns the schedules that the agent has; none where there is no agent.
    #[must_use]
    pub fn schedules(&self) -> Option<BTreeMap<ScheduleName, FakeSchedule>> {
        self.state.lock().agent.clone()
    }

    pub(super) fn schedule(&self, state: &mut State, action: &Action) -> Result<Outcome, StepError> {
        let missing =
            || StepError::from(self.refused(action, "there is no agent, or it does not know the jobs"));
        match action {
            Action::EnsureAgent => {
                let is_new = state.agent.is_none();
                state.agent.get_or_insert_default();
                Ok(changed(is_new))
            }
            Action::StoreSchedule(request) => {
                let image = request.jobs.first().map(|(_, container)| container.image.to_string());
                let agent = state.agent.as_mut().ok_or_else(missing)?;
                let schedule = agent.entry(request.name.clone()).or_insert_with(|| FakeSchedule {
                    role: request.role.clone(),
                    state: ScheduleState::Off,
                    before: ScheduleState::Off,
                    releases: BTreeMap::new(),
                });
                Ok(changed(
                    schedule.releases.insert(request.release.clone(), image.unwrap_or_default()).is_none(),
                ))
            }
            Action::SwitchSchedule { name, to, .. } => {
                let schedule =
                    state.agent.as_mut().and_then(|agent| agent.get_mut(name)).ok_or_else(missing)?;
                if to.release().is_some_and(|release| !schedule.releases.contains_key(release)) {
                    return Err(missing());
                }
                if schedule.state == *to {
                    return Ok(Outcome::AlreadyDone);
                }
                schedule.before = std::mem::replace(&mut schedule.state, to.clone());
                Ok(Outcome::Done(None))
            }
            Action::ForgetSchedules { name, releases } => {
                state.forget_schedules(name, releases);
                Ok(Outcome::Done(None))
            }
            Action::RemoveSchedule { name } => {
                Ok(changed(state.agent.as_mut().is_some_and(|agent| agent.remove(name).is_some())))
            }
            _ => Ok(changed(state.remove_unused_agent())),
        }
    }
}

impl State {
    pub(super) fn forget_schedules(&mut self, name: &ScheduleName, releases: &[ReleaseId]) {
        let Some(agent) = &mut self.agent else { return };
        if let Some(schedule) = agent.get_mut(name) {
            let meant = schedule.state.release().cloned();
            schedule
                .releases
                .retain(|release, _| !releases.contains(release) || meant.as_ref() == Some(release));
            if schedule.releases.is_empty() {
                agent.remove(name);
            }
        }
    }

    pub(super) fn revert_schedule(&mut self, name: &ScheduleName, from: &ScheduleState) {
        let schedule = self.agent.as_mut().and_then(|agent| agent.get_mut(name));
        if let Some(schedule) = schedule.filter(|schedule| schedule.state == *from) {
            std::mem::swap(&mut schedule.state, &mut schedule.before);
        }
    }

    pub(super) fn remove_unused_agent(&mut self) -> bool {
        let is_unused = self.agent.as_ref().is_some_and(BTreeMap::is_empty);
        if is_unused {
            self.agent = None;
        }
        is_unused
    }
}
