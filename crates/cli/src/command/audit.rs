use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Tone};

/// Show the last lines of the audit log of every host: who did what, and when.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many lines of each host.
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "50")]
    lines: u32,
}

#[derive(Debug, Serialize)]
struct HostAudit {
    host: String,
    lines: Vec<String>,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::of_everything(context).await?;
    let stem = sight.loaded.whole.stem();
    let count = arguments.lines;
    let answers = sight
        .hosts
        .each(|host| {
            let stem = stem.clone();
            async move { host.audit(&stem, count).await }
        })
        .await?;
    let audits: Vec<HostAudit> =
        answers.into_iter().map(|(host, lines)| HostAudit { host: host.to_string(), lines }).collect();
    context.ui.close();
    let mut lines = Vec::new();
    for audit in &audits {
        if !lines.is_empty() {
            lines.push(Line::new());
        }
        lines.push(Line::new().add(Tone::Strong, &audit.host));
        if audit.lines.is_empty() {
            lines.push(Line::new().plain("  ").add(Tone::Faint, "nothing yet"));
        }
        lines.extend(audit.lines.iter().map(|line| Line::new().plain("  ").plain(line)));
    }
    context.ui.result(&lines);
    context.ui.result_json(context.command, &audits);
    Ok(())
}
