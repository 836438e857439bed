use freehold_model::{JobName, ReleaseId, ReleaseVersion};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunCause {
    /// It was due.
    Schedule,
    /// A person asked for it.
    Person,
}

/// How a run stands, or how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum RunState {
    /// It begins when another run has ended.
    Waiting,
    /// Its container runs.
    Running,
    /// Its command has ended.
    Ended {
        /// The exit code.
        exit_code: i64,
    },
    /// It took too long and was stopped.
    TimedOut,
    /// It never began, because another run of the job went on or waited.
    Skipped,
    /// It was stopped, or never began, because a later run took its place.
    Replaced,
    /// It was stopped, or never began, because the job was removed.
    Removed,
    /// It could not be started.
    NotStarted {
        /// Why not, one line.
        cause: String,
    },
    /// Nobody knows how it ended: its container went while the agent was not there, or the engine did not say.
    Lost {
        /// What is known, one line.
        cause: String,
    },
}

impl RunState {
    /// Says whether the run has not ended yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }

    /// Says whether the command ended with code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Ended { exit_code: 0 })
    }
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The job.
    pub job: JobName,
    /// Its number, counted from 1 for each job.
    pub run: u64,
    /// Why it began.
    pub cause: RunCause,
    /// When it was due, or when it was asked for.
    pub due_at: Timestamp,
    /// When its container was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The release whose image it has.
    pub release: ReleaseId,
    /// The version of that release.
    pub version: ReleaseVersion,
    /// Its container, as long as there is one.
    pub container: Option<String>,
    /// How it stands.
    pub state: RunState,
    /// The last lines of what it wrote, once it has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

/// The runs that are remembered, each job's latest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunList {
    /// The runs.
    pub runs: Vec<RunRecord>,
}

/// What a run wrote, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOutput {
    /// The run.
    pub run: RunRecord,
    /// The number of the first of `lines`, counted from 0 over everything that it wrote.
    pub first: u64,
    /// The lines from there on, or from the one that was asked for.
    pub lines: Vec<String>,
}
