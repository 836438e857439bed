use std::error::Error;
use std::fmt;

use freehold_fleet::{ExecuteError, PutBack, StepError};
use freehold_model::{Diagnose, ErrorKind, Evidence};

/// A rollout that did not succeed, told from its cause: first what went wrong on which host, then what was seen, then
/// what became of what had been changed, then what to try.
#[derive(Debug)]
pub(crate) struct RolloutFailure(ExecuteError);

impl RolloutFailure {
    pub(crate) fn new(error: ExecuteError) -> Self {
        Self(error)
    }

    fn put_back(&self) -> Option<Evidence> {
        // An interruption says it in its message.
        if !matches!(self.0, ExecuteError::Failed { .. }) {
            return None;
        }
        match self.0.put_back()? {
            PutBack::Complete => Some(Evidence {
                title: "what was put back".to_owned(),
                lines: vec!["everything: every host serves what it served before".to_owned()],
            }),
            PutBack::Incomplete { left, .. } => Some(Evidence {
                title: "what could not be put back".to_owned(),
                lines: left.iter().map(ToString::to_string).collect(),
            }),
        }
    }
}

impl fmt::Display for RolloutFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ExecuteError::Failed { first, .. } => match &first.error {
                StepError::Unhealthy(explanation) => formatter.write_str(&explanation.summary),
                // A hook runs here, not on the host of the stage that it comes before.
                StepError::Hook(hook) => hook.fmt(formatter),
                _ => first.fmt(formatter),
            },
            error => error.fmt(formatter),
        }
    }
}

impl Error for RolloutFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            ExecuteError::Failed { first, .. } => match &first.error {
                StepError::Unhealthy(_) => None,
                StepError::Hook(hook) => hook.source(),
                _ => first.source(),
            },
            error => error.source(),
        }
    }
}

impl Diagnose for RolloutFailure {
    fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    fn help(&self) -> Vec<String> {
        self.0.help()
    }

    fn evidence(&self) -> Vec<Evidence> {
        let mut evidence = self.0.evidence();
        evidence.extend(self.put_back());
        evidence
    }
}
