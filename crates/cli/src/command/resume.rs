use freehold_fleet::{Intent, Recovered};
use serde::Serialize;

use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Line, Tone};

/// Finish a rollout that was cut off.
///
/// The hosts remember what had been done. Every command that changes something does this, or the opposite, by itself
/// first: it finishes a release that is live everywhere and undoes any other.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Recovery {
    /// `nothing`, `finished` or `undone`.
    outcome: &'static str,
    rollout: Option<String>,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare(context, Build::No).await?;
    let recovered = change.recover(Intent::Forward).await?;
    show(context, &recovered);
    Ok(())
}

/// Shows what became of an unfinished rollout.
pub(crate) fn show(context: &Context, recovered: &Recovered) {
    context.ui.close();
    let mark = |text: String| Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text);
    let (recovery, line) = match recovered {
        Recovered::Nothing => (
            Recovery { outcome: "nothing", rollout: None },
            Line::new().plain("there is no unfinished rollout"),
        ),
        Recovered::Finished(report) => (
            Recovery { outcome: "finished", rollout: Some(report.rollout.to_string()) },
            mark(format!("rollout {} is finished", report.rollout)),
        ),
        Recovered::Undone { rollout, .. } => (
            Recovery { outcome: "undone", rollout: Some(rollout.to_string()) },
            mark(format!("everything is as it was before rollout {rollout}")),
        ),
    };
    context.ui.result(&[line]);
    context.ui.result_json(context.command, &recovery);
}
