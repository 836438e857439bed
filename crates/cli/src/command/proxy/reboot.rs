use std::collections::BTreeSet;

use freehold_model::HostName;
use freehold_plan::{Bridging, Handover, Incoming, handover};
use freehold_ssh::Prompt;

use super::operation::{self, Outcome, names};
use crate::audit::Act;
use crate::change::{Change, Held};
use crate::command::remove::Declined;
use crate::context::Context;
use crate::error::CommandError;
use crate::hook::Hook;

/// Replace the containers of the proxies, as after a change of `proxy: run:` or with a newer Freehold.
///
/// No connection is refused: a second proxy stands in while one takes the place of the other. The hooks
/// `pre-proxy-reboot` and `post-proxy-reboot` run around it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One host after another.
    #[arg(long)]
    rolling: bool,

    /// Do not ask.
    #[arg(short = 'y', long)]
    confirmed: bool,

    /// Without a second proxy: connections are refused for about a second.
    #[arg(long)]
    with_gap: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let (mut change, hosts) = Change::prepare_proxies(context).await?;
    let list = names(&hosts).join(", ");
    if arguments.with_gap && !arguments.confirmed {
        let question = format!("Refuse connections to {list} for a moment?");
        ask(context, &question).await?;
    }
    change.acts = vec![Act::everywhere("Rebooted proxy")];
    let bridging = if arguments.with_gap { Bridging::Gap } else { Bridging::StandIn };
    let groups: Vec<&[HostName]> = if arguments.rolling { hosts.chunks(1).collect() } else { vec![&hosts] };
    let outcome = change
        .under_lock(async |held| {
            let mut outcome = Outcome { hosts: names(&hosts), ..Outcome::default() };
            for (index, group) in groups.iter().enumerate() {
                change.hooks.run_for(Hook::PreProxyReboot, group).await?;
                replace(&change, held, (index, group), bridging, &mut outcome).await?;
                change.hooks.run_for(Hook::PostProxyReboot, group).await?;
            }
            Ok(outcome)
        })
        .await?;
    operation::show(context, &outcome, "new");
    Ok(())
}

async fn replace(
    change: &Change<'_>,
    held: &Held<'_, '_>,
    (index, group): (usize, &[HostName]),
    bridging: Bridging,
    outcome: &mut Outcome,
) -> Result<(), CommandError> {
    let done = held
        .carry_out(async |observed| {
            let request = Handover {
                project: &change.loaded.whole,
                id: change.numbered_id(index),
                hosts: group,
                incoming: Incoming::Same,
                bridging,
                kept: &BTreeSet::new(),
                drain: change.loaded.whole.timeouts.drain,
            };
            Ok(handover(&request, observed)?)
        })
        .await?;
    outcome.steps_done += done.report.done;
    outcome.steps_already_done += done.report.already_done;
    outcome.elapsed += done.report.elapsed;
    Ok(())
}

/// Asks a person, who may say no.
///
/// # Errors
/// [`Declined`].
pub(crate) async fn ask(context: &Context, question: &str) -> Result<(), CommandError> {
    if !context.ui.can_ask() {
        return Err(Declined::NobodyToAsk.into());
    }
    if context.ui.confirm(question).await { Ok(()) } else { Err(Declined::No.into()) }
}
