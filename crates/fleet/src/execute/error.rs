use std::fmt;

use freehold_model::{Diagnose, ErrorKind, Evidence, HostName};
use freehold_plan::{PlanKind, Step, StepId};

use crate::failures::{Failures, chain};
use crate::host::StepError;

/// A step that did not succeed, or could not be undone.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {title} on host `{host}`")]
pub struct StepFailure {
    /// The host.
    pub host: HostName,
    /// The step.
    pub step: StepId,
    /// What was tried, for people.
    pub title: String,
    /// Why it did not succeed.
    #[source]
    pub error: StepError,
}

/// A step that was not done or not undone because the run ended before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepLeft {
    /// The host.
    pub host: HostName,
    /// The step.
    pub step: StepId,
    /// What is left to do, for people.
    pub title: String,
}

impl StepLeft {
    pub(crate) fn to_do(step: &Step) -> Self {
        Self { host: step.host.clone(), step: step.id, title: step.action.to_string() }
    }

    pub(crate) fn to_undo(step: &Step) -> Self {
        Self { host: step.host.clone(), step: step.id, title: step.undo.to_string() }
    }
}

impl fmt::Display for StepLeft {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "host `{}`: {}", self.host, self.title)
    }
}

/// Whether everything that a plan had changed was put back.
#[derive(Debug, Clone)]
pub enum PutBack {
    /// Every host is as before.
    Complete,
    /// Some hosts are not.
    Incomplete {
        /// What could not be undone and why; the earlier steps of that host were left as they are then.
        failures: Vec<StepFailure>,
        /// Everything that is not undone, those failures included.
        left: Vec<StepLeft>,
    },
}

impl PutBack {
    /// Says whether every host is as before.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Complete => "everything was put back".to_owned(),
            Self::Incomplete { left, .. } => {
                let mut hosts: Vec<String> = left.iter().map(|left| format!("`{}`", left.host)).collect();
                hosts.sort();
                hosts.dedup();
                format!("not everything could be put back on host {}", hosts.join(", "))
            }
        }
    }

    pub(crate) fn help(&self) -> Vec<String> {
        let Self::Incomplete { failures, left } = self else { return Vec::new() };
        let mut help: Vec<String> = left
            .iter()
            .map(|left| {
                let cause = failures.iter().find(|failure| failure.step == left.step);
                match cause {
                    Some(failure) => format!("left on {left}: {}", chain(&failure.error)),
                    None => format!("left on {left}"),
                }
            })
            .collect();
        help.push(RESUME_OR_ABORT.to_owned());
        help
    }
}

const RESUME_OR_ABORT: &str = "when the hosts answer again: `freehold abort` puts the rest back, `freehold resume` tries the release again; \
     the next deploy does the former by itself";

/// Why a plan was not done.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The plan was written by another version.
    #[error("the plan has format {format}, which this version does not know")]
    Format {
        /// Its format.
        format: u32,
    },
    /// The plan is about a host that is not connected.
    #[error("the plan changes host `{host}`, which is not connected")]
    UnknownHost {
        /// The host.
        host: HostName,
    },
    /// The lock is that of a run that is in the middle of a rollout itself.
    #[error("the run that holds the deploy lock is in the middle of a rollout")]
    Busy,
    /// The journal could not be begun everywhere. Nothing was changed.
    #[error(transparent)]
    Begin(Failures),
    /// A step failed before the release was live.
    #[error("the rollout did not succeed; {}", put_back.describe())]
    Failed {
        /// The first failure.
        #[source]
        first: Box<StepFailure>,
        /// The failures of other hosts and later ones.
        others: Vec<StepFailure>,
        /// Whether every host is as before.
        put_back: PutBack,
    },
    /// Stopped by Ctrl-C before the release was live.
    #[error("interrupted; {}", put_back.describe())]
    Interrupted {
        /// Whether every host is as before.
        put_back: PutBack,
    },
    /// Stopped by Ctrl-C when there was no way back any more.
    #[error("interrupted; {}, {} left to do", live(*kind), count(left.len()))]
    InterruptedLive {
        /// What the plan was for.
        kind: PlanKind,
        /// What was not done.
        left: Vec<StepLeft>,
    },
    /// Another client has taken the lock over. Nothing was changed since.
    #[error("another client has taken over the deploy lock; this run changes nothing more")]
    Fenced {
        /// The host that said so.
        host: HostName,
    },
    /// The release is live, but what follows the switch was not done everywhere.
    #[error("{}, but {} could not be done", live(*kind), count(left.len()))]
    NeedsAttention {
        /// What the plan was for.
        kind: PlanKind,
        /// The first failure.
        #[source]
        first: Box<StepFailure>,
        /// The other failures.
        others: Vec<StepFailure>,
        /// Everything that was not done, the failures included.
        left: Vec<StepLeft>,
    },
}

