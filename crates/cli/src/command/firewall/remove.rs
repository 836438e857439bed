use std::sync::Arc;

use freehold_ssh::Prompt;
use serde::Serialize;

use crate::audit;
use crate::change::Change;
use crate::command::remove::Declined;
use crate::context::Context;
use crate::error::CommandError;
use crate::filter;
use crate::guard::{Survey, UNDO_AFTER};
use crate::ui::{Line, Tone, counted_items};

/// Take the guard off the hosts: everything that it closed is open again.
///
/// Where other projects guard the same host, only what this project let in goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not ask.
    #[arg(short = 'y', long)]
    confirmed: bool,
}

#[derive(Debug, Serialize)]
struct Removed {
    hosts: Vec<String>,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_every_host(context).await?;
    let whole = &change.loaded.whole;
    let names = filter::all_hosts(whole, change.project(), &context.arguments);
    if !arguments.confirmed {
        if !context.ui.can_ask() {
            return Err(Declined::NobodyToAsk.into());
        }
        let list = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if !context.ui.confirm(&format!("Open every port of {list} that the guard closed?")).await {
            return Err(Declined::No.into());
        }
    }
    let work = async || -> Result<_, CommandError> {
        let survey = Survey::take(whole, &change.hosts).await?;
        survey.remove(&change.hosts, &names, UNDO_AFTER).await
    };
    let removed = change.with_lock(work).await?;
    let acts = removed
        .iter()
        .filter_map(|name| Some((Arc::clone(change.hosts.get(name)?), "Removed firewall".to_owned())));
    audit::write_down(context, whole, &change.author.email, acts).await;
    context.ui.close();
    let text = format!(" the guard is removed from {}", counted_items(removed.len(), "host"));
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(text)]);
    let hosts = removed.iter().map(ToString::to_string).collect();
    context.ui.result_json(context.command, &Removed { hosts });
    Ok(())
}
