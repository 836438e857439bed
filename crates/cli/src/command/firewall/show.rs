use std::collections::BTreeMap;

use freehold_fleet::{GuardState, LoadedGuard};
use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::filter;
use crate::guard::{Standing, Survey, statements};
use crate::sight::Sight;
use crate::ui::{Line, Tone};

/// Show the guard of each host: what it lets in, for which projects, what it has dropped, and whether it was changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct ShownHost {
    host: String,
    state: &'static str,
    loaded: &'static str,
    at_boot: bool,
    pending: bool,
    projects: Vec<String>,
    rules: Vec<String>,
    dropped_packets: BTreeMap<String, u64>,
    other_firewalls: Vec<String>,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::of_all_and(context, &[]).await?;
    let whole = &sight.loaded.whole;
    let survey = Survey::take(whole, &sight.hosts).await?;
    let names = filter::all_hosts(whole, &sight.loaded.chosen, &context.arguments);
    context.ui.close();
    let mut lines = Vec::new();
    let mut shown = Vec::new();
    for name in &names {
        let Some(state) = survey.state(name) else { continue };
        let host = ShownHost {
            host: name.to_string(),
            state: survey.standing(name).word(),
            loaded: loaded(state),
            at_boot: state.is_enabled,
            pending: state.is_pending,
            projects: state.policies.keys().cloned().collect(),
            rules: statements(&survey.stored(name)).into_iter().collect(),
            dropped_packets: state.dropped.clone(),
            other_firewalls: state.firewalls.clone(),
        };
        lines.extend(host_lines(&host, survey.standing(name)));
        shown.push(host);
    }
    context.ui.result(&lines);
    context.ui.result_json(context.command, &shown);
    Ok(())
}

fn loaded(state: &GuardState) -> &'static str {
    match state.loaded {
        LoadedGuard::Absent => "no",
        LoadedGuard::AsStored => "as stored",
        LoadedGuard::Changed => "changed",
        LoadedGuard::Unknown => "yes",
        LoadedGuard::NotSeen => "not known: only root sees it",
    }
}

fn host_lines(host: &ShownHost, standing: Standing) -> Vec<Line> {
    let tone = if standing == Standing::InStep { Tone::Good } else { Tone::Warn };
    let mut lines = vec![Line::new().add(Tone::Strong, &host.host).plain("  ").add(tone, host.state)];
    let mut add = |name: &str, text: String| {
        if !text.is_empty() {
            lines.push(Line::new().add(Tone::Faint, format!("  {name:<9}")).plain(text));
        }
    };
    add("loaded", host.loaded.to_owned());
    add("at boot", if host.at_boot { "yes" } else { "no" }.to_owned());
    if host.pending {
        add("pending", "a change waits for its confirmation".to_owned());
    }
    add("projects", host.projects.join(", "));
    for rule in host.rules.iter().filter(|_| !host.projects.is_empty()) {
        add("", rule.clone());
    }
    let dropped: Vec<String> = host
        .dropped_packets
        .iter()
        .filter(|(_, packets)| **packets > 0)
        .map(|(reason, packets)| format!("{packets} {reason}"))
        .collect();
    add("dropped", dropped.join(", "));
    add("beside", host.other_firewalls.join(", "));
    lines
}
