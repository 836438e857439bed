use std::num::NonZeroU32;

use freehold_plan::Prune;
use serde::Serialize;

use crate::audit::Act;
use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Line, Tone, counted_items};

/// Remove containers and images that are no longer needed. A deploy does it by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Verb {
    /// Remove old containers, and images that no container is made from.
    All,
    /// Remove the tags that no container is made from.
    Images,
    /// Remove the containers that do not run, but for the newest of each role.
    Containers {
        /// How many to keep of each role; `retain_containers` of the deploy file, unless it is given.
        #[arg(long, value_name = "COUNT")]
        retain: Option<NonZeroU32>,
    },
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::All => "prune all",
            Verb::Images => "prune images",
            Verb::Containers { .. } => "prune containers",
        }
    }
}

#[derive(Debug, Serialize)]
struct Pruned {
    hosts: Vec<String>,
    steps_done: usize,
    steps_already_done: usize,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let mut change = Change::prepare_without_secrets(context).await?;
    let retain = change.project().retain_containers;
    let what = match arguments.verb {
        Verb::All => Prune { containers: Some(retain), images: true },
        Verb::Images => Prune { containers: None, images: true },
        Verb::Containers { retain: given } => {
            Prune { containers: Some(given.unwrap_or(retain)), images: false }
        }
    };
    let said = [(what.containers.is_some(), "Pruned containers"), (what.images, "Pruned images")];
    change.acts = said.into_iter().filter(|(is, _)| *is).map(|(_, text)| Act::everywhere(text)).collect();
    let done = change
        .carry_out(async |observed| {
            Ok(freehold_plan::prune(change.project(), change.release_id(), observed, what))
        })
        .await?;
    context.ui.close();
    let hosts: Vec<String> = done.plan.hosts.iter().map(ToString::to_string).collect();
    let removed = counted_items(done.report.done, "item");
    let text = format!("{removed} removed from {}", counted_items(hosts.len(), "host"));
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text)]);
    let result = Pruned { hosts, steps_done: done.report.done, steps_already_done: done.report.already_done };
    context.ui.result_json(context.command, &result);
    Ok(())
}
