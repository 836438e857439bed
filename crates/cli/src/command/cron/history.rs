use freehold_wire::agent::RunRecord;
use serde::Serialize;

use super::{find, minute, outcome, took};
use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone};

/// List the runs that are remembered, the latest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  freehold cron history\n  freehold cron history nightly --json")]
pub(crate) struct Args {
    /// The job; without it, those of all jobs.
    job: Option<String>,
}

#[derive(Debug, Serialize)]
struct ListedRun {
    host: String,
    #[serde(flatten)]
    run: RunRecord,
}

pub(super) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::prepare(context).await?;
    let schedules = match &arguments.job {
        Some(name) => vec![find::job(&sight, name).await?.0],
        None => find::schedules(&sight).await?,
    };
    let mut runs = Vec::new();
    for found in schedules {
        let host = found.host.to_string();
        let all = found.engine.job_runs(&found.schedule.name).await?.into_iter();
        let meant = all.filter(|run| arguments.job.as_ref().is_none_or(|job| *job == run.job.as_str()));
        runs.extend(meant.map(|run| ListedRun { host: host.clone(), run }));
    }
    context.ui.close();
    let mut table = Table::new(["host", "job", "run", "due", "took", "version", "result"]);
    for ListedRun { host, run } in &runs {
        table.row([
            (Tone::Strong, host.clone()),
            (Tone::Plain, run.job.to_string()),
            (Tone::Plain, run.run.to_string()),
            (Tone::Plain, minute(run.due_at)),
            (Tone::Faint, took(context, run)),
            (Tone::Faint, run.version.to_string()),
            outcome(&run.state),
        ]);
    }
    if table.is_empty() {
        context.ui.result(&[Line::new().plain("no runs yet: `freehold cron run JOB` begins one")]);
    } else {
        context.ui.result(&table.lines());
    }
    context.ui.result_json(context.command, &runs);
    Ok(())
}
