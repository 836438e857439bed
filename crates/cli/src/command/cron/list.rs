use freehold_model::{Overlap, Project, ScheduleState};
use freehold_wire::agent::RunRecord;
use jiff::Timestamp;
use serde::Serialize;

use super::find::{self, Found};
use super::{minute, outcome};
use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone};

/// List the scheduled jobs: when each runs, when next, and how its last run went.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// A job as it is listed.
#[derive(Debug, Serialize)]
pub(crate) struct ListedJob {
    host: String,
    role: String,
    job: String,
    schedule: String,
    overlap: Overlap,
    timeout_ms: Option<u64>,
    history: u32,
    state: &'static str,
    next_at: Option<Timestamp>,
    open: Vec<RunRecord>,
    last: Option<RunRecord>,
}

pub(super) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::prepare(context).await?;
    let found = find::schedules(&sight).await?;
    let jobs = jobs(&sight.loaded.chosen, &found);
    context.ui.close();
    if jobs.is_empty() {
        let text = "no scheduled jobs: they stand under `cron:` in the deploy file (`freehold docs cron`)";
        context.ui.result(&[Line::new().plain(text)]);
    } else {
        context.ui.result(&table(&jobs).lines());
    }
    context.ui.result_json(context.command, &jobs);
    Ok(())
}

/// Looks for the jobs of the project on its hosts.
pub(crate) async fn listed(sight: &Sight) -> Result<Vec<ListedJob>, CommandError> {
    Ok(jobs(&sight.loaded.chosen, &find::schedules(sight).await?))
}

/// Returns the jobs that are deployed, and those that the deploy file has and that are not.
fn jobs(project: &Project, found: &[Found]) -> Vec<ListedJob> {
    let mut jobs = Vec::new();
    for Found { host, schedule, .. } in found {
        let state = match schedule.state {
            ScheduleState::Off => "off",
            ScheduleState::Active { .. } => "active",
            ScheduleState::Paused { .. } => "paused",
        };
        jobs.extend(schedule.jobs.iter().map(|job| ListedJob {
            host: host.to_string(),
            role: schedule.role.to_string(),
            job: job.name.to_string(),
            schedule: job.schedule.to_string(),
            overlap: job.overlap,
            timeout_ms: job.timeout_ms,
            history: job.history,
            state,
            next_at: job.next_at,
            open: job.open.clone(),
            last: job.last.clone(),
        }));
    }
    for job in project.jobs.values() {
        let Some(host) = job.host.as_ref().filter(|host| project.hosts().contains(host)) else { continue };
        if jobs.iter().any(|listed| listed.job == job.name.as_str()) {
            continue;
        }
        jobs.push(ListedJob {
            host: host.to_string(),
            role: job.role.to_string(),
            job: job.name.to_string(),
            schedule: job.schedule.to_string(),
            overlap: job.overlap,
            timeout_ms: job.timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
            history: job.history.get(),
            state: "not deployed",
            next_at: None,
            open: Vec::new(),
            last: None,
        });
    }
    jobs
}

/// Lays jobs out.
pub(crate) fn table(jobs: &[ListedJob]) -> Table {
    let mut table = Table::new(["host", "job", "schedule", "next", "last run"]);
    for job in jobs {
        let next = match (job.next_at, job.state) {
            (Some(time), _) => (Tone::Plain, minute(time)),
            (None, state) => (Tone::Warn, state.to_owned()),
        };
        let last = match (job.open.first(), &job.last) {
            (Some(run), _) => outcome(&run.state),
            (None, Some(run)) => {
                let (tone, text) = outcome(&run.state);
                (tone, format!("{text} ({})", minute(run.ended_at.unwrap_or(run.due_at))))
            }
            (None, None) => (Tone::Faint, "never".to_owned()),
        };
        table.row([
            (Tone::Strong, job.host.clone()),
            (Tone::Plain, job.job.clone()),
            (Tone::Plain, job.schedule.clone()),
            next,
            last,
        ]);
    }
    table
}
