//! Work with images and registries that is no plan: nothing that serves changes, so that it takes no lock.

use freehold_fleet::{Outcome, Progress, StepError, Work};

use crate::change::Change;
use crate::error::CommandError;

/// Does a piece of work and shows how it goes.
///
/// # Errors
/// What went wrong.
pub(crate) async fn show(
    change: &Change<'_>,
    name: &'static str,
    title: &str,
    act: impl AsyncFnOnce(Work<'_>) -> Result<Outcome, StepError>,
) -> Result<Outcome, CommandError> {
    let activity = change.context.ui.begin(name, title);
    let progress = |progress: Progress| match progress {
        Progress::Build { line } | Progress::Output { line } | Progress::Status { text: line } => {
            activity.line(&line);
        }
        Progress::Transfer { .. } => {}
    };
    let stop = &change.context.process.stop;
    let stem = change.project().stem();
    let outcome = act(Work { stem: &stem, secrets: &change.secrets, progress: &progress, stop }).await?;
    activity.done(note(&outcome));
    Ok(outcome)
}

/// Says what came of it.
pub(crate) fn note(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Done(note) => note.clone(),
        Outcome::AlreadyDone => Some("nothing to do".to_owned()),
    }
}
