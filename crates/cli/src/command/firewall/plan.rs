use std::collections::BTreeSet;

use freehold_model::HostName;
use freehold_plan::ruleset;
use serde::Serialize;

use crate::command::plan::PendingChanges;
use crate::context::Context;
use crate::error::CommandError;
use crate::filter;
use crate::guard::{Standing, Survey, difference, statements};
use crate::sight::Sight;
use crate::ui::{Line, Tone};

/// Show what `firewall apply` would change on each host, and change nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  freehold firewall plan\n  freehold firewall plan -h db-1 --table   # the table for `nft`"
)]
pub(crate) struct Args {
    /// Show the whole table as `nft` gets it.
    #[arg(long)]
    table: bool,

    /// Exit with 10 if a host differs from the deploy file, and with 0 if none does.
    #[arg(long, alias = "exit_code")]
    exit_code: bool,
}

#[derive(Debug, Serialize)]
struct PlannedHost {
    host: String,
    state: &'static str,
    gone: Vec<String>,
    come: Vec<String>,
    locks_out: bool,
    /// What containers publish and no rule is about.
    unguarded: Vec<String>,
    other_firewalls: Vec<String>,
    table: String,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::of_all_and(context, &[]).await?;
    let whole = &sight.loaded.whole;
    let survey = Survey::take(whole, &sight.hosts).await?;
    let names = filter::all_hosts(whole, &sight.loaded.chosen, &context.arguments);
    context.ui.close();
    let mut lines = Vec::new();
    for name in &names {
        lines.extend(host_lines(&survey, name));
        if arguments.table {
            let table = ruleset(&survey.wanted(name));
            lines.extend(table.lines().map(|line| Line::new().plain("    ").add(Tone::Faint, line)));
        }
    }
    context.ui.result(&lines);
    let planned: Vec<PlannedHost> = names.iter().map(|name| planned(&survey, name)).collect();
    context.ui.result_json(context.command, &planned);
    let has_changes = names.iter().any(|name| survey.standing(name) != Standing::InStep);
    if arguments.exit_code && has_changes { Err(PendingChanges.into()) } else { Ok(()) }
}

/// Shows what becomes of a host.
pub(super) fn host_lines(survey: &Survey, name: &HostName) -> Vec<Line> {
    let standing = survey.standing(name);
    let (tone, word) = match standing {
        Standing::InStep => (Tone::Good, "in step with the deploy file"),
        Standing::Absent => (Tone::Warn, "has no guard of this project"),
        Standing::Behind => (Tone::Warn, "differs from the deploy file"),
        Standing::Unseen => (Tone::Warn, "was applied; whether it is loaded only root can see"),
        Standing::Drifted => (Tone::Warn, "was changed on the host, or is not loaded; it will be as stored"),
    };
    let mut lines = vec![Line::new().add(Tone::Strong, name.as_str()).plain("  ").add(tone, word)];
    lines.extend(difference(&before(survey, name), &statements(&survey.wanted(name))));
    if standing != Standing::InStep && survey.locks_out(name) {
        let text = "  ! your own SSH connection is not let in: the change would undo itself";
        lines.push(Line::new().add(Tone::Bad, text));
    }
    for text in survey.unguarded(name) {
        let text = format!("  ! {text}: closed where everything else is, open elsewhere");
        lines.push(Line::new().add(Tone::Warn, text));
    }
    for firewall in survey.state(name).into_iter().flat_map(|state| &state.firewalls) {
        let text = format!("  {firewall} is at work, too: what it drops stays closed");
        lines.push(Line::new().add(Tone::Faint, text));
    }
    lines
}

fn before(survey: &Survey, name: &HostName) -> BTreeSet<String> {
    let has_any = survey.state(name).is_some_and(|state| !state.policies.is_empty());
    if has_any { statements(&survey.stored(name)) } else { BTreeSet::new() }
}

fn planned(survey: &Survey, name: &HostName) -> PlannedHost {
    let (before, after) = (before(survey, name), statements(&survey.wanted(name)));
    PlannedHost {
        host: name.to_string(),
        state: survey.standing(name).word(),
        gone: before.difference(&after).cloned().collect(),
        come: after.difference(&before).cloned().collect(),
        locks_out: survey.locks_out(name),
        unguarded: survey.unguarded(name).to_vec(),
        other_firewalls: survey.state(name).map(|state| state.firewalls.clone()).unwrap_or_default(),
        table: ruleset(&survey.wanted(name)),
    }
}
