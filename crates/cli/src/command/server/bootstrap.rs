use serde::Serialize;

use crate::change::Change;
use crate::command::setup;
use crate::context::Context;
use crate::error::CommandError;
use crate::hook::Hook;
use crate::ui::{Line, Tone, counted_items};

/// Make the hosts ready: install Docker where it is missing, then run the hook `docker-setup`.
///
/// A host without Docker gets the package `docker.io` of its own system (Debian, Ubuntu), which needs root or `sudo`
/// without a password. `freehold setup` does it too, and deploys.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Ready {
    hosts: Vec<String>,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_without_secrets(context).await?;
    let work = async || -> Result<(), CommandError> {
        setup::bootstrap(context, &change.hosts).await?;
        change.hooks.run(Hook::DockerSetup).await?;
        Ok(())
    };
    change.with_lock(work).await?;
    context.ui.close();
    let hosts: Vec<String> = change.project().hosts().iter().map(ToString::to_string).collect();
    let text = format!(" {} ready", counted_items(hosts.len(), "host"));
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(text)]);
    context.ui.result_json(context.command, &Ready { hosts });
    Ok(())
}