fn live(kind: PlanKind) -> &'static str {
    match kind {
        PlanKind::Deploy | PlanKind::Rollback | PlanKind::CanaryPromote => "the new release is live",
        PlanKind::CanaryStart => "the new release is tried",
        PlanKind::CanaryAbort => "the release that was tried is being removed",
        PlanKind::Start => "the service is started",
        PlanKind::Stop => "the service is being stopped",
        PlanKind::Prune => "what is no longer needed is being removed",
        PlanKind::Remove => "the service is being removed",
        PlanKind::Accessory | PlanKind::Proxy | PlanKind::Maintenance | PlanKind::Live => {
            "what could be done is done"
        }
    }
}

fn count(steps: usize) -> String {
    if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") }
}

impl ExecuteError {
    /// Returns every failed step, the first failure first.
    #[must_use]
    pub fn failures(&self) -> Vec<&StepFailure> {
        match self {
            Self::Failed { first, others, .. } | Self::NeedsAttention { first, others, .. } => {
                std::iter::once(&**first).chain(others).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns whether everything was put back, if that was tried.
    #[must_use]
    pub fn put_back(&self) -> Option<&PutBack> {
        match self {
            Self::Failed { put_back, .. } | Self::Interrupted { put_back } => Some(put_back),
            _ => None,
        }
    }
}

impl Diagnose for ExecuteError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Format { .. } => ErrorKind::Configuration,
            Self::UnknownHost { .. } => ErrorKind::Bug,
            Self::Busy | Self::Fenced { .. } => ErrorKind::Locked,
            Self::Begin(failures) => failures.kind(),
            Self::Failed { put_back: PutBack::Incomplete { .. }, .. } | Self::NeedsAttention { .. } => {
                ErrorKind::NeedsAttention
            }
            Self::Failed { first, .. } => first.error.kind(),
            Self::Interrupted { put_back: PutBack::Incomplete { failures, .. } } if !failures.is_empty() => {
                ErrorKind::NeedsAttention
            }
            Self::Interrupted { .. } | Self::InterruptedLive { .. } => ErrorKind::Interrupted,
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        self.failures().into_iter().flat_map(|failure| failure.error.evidence()).collect()
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Format { .. } => vec!["use the version of freehold that made the plan".to_owned()],
            Self::Busy => {
                vec!["run this command after it, or from a hook that runs before or after".to_owned()]
            }
            Self::Begin(failures) => failures.help(),
            Self::UnknownHost { .. } => Vec::new(),
            Self::Fenced { .. } => vec!["see who deploys now: `freehold lock status`".to_owned()],
            Self::Failed { first, others, put_back } => {
                let mut help = also(others);
                help.extend(put_back.help());
                help.extend(first.error.help());
                help
            }
            Self::Interrupted { put_back } => put_back.help(),
            Self::InterruptedLive { left, .. } => {
                let mut help: Vec<String> = left.iter().map(|left| format!("not done on {left}")).collect();
                help.push("do the rest: `freehold resume`".to_owned());
                help
            }
            Self::NeedsAttention { first, others, left, .. } => {
                let failed = |id: StepId| first.step == id || others.iter().any(|other| other.step == id);
                let mut help = also(others);
                help.extend(
                    left.iter().filter(|left| !failed(left.step)).map(|left| format!("not done on {left}")),
                );
                help.push("do the rest when the cause is gone: `freehold resume`".to_owned());
                help.extend(first.error.help());
                help
            }
        }
    }
}

fn also(others: &[StepFailure]) -> Vec<String> {
    others.iter().map(|other| format!("also: {}", chain(other))).collect()
}
