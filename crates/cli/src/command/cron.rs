mod find;
mod follow;
mod history;
mod list;
mod logs;
mod run;

use freehold_wire::agent::{RunRecord, RunState};
use jiff::Timestamp;

pub(crate) use list::{ListedJob, listed, table};

use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Tone, span};

/// Work with scheduled jobs: what runs when, how it went, and a run right now.
///
/// The jobs are those that `cron:` had in the deploy file when the release that serves was deployed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(list::Args),
    History(history::Args),
    Run(run::Args),
    Logs(logs::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::List(_) => "cron list",
            Verb::History(_) => "cron history",
            Verb::Run(_) => "cron run",
            Verb::Logs(_) => "cron logs",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::List(arguments) => context.until_stopped(list::run(context, &arguments)).await,
        Verb::History(arguments) => context.until_stopped(history::run(context, &arguments)).await,
        Verb::Run(arguments) => run::run(context, &arguments).await,
        Verb::Logs(arguments) => logs::run(context, &arguments).await,
    }
}

/// Says how a run stands or ended.
fn outcome(state: &RunState) -> (Tone, String) {
    match state {
        RunState::Waiting => (Tone::Busy, "waits".to_owned()),
        RunState::Running => (Tone::Busy, "runs".to_owned()),
        RunState::Ended { exit_code: 0 } => (Tone::Good, "ok".to_owned()),
        RunState::Ended { exit_code } => (Tone::Bad, format!("ended with code {exit_code}")),
        RunState::TimedOut => (Tone::Bad, "took too long and was stopped".to_owned()),
        RunState::Skipped => (Tone::Warn, "skipped: another run went on".to_owned()),
        RunState::Replaced => (Tone::Warn, "a later run took its place".to_owned()),
        RunState::Removed => (Tone::Warn, "stopped because the job was removed".to_owned()),
        RunState::NotStarted { cause } => (Tone::Bad, format!("could not start: {cause}")),
        RunState::Lost { cause } => (Tone::Bad, format!("unknown: {cause}")),
    }
}

/// Writes a time as people read it.
fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Says how long a run took, or has taken so far.
fn took(context: &Context, run: &RunRecord) -> String {
    let Some(start) = run.started_at else { return String::new() };
    let passed = run.ended_at.unwrap_or_else(|| context.now()).duration_since(start);
    span(std::time::Duration::try_from(passed).unwrap_or_default())
}
