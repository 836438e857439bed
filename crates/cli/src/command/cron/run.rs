use std::sync::Arc;

use freehold_model::{Diagnose, ErrorKind, Evidence, HostName, JobName};
use freehold_wire::agent::RunRecord;
use serde::Serialize;

use super::find::{self, Found};
use super::follow::{Until, follow};
use super::{outcome, took};
use crate::audit;
use crate::context::Context;
use crate::error::CommandError;
use crate::git;
use crate::sight::Sight;
use crate::ui::{Line, Tone};

/// Run a scheduled job now, show what it writes, and wait for its end.
///
/// It is a run like any other: what `overlap` says counts, and it is in the history. Ctrl-C stops the waiting, not the run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  freehold cron run nightly\n  freehold cron run nightly --detach")]
pub(crate) struct Args {
    /// The job.
    job: String,

    /// Do not wait for its end.
    #[arg(long)]
    detach: bool,
}

/// A run that did not go well.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// It ended badly, or never began.
    #[error("run {} of job `{}` on host `{host}`: {}", .run.run, .run.job, outcome(&.run.state).1)]
    Failed { host: HostName, run: Box<RunRecord> },
    /// Nobody waits for it any longer.
    #[error("interrupted; run {run} of job `{job}` goes on")]
    LeftAlone { job: JobName, run: u64 },
}

impl Diagnose for RunError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed { .. } => ErrorKind::Failed,
            Self::LeftAlone { .. } => ErrorKind::Interrupted,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Failed { run, .. } if run.started_at.is_none() => {
                vec![format!("see what runs: `freehold cron history {}`", run.job)]
            }
            Self::Failed { run, .. } => {
                vec![format!("read it again: `freehold cron logs {} {}`", run.job, run.run)]
            }
            Self::LeftAlone { job, run } => {
                vec![format!("watch it: `freehold cron logs {job} {run} --follow`")]
            }
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        Vec::new()
    }
}

#[derive(Debug, Serialize)]
struct Ran {
    host: String,
    run: RunRecord,
    lines: Vec<String>,
}

pub(super) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let sight = context.until_stopped(Sight::prepare(context)).await?;
    let (found, job) = context.until_stopped(find::job(&sight, &arguments.job)).await?;
    let run = found.engine.run_job(&found.schedule.name, &job).await?;
    let author = git::author(context).await;
    let act = (Arc::clone(&found.engine), format!("Ran job {job}, run {}", run.run));
    audit::write_down(context, &sight.loaded.chosen, &author.email, vec![act]).await;
    context.ui.close();
    if arguments.detach && run.state.is_open() {
        let text = format!(" run {} of {job} begins on {}", run.run, found.host);
        context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(text)]);
        let host = found.host.to_string();
        context.ui.result_json(context.command, &Ran { host, run, lines: Vec::new() });
        return Ok(());
    }
    wait(context, &found, run).await
}

async fn wait(context: &Context, found: &Found, run: RunRecord) -> Result<(), CommandError> {
    let (job, number) = (run.job.clone(), run.run);
    let seen = tokio::select! {
        seen = follow(context, found, (&job, number), Until::End) => seen?,
        () = context.process.stop.cancelled() => {
            return Err(RunError::LeftAlone { job, run: number }.into());
        }
    };
    if !seen.run.state.is_success() {
        return Err(RunError::Failed { host: found.host.clone(), run: Box::new(seen.run) }.into());
    }
    let text = format!(" run {number} of {job} is done on {} ({})", found.host, took(context, &seen.run));
    context.ui.note(Line::new().add(Tone::Good, context.ui.done_mark()).plain(text));
    let ran = Ran { host: found.host.to_string(), run: seen.run, lines: seen.lines };
    context.ui.result_json(context.command, &ran);
    Ok(())
}
