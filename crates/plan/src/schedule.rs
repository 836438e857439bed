//! The schedules of roles: which release's jobs the agent of a host runs.

use std::collections::BTreeMap;

use freehold_model::{
    Destination, HostName, Project, ReleaseId, ReleaseVersion, RoleName, ScheduleName, ScheduleState,
    ScheduledJob, ServiceName,
};
use serde::{Deserialize, Serialize};

use crate::observed::ObservedHost;
use crate::plan::{Action, Undo};
use crate::request::ContainerRequest;
use crate::stages::Stages;

/// The label that names the schedule of a job's container.
pub const SCHEDULE_LABEL: &str = "freehold.schedule";

/// The label that names the job of a job's container.
pub const JOB_LABEL: &str = "freehold.job";

/// The jobs of a role in a release, complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest {
    /// The schedule.
    pub name: ScheduleName,
    /// The service.
    pub service: ServiceName,
    /// The destination.
    pub destination: Option<Destination>,
    /// The role.
    pub role: RoleName,
    /// The release.
    pub release: ReleaseId,
    /// Its version.
    pub version: ReleaseVersion,
    /// The jobs in the order of their names, each with its container, whose name is followed by the number of the run.
    pub jobs: Vec<(ScheduledJob, ContainerRequest)>,
}

/// The agent of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ObservedAgent {
    /// There is no container of that name.
    #[default]
    Absent,
    /// There is one and it does not run.
    Stopped,
    /// It runs.
    Running {
        /// The schedules of the project's service and destination.
        schedules: Vec<ObservedSchedule>,
    },
}

/// The schedule of a role, as the agent has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedSchedule {
    /// Its name.
    pub name: ScheduleName,
    /// The role.
    pub role: RoleName,
    /// Which jobs run.
    pub state: ScheduleState,
    /// The releases whose jobs are stored, with their images as they are tagged.
    pub releases: BTreeMap<ReleaseId, String>,
}

impl ObservedAgent {
    /// Says whether there is none.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        *self == Self::Absent
    }

    /// Returns the schedules, as far as they are known.
    #[must_use]
    pub fn schedules(&self) -> &[ObservedSchedule] {
        match self {
            Self::Running { schedules } => schedules,
            Self::Absent | Self::Stopped => &[],
        }
    }

    /// Says whether jobs need an image, by its tag: those that are meant, and those of releases that are left.
    pub(crate) fn needs_image(&self, reference: &str, is_left: impl Fn(&ReleaseId) -> bool) -> bool {
        self.schedules().iter().any(|schedule| {
            schedule.releases.iter().any(|(release, image)| {
                image == reference && (schedule.state.release() == Some(release) || is_left(release))
            })
        })
    }

    fn schedule(&self, name: &ScheduleName) -> Option<&ObservedSchedule> {
        self.schedules().iter().find(|schedule| schedule.name == *name)
    }

    /// Says whether the jobs of a release can run again, as far as is known.
    pub(crate) fn may_have(&self, name: &ScheduleName, release: &ReleaseId) -> bool {
        match self {
            Self::Absent => false,
            Self::Stopped => true,
            Self::Running { .. } => {
                self.schedule(name).is_some_and(|schedule| schedule.releases.contains_key(release))
            }
        }
    }
}

/// Returns the name of a role's schedule.
///
/// # Errors
/// [`freehold_model::InvalidName`] where it gets too long.
pub fn schedule_name(
    project: &Project,
    role: &RoleName,
) -> Result<ScheduleName, freehold_model::InvalidName> {
    ScheduleName::parse(project.role_prefix(role))
}

/// Makes sure of the agent of a host. One that was not needed before goes again when the plan is undone.
pub(crate) fn ensure_agent(stages: &mut Stages, host: &HostName) {
    stages.step(host, Action::EnsureAgent, Undo::RemoveAgentIfUnused);
}

