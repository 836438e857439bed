use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Tone};

/// Release the deploy lock, whoever holds it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Released {
    was_held: bool,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::of_lock(context).await?;
    let was_held = match sight.hosts.primary() {
        Some(primary) => primary.break_lock(&sight.loaded.whole.stem()).await?,
        None => false,
    };
    context.ui.close();
    let line = if was_held {
        Line::new().add(Tone::Good, context.ui.done_mark()).plain(" the deploy lock is released")
    } else {
        Line::new().plain("the deploy lock was free")
    };
    context.ui.result(&[line]);
    context.ui.result_json(context.command, &Released { was_held });
    Ok(())
}
