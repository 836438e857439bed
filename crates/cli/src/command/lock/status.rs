use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Tone, span};

/// Show who holds the deploy lock.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct LockStatus {
    is_held: bool,
    details: Option<String>,
    machine: Option<String>,
    pid: Option<u32>,
    /// Seconds until it may be taken over; absent if it never expires.
    expires_in_seconds: Option<u64>,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::of_lock(context).await?;
    let held = match sight.hosts.primary() {
        Some(primary) => primary.lock_status(&sight.loaded.whole.stem()).await?,
        None => None,
    };
    context.ui.close();
    let mut lines = Vec::new();
    match &held {
        None => lines.push(Line::new().plain("the deploy lock is free")),
        Some(held) => {
            lines.push(Line::new().add(Tone::Strong, "the deploy lock is held"));
            lines.extend(held.details.lines().map(|line| Line::new().plain("  ").plain(line)));
            if let Some(holder) = &held.holder {
                lines.push(Line::new().plain(format!("  Process: {} on {}", holder.pid, holder.machine)));
            }
            let expiry = match held.expires_in {
                Some(left) => format!("  Expires: in {} unless its holder is alive", span(left)),
                None => "  Expires: never; `freehold lock release` ends it".to_owned(),
            };
            lines.push(Line::new().add(Tone::Faint, expiry));
        }
    }
    context.ui.result(&lines);
    let status = LockStatus {
        is_held: held.is_some(),
        details: held.as_ref().map(|held| held.details.clone()),
        machine: held.as_ref().and_then(|held| Some(held.holder.as_ref()?.machine.clone())),
        pid: held.as_ref().and_then(|held| Some(held.holder.as_ref()?.pid)),
        expires_in_seconds: held.as_ref().and_then(|held| Some(held.expires_in?.as_secs())),
    };
    context.ui.result_json(context.command, &status);
    Ok(())
}
