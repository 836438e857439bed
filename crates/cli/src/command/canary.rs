mod abort;
mod promote;
mod start;
mod status;
mod wait;

pub(crate) use status::{CanaryStatus, all, table};

use freehold_model::{Diagnose, ErrorKind, ReleaseVersion};
use serde::Serialize;

use crate::change::{Change, Done};
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Line, Tone, counted_items, short_version, span};

/// Try a release beside the one that serves: some visitors get it, and the proxies compare both.
///
/// `start` puts the release beside the one that serves, on all hosts, and sends a share of the visitors there. A release
/// that is worse is given up by the proxies at once, whether anybody looks or not. `wait` waits until they have decided, and
/// does what follows; `promote` does it before they have, unless one has given the release up, and `abort` ends it at any
/// time. Until then nothing else is deployed.
///
/// Which visitors, and what is worse: `canary:` in the deploy file, see `freehold docs canary`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold canary start --percent 5 --wait   # and promote or remove it\n  \
    freehold canary start --version v1.2.0\n  \
    freehold canary status\n  \
    freehold canary promote")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Start(start::Args),
    Status(status::Args),
    Wait(wait::Args),
    Promote(promote::Args),
    Abort(abort::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Start(_) => "canary start",
            Verb::Status(_) => "canary status",
            Verb::Wait(_) => "canary wait",
            Verb::Promote(_) => "canary promote",
            Verb::Abort(_) => "canary abort",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Start(arguments) => Box::pin(start::run(context, &arguments)).await,
        Verb::Status(arguments) => context.until_stopped(status::run(context, &arguments)).await,
        Verb::Wait(arguments) => Box::pin(wait::run(context, &arguments)).await,
        Verb::Promote(arguments) => promote::run(context, &arguments).await,
        Verb::Abort(arguments) => abort::run(context, &arguments).await,
    }
}

/// Only some of the hosts or roles were chosen.
#[derive(Debug, thiserror::Error)]
#[error("a release is tried on all hosts of the service or on none")]
struct Filtered;

impl Diagnose for Filtered {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn help(&self) -> Vec<String> {
        vec!["leave out `--hosts`, `--roles` and `--primary`".to_owned()]
    }
}

/// Refuses a part of the hosts or roles.
fn check_whole(change: &Change<'_>) -> Result<(), CommandError> {
    if change.loaded.is_filtered() { Err(Filtered.into()) } else { Ok(()) }
}

/// What became of a release that was tried.
#[derive(Debug, Serialize)]
struct Outcome {
    service: String,
    version: String,
    hosts: Vec<String>,
    /// `tried`, `passed` or `aborted`.
    state: &'static str,
    /// Why, where the proxies decided.
    why: Option<String>,
    steps_done: usize,
    steps_already_done: usize,
}

impl Outcome {
    fn of(done: &Done, state: &'static str) -> Self {
        Self {
            service: done.plan.service.to_string(),
            version: done.plan.version.as_ref().map(ToString::to_string).unwrap_or_default(),
            hosts: done.plan.hosts.iter().map(ToString::to_string).collect(),
            state,
            why: None,
            steps_done: done.report.done,
            steps_already_done: done.report.already_done,
        }
    }
}

/// Says what was done, and what comes next.
fn show(context: &Context, done: &Done, (outcome, text, next): (Outcome, &str, &str)) {
    context.ui.close();
    let version = done.plan.version.as_ref().map_or("", ReleaseVersion::as_str);
    let (service, version) = (&outcome.service, short_version(version));
    let hosts = counted_items(outcome.hosts.len(), "host");
    let text = format!("{service} {version} {text} on {hosts} ({})", span(done.report.elapsed));
    let mut lines = vec![Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text)];
    if !next.is_empty() {
        lines.push(Line::new().plain("  ").add(Tone::Faint, next));
    }
    context.ui.result(&lines);
    context.ui.result_json(context.command, &outcome);
}
