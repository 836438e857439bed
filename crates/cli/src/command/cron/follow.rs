use std::time::Duration;

use freehold_model::JobName;
use freehold_wire::agent::RunOutput;
use tokio::time::sleep;

use super::find::Found;
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::Line;

/// The pause between two looks at a run.
const PAUSE: Duration = Duration::from_millis(200);

/// Which lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Those that there are.
    Now,
    /// All until the run ends.
    End,
}

/// Shows what a run writes, and returns how it stands then.
///
/// # Errors
/// The agent does not answer, or does not know the run.
pub(super) async fn follow(
    context: &Context,
    found: &Found,
    (job, run): (&JobName, u64),
    until: Until,
) -> Result<RunOutput, CommandError> {
    let (mut next, mut all) = (0, Vec::new());
    loop {
        let mut seen = found.engine.run_output(&found.schedule.name, (job, run), next).await?;
        for line in &seen.lines {
            if context.ui.is_json() {
                // With `--json` standard output is the result alone; the lines are events.
                context.ui.log_line(found.host.as_str(), line);
            } else {
                context.ui.result(&[Line::new().plain(line.trim_end_matches('\r'))]);
            }
        }
        next = seen.first + u64::try_from(seen.lines.len()).unwrap_or_default();
        all.append(&mut seen.lines);
        if until == Until::Now || !seen.run.state.is_open() {
            return Ok(RunOutput { run: seen.run, first: 0, lines: all });
        }
        sleep(PAUSE).await;
    }
}
