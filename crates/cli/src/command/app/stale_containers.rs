use freehold_plan::{StaleContainer, stale_containers, stop_stale};
use serde::Serialize;

use crate::audit::Act;
use crate::change::Change;
use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone};

/// List containers that run beside the one that serves, and stop them with `--stop`.
///
/// They are left by a deploy that was cut off. They cost memory, and jobs run twice.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stop them.
    #[arg(short, long)]
    stop: bool,
}

#[derive(Debug, Serialize)]
struct Stale {
    host: String,
    role: String,
    container: String,
    is_stopped: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let found = if arguments.stop {
        let mut change = Change::prepare_without_secrets(context).await?;
        change.acts = vec![Act::everywhere("Stopped stale containers")];
        let done = change
            .carry_out(async |observed| Ok(stop_stale(change.project(), change.release_id(), observed)))
            .await?;
        stale_containers(change.project(), &done.observed)
    } else {
        context.until_stopped(look(context)).await?
    };
    context.ui.close();
    let stale: Vec<Stale> = found
        .into_iter()
        .map(|entry| Stale {
            host: entry.host.to_string(),
            role: entry.role.to_string(),
            container: entry.container.to_string(),
            is_stopped: arguments.stop,
        })
        .collect();
    if stale.is_empty() {
        context.ui.result(&[Line::new().plain("no container runs beside the one that serves")]);
    } else {
        let mut table = Table::new(["host", "role", "container", ""]);
        for entry in &stale {
            let state = if entry.is_stopped { (Tone::Good, "stopped") } else { (Tone::Warn, "runs") };
            table.row([
                (Tone::Strong, entry.host.clone()),
                (Tone::Plain, entry.role.clone()),
                (Tone::Plain, entry.container.clone()),
                (state.0, state.1.to_owned()),
            ]);
        }
        context.ui.result(&table.lines());
        if !arguments.stop {
            let text = "`freehold app stale_containers --stop` stops them";
            context.ui.note(Line::new().add(Tone::Faint, text));
        }
    }
    context.ui.result_json(context.command, &stale);
    Ok(())
}

async fn look(context: &Context) -> Result<Vec<StaleContainer>, CommandError> {
    let sight = Sight::prepare(context).await?;
    let observed = sight.observe().await?;
    Ok(stale_containers(&sight.loaded.chosen, &observed))
}
