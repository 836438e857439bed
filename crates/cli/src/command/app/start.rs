use freehold_plan::start;

use crate::change::{Change, Done};
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Line, Tone, counted_items, span};
use serde::Serialize;

/// Start the newest containers again and send them the traffic.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Outcome {
    service: String,
    hosts: Vec<String>,
    steps_done: usize,
    steps_already_done: usize,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_without_secrets(context).await?;
    let done = change
        .carry_out(async |observed| Ok(start(change.project(), change.release_id(), observed)?))
        .await?;
    show(context, &done, "runs");
    Ok(())
}

/// Shows what became of a start or a stop.
pub(super) fn show(context: &Context, done: &Done, state: &str) {
    context.ui.close();
    let hosts: Vec<String> = done.plan.hosts.iter().map(ToString::to_string).collect();
    let text = format!(
        "{} {state} on {} ({})",
        done.plan.service,
        counted_items(hosts.len(), "host"),
        span(done.report.elapsed)
    );
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text)]);
    let result = Outcome {
        service: done.plan.service.to_string(),
        hosts,
        steps_done: done.report.done,
        steps_already_done: done.report.already_done,
    };
    context.ui.result_json(context.command, &result);
}
