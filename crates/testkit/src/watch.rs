use std::sync::Arc;

use freehold_fleet::{Event, StepOutcome, Watch};
use parking_lot::Mutex;

/// Keeps every event.
#[derive(Debug, Clone, Default)]
pub struct RecordingWatch {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Watch for RecordingWatch {
    fn event(&self, event: Event) {
        self.events.lock().push(event);
    }
}

impl RecordingWatch {
    /// Returns every event so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// Returns what happened, one line per event, without progress, plans and times.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.events.lock().iter().filter_map(line).collect()
    }
}

fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Connecting { host } => format!("{host}: connecting"),
        Event::Connected { host, .. } => format!("{host}: connected"),
        Event::WaitingForLock { holder, .. } => format!("waiting for the lock: {holder}"),
        Event::Locked { fence } => format!("locked with fence {fence}"),
        Event::Recovering { rollout, forward: true } => format!("finishing {rollout}"),
        Event::Recovering { rollout, forward: false } => format!("undoing {rollout}"),
        Event::StageStarted { stage } => format!("stage {stage:?}"),
        Event::StepStarted { host, step, title } => format!("{host}: {step} begin: {title}"),
        Event::StepFinished { host, step, outcome, .. } => {
            let outcome = match outcome {
                StepOutcome::Done { .. } => "done".to_owned(),
                StepOutcome::AlreadyDone => "already done".to_owned(),
                StepOutcome::Failed { error } => format!("failed: {error}"),
                StepOutcome::Skipped => "skipped".to_owned(),
            };
            format!("{host}: {step} {outcome}")
        }
        Event::PuttingBack { cause } => format!("putting back: {cause}"),
        Event::Undone { host, step, title, error: None } => format!("{host}: {step} undone: {title}"),
        Event::Undone { host, step, title, error: Some(error) } => {
            format!("{host}: {step} not undone: {title}: {error}")
        }
        Event::Warning { host, message } => {
            let host = host.as_ref().map_or_else(String::new, |host| format!("{host}: "));
            format!("{host}warning: {message}")
        }
        _ => return None,
    })
}
