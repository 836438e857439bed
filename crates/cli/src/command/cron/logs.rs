use freehold_model::{Diagnose, ErrorKind, JobName};
use freehold_wire::agent::{RunOutput, RunState};

use super::find::{self, FindError};
use super::follow::{Until, follow};
use super::outcome;
use crate::context::Context;
use crate::error::{CommandError, UsageError};
use crate::sight::Sight;
use crate::ui::{Line, Tone};

/// Show what a run of a scheduled job wrote: its last 256 KiB.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold cron logs nightly      # of the latest run\n  \
    freehold cron logs nightly 17   # of that run, as `freehold cron history` numbers them")]
pub(crate) struct Args {
    /// The job.
    job: String,

    /// The number of the run; without it, the latest one that began.
    run: Option<u64>,

    /// Go on with new lines until the run ends.
    #[arg(short, long)]
    follow: bool,
}

/// The lines are shown, and there would be more.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; run {run} of job `{job}` goes on")]
struct StillRuns {
    job: JobName,
    run: u64,
}

impl Diagnose for StillRuns {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Interrupted
    }
}

pub(super) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    if context.ui.is_json() && arguments.follow {
        let message = "`--json` prints one object at the end, and `--follow` has none";
        return Err(UsageError::new(message).into());
    }
    let sight = context.until_stopped(Sight::prepare(context)).await?;
    let (found, job) = context.until_stopped(find::job(&sight, &arguments.job)).await?;
    let run = match arguments.run {
        Some(run) => run,
        None => {
            let runs = context.until_stopped(found.engine.job_runs(&found.schedule.name)).await?;
            let began = runs.iter().filter(|run| run.job == job && run.state != RunState::Skipped);
            let latest = began.map(|run| run.run).max();
            latest.ok_or_else(|| FindError::NoRun { job: job.clone() })?
        }
    };
    context.ui.close();
    let until = if arguments.follow { Until::End } else { Until::Now };
    let RunOutput { run, lines, .. } = tokio::select! {
        seen = follow(context, &found, (&job, run), until) => seen?,
        () = context.process.stop.cancelled() => return Err(StillRuns { job, run }.into()),
    };
    let (tone, text) = outcome(&run.state);
    let about = Line::new().add(Tone::Faint, format!("run {} of {} on {}: ", run.run, run.job, found.host));
    context.ui.note(about.add(tone, text));
    context
        .ui
        .result_json(context.command, &serde_json::json!({ "host": found.host, "run": run, "lines": lines }));
    Ok(())
}