/// Sets which jobs of a role run.
pub(crate) fn switch(
    stages: &mut Stages,
    host: &HostName,
    (name, role): (&ScheduleName, &RoleName),
    to: ScheduleState,
) {
    let undo = Undo::RevertSchedule { name: name.clone(), from: to.clone() };
    stages.step(host, Action::SwitchSchedule { subject: role.into(), name: name.clone(), to }, undo);
}

/// Ends the jobs of roles that have none on this host any longer: `has_jobs` says which have.
pub(crate) fn switch_off(
    stages: &mut Stages,
    (host, seen): (&HostName, &ObservedHost),
    has_jobs: impl Fn(&RoleName) -> bool,
) {
    for schedule in seen.agent.schedules() {
        if schedule.state != ScheduleState::Off && !has_jobs(&schedule.role) {
            switch(stages, host, (&schedule.name, &schedule.role), ScheduleState::Off);
        }
    }
}

/// Forgets the jobs of releases to which nobody can go back.
pub(crate) fn forget(
    stages: &mut Stages,
    (host, seen): (&HostName, &ObservedHost),
    is_gone: impl Fn(&ReleaseId) -> bool,
) {
    for schedule in seen.agent.schedules() {
        let is_meant = |release: &&ReleaseId| schedule.state.release() != Some(*release);
        let gone = schedule.releases.keys().filter(|release| is_gone(release)).filter(is_meant);
        let releases: Vec<ReleaseId> = gone.cloned().collect();
        if !releases.is_empty() {
            let action = Action::ForgetSchedules { name: schedule.name.clone(), releases };
            stages.step(host, action, Undo::Impossible);
        }
    }
}

/// Pauses the jobs of the project's roles, which the application stops with.
pub(crate) fn pause(stages: &mut Stages, project: &Project, (host, seen): (&HostName, &ObservedHost)) {
    for schedule in seen.agent.schedules().iter().filter(|schedule| runs_on(project, host, &schedule.role)) {
        if let ScheduleState::Active { release } = &schedule.state {
            let to = ScheduleState::Paused { release: release.clone() };
            switch(stages, host, (&schedule.name, &schedule.role), to);
        }
    }
}

/// Lets the jobs of the project's roles run again.
pub(crate) fn resume(stages: &mut Stages, project: &Project, (host, seen): (&HostName, &ObservedHost)) {
    for schedule in seen.agent.schedules().iter().filter(|schedule| runs_on(project, host, &schedule.role)) {
        if let ScheduleState::Paused { release } = &schedule.state {
            let to = ScheduleState::Active { release: release.clone() };
            switch(stages, host, (&schedule.name, &schedule.role), to);
        }
    }
}

fn runs_on(project: &Project, host: &HostName, role: &RoleName) -> bool {
    let role = project.roles.get(role);
    role.is_some_and(|role| role.hosts.iter().any(|entry| entry.name == *host))
}

/// Removes the schedules of roles with all that belongs to them, and the agent if nobody else needs it. What an agent
/// has that does not run is not known: then every role may have one.
pub(crate) fn remove(
    stages: &mut Stages,
    project: &Project,
    (host, seen): (&HostName, &ObservedHost),
    is_going: impl Fn(&RoleName) -> bool,
) {
    let names: Vec<ScheduleName> = match &seen.agent {
        ObservedAgent::Absent => return,
        ObservedAgent::Stopped => {
            let roles = project.roles.keys().filter(|role| is_going(role));
            roles.filter_map(|role| schedule_name(project, role).ok()).collect()
        }
        ObservedAgent::Running { schedules } => {
            let going = schedules.iter().filter(|schedule| is_going(&schedule.role));
            going.map(|schedule| schedule.name.clone()).collect()
        }
    };
    for name in names {
        stages.step(host, Action::RemoveSchedule { name }, Undo::Impossible);
    }
    stages.step(host, Action::RemoveAgentIfUnused, Undo::Impossible);
}
