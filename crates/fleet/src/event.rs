use std::time::Duration;

use freehold_model::HostName;
use freehold_plan::{Plan, StageKind, StepId};
use serde::Serialize;

/// Something that happened while a command ran. Consumers: the terminal, `--json`, logs.
///
/// Texts of hosts and containers in it are as they came: whoever shows them escapes control characters.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A session to a host is being opened.
    Connecting {
        /// The host.
        host: HostName,
    },
    /// The session is open.
    Connected {
        /// The host.
        host: HostName,
        /// How it let us in, or `local`.
        authentication: String,
        /// How long it took, milliseconds.
        elapsed_ms: u64,
    },
    /// Another deploy holds the lock and we wait for it.
    WaitingForLock {
        /// Who holds it.
        holder: String,
        /// The time until it expires, if it does, milliseconds.
        expires_in_ms: Option<u64>,
    },
    /// The lock is ours.
    Locked {
        /// The fencing number.
        fence: u64,
    },
    /// A client died in the middle of a rollout; it is finished or undone now.
    Recovering {
        /// The rollout's identifier.
        rollout: String,
        /// Whether it is finished (else undone).
        forward: bool,
    },
    /// The plan that is executed next.
    Planned {
        /// The plan.
        plan: Box<Plan>,
    },
    /// A stage begins.
    StageStarted {
        /// What it is.
        stage: StageKind,
    },
    /// A step begins.
    StepStarted {
        /// The host.
        host: HostName,
        /// The step.
        step: StepId,
        /// What it does, for people: `start app-web-3f2a`.
        title: String,
    },
    /// A step goes on.
    StepProgress {
        /// The host.
        host: HostName,
        /// The step.
        step: StepId,
        /// How far it is.
        progress: Progress,
    },
    /// A step has ended. It is in the journal already.
    StepFinished {
        /// The host.
        host: HostName,
        /// The step.
        step: StepId,
        /// How it ended.
        outcome: StepOutcome,
        /// How long it took, milliseconds.
        elapsed_ms: u64,
    },
    /// Something failed, and everything is being put back.
    PuttingBack {
        /// The cause, one line.
        cause: String,
    },
    /// A step was undone.
    Undone {
        /// The host.
        host: HostName,
        /// The step.
        step: StepId,
        /// What was undone, for people.
        title: String,
        /// Why it could not be, if it could not.
        error: Option<String>,
    },
    /// Something a person should know.
    Warning {
        /// The host, if it is about one.
        host: Option<HostName>,
        /// The text, one line.
        message: String,
    },
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Progress {
    /// An image is on its way.
    Transfer {
        /// Bytes sent.
        bytes_sent: u64,
        /// Bytes to send, if known.
        bytes_total: Option<u64>,
        /// Layers sent.
        layers_sent: u32,
        /// Layers that the host lacks.
        layers_total: u32,
    },
    /// A build step began or ended.
    Build {
        /// The line, as the builder gave it.
        line: String,
    },
    /// The application printed something.
    Output {
        /// The line, as it came.
        line: String,
    },
    /// What the step waits for now.
    Status {
        /// One line.
        text: String,
    },
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum StepOutcome {
    /// It changed something.
    Done {
        /// What is worth saying of it, such as `3 of 12 layers, 4.1 MB`.
        note: Option<String>,
    },
    /// There was nothing to change.
    AlreadyDone,
    /// It could not be done.
    Failed {
        /// The error with its causes, one line.
        error: String,
    },
    /// It was not begun because another step failed or the run was stopped.
    Skipped,
}

impl StepOutcome {
    /// Says whether the step did what it should.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::AlreadyDone)
    }
}

/// A consumer of events. It must not block.
pub trait Watch: Send + Sync {
    /// Takes an event.
    fn event(&self, event: Event);
}

/// Returns a span in whole milliseconds.
pub(crate) fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
