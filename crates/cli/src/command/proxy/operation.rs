use std::time::Duration;

use freehold_model::HostName;
use freehold_plan::{ProxyVerb, proxy};
use serde::Serialize;

use crate::audit::Act;
use crate::change::{Change, Done};
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Line, Tone, counted_items, span};

/// What became of proxies.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) hosts: Vec<String>,
    pub(crate) steps_done: usize,
    pub(crate) steps_already_done: usize,
    #[serde(skip)]
    pub(crate) elapsed: Duration,
}

/// Boots, starts or stops the proxies of the chosen hosts.
pub(super) async fn run(context: &Context, verb: ProxyVerb, acts: &[&str]) -> Result<(), CommandError> {
    let (mut change, hosts) = Change::prepare_proxies(context).await?;
    change.acts = acts.iter().map(|act| Act::everywhere(*act)).collect();
    let done = change
        .carry_out(async |observed| {
            Ok(proxy(&change.loaded.whole, change.release_id(), (&hosts, observed), verb)?)
        })
        .await?;
    let state = if verb == ProxyVerb::Stop { "stopped" } else { "running" };
    show(context, &Outcome::of(&done), state);
    Ok(())
}

impl Outcome {
    pub(crate) fn of(done: &Done) -> Self {
        Self {
            hosts: names(&done.plan.hosts),
            steps_done: done.report.done,
            steps_already_done: done.report.already_done,
            elapsed: done.report.elapsed,
        }
    }
}

/// Returns the names of hosts.
pub(crate) fn names(hosts: &[HostName]) -> Vec<String> {
    hosts.iter().map(ToString::to_string).collect()
}

/// Shows what became of them.
pub(crate) fn show(context: &Context, outcome: &Outcome, state: &str) {
    context.ui.close();
    let hosts = counted_items(outcome.hosts.len(), "host");
    let text = format!("the proxy is {state} on {hosts} ({})", span(outcome.elapsed));
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text)]);
    context.ui.result_json(context.command, outcome);
}
