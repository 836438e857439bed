use std::fmt;

use freehold_model::{
    Destination, JobName, Overlap, ReleaseId, ReleaseVersion, RoleName, Schedule, ScheduleName,
    ScheduleState, ServiceName,
};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::run::RunRecord;

/// Which agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentVersion {
    /// The version of Freehold.
    pub version: String,
    /// The number of its API.
    pub api: u32,
    /// When it started.
    pub started_at: Timestamp,
}

/// The jobs of a role in one release.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSet {
    /// The service.
    pub service: ServiceName,
    /// The destination.
    pub destination: Option<Destination>,
    /// The role.
    pub role: RoleName,
    /// The release's version.
    pub version: ReleaseVersion,
    /// The image as it is tagged, for people and for whoever removes images.
    pub image: String,
    /// The jobs, in the order of their names.
    pub jobs: Vec<ScheduledContainer>,
}

/// A job and the container in which it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledContainer {
    /// The job's name.
    pub name: JobName,
    /// When it runs, in UTC.
    pub schedule: Schedule,
    /// What happens when it is due while its last run goes on.
    pub overlap: Overlap,
    /// After how long a run is stopped, or none.
    pub timeout_ms: Option<u64>,
    /// How many of its runs are remembered.
    pub history: u32,
    /// What stands before the number of a run in the name of its container.
    pub container_prefix: String,
    /// The container.
    pub container: ContainerText,
    /// Further networks of the container.
    pub networks: Vec<String>,
}

/// The body of the Engine API's request that makes a container, as JSON. It holds secrets, so `Debug` does not show it.
#[derive(Clone)]
pub struct ContainerText(SecretString);

impl ContainerText {
    /// Takes the JSON.
    #[must_use]
    pub fn new(json: SecretString) -> Self {
        Self(json)
    }

    /// Returns the JSON.
    #[must_use]
    pub fn json(&self) -> &SecretString {
        &self.0
    }
}

impl fmt::Debug for ContainerText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ContainerText")
    }
}

impl Serialize for ContainerText {
    // The agent needs the secrets to start jobs while no client is there; they go to its socket and its file only.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for ContainerText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.into()))
    }
}

/// Stores the jobs of a release without running them. Storing them again replaces them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreRequest {
    /// The jobs.
    pub set: ScheduleSet,
    /// The holder's fencing number: refused where the agent has seen a greater one for this schedule.
    pub fence: u64,
}

/// Forgets the jobs of releases. Those of the release whose jobs run are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// The releases.
    pub releases: Vec<ReleaseId>,
    /// The holder's fencing number.
    pub fence: u64,
}

/// Decides which jobs run. The state before is remembered, for [`RevertRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    /// The new state; the jobs of its release must have been stored.
    pub to: ScheduleState,
    /// The holder's fencing number.
    pub fence: u64,
}

/// Goes back to the state before a switch, unless it is another one by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevertRequest {
    /// The state to which was switched.
    pub from: ScheduleState,
    /// The holder's fencing number.
    pub fence: u64,
}

/// The answer to a change of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleReply {
    /// Whether it changed anything.
    pub changed: bool,
    /// The state now.
    pub state: ScheduleState,
    /// How many runs are still ending, where the schedule was removed: ask again until there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ending_runs: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// All schedules, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleList {
    /// The schedules.
    pub schedules: Vec<ScheduleStatus>,
}

/// The schedule of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleStatus {
    /// Its name.
    pub name: ScheduleName,
    /// The service.
    pub service: ServiceName,
    /// The destination.
    pub destination: Option<Destination>,
    /// The role.
    pub role: RoleName,
    /// Which jobs run.
    pub state: ScheduleState,
    /// The releases whose jobs are stored.
    pub releases: Vec<StoredRelease>,
    /// The jobs of the release that is meant, in the order of their names.
    pub jobs: Vec<JobStatus>,
}

/// A release whose jobs are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredRelease {
    /// The release.
    pub release: ReleaseId,
    /// Its version.
    pub version: ReleaseVersion,
    /// Its image as it is tagged.
    pub image: String,
}

/// A job and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobStatus {
    /// Its name.
    pub name: JobName,
    /// When it runs, in UTC.
    pub schedule: Schedule,
    /// What happens when it is due while its last run goes on.
    pub overlap: Overlap,
    /// After how long a run is stopped, or none.
    pub timeout_ms: Option<u64>,
    /// How many of its runs are remembered.
    pub history: u32,
    /// When it is due next; none while it is paused.
    pub next_at: Option<Timestamp>,
    /// Its runs that have not ended, latest first, without what they wrote.
    pub open: Vec<RunRecord>,
    /// Its latest run that has ended, without what it wrote.
    pub last: Option<RunRecord>,
}
