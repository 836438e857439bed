use serde::Serialize;

use crate::command::status;
use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Table, Tone};

/// Show the version that serves, by host and role.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Serving {
    host: String,
    role: String,
    /// Absent if no container runs.
    version: Option<String>,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::prepare(context).await?;
    let observed = sight.observe().await?;
    let project = &sight.loaded.chosen;
    let mut serving = Vec::new();
    for host in project.hosts() {
        let Some(seen) = observed.hosts.get(&host) else { continue };
        for role in project.roles.values().filter(|role| role.hosts.iter().any(|entry| entry.name == host)) {
            serving.push(Serving {
                host: host.to_string(),
                role: role.name.to_string(),
                version: seen
                    .current(project, &role.name)
                    .map(|container| status::version(project, container)),
            });
        }
    }
    context.ui.close();
    let mut table = Table::new(["host", "role", "version"]);
    for entry in &serving {
        table.row([
            (Tone::Strong, entry.host.clone()),
            (Tone::Plain, entry.role.clone()),
            (Tone::Plain, entry.version.clone().unwrap_or_else(|| "none".to_owned())),
        ]);
    }
    context.ui.result(&table.lines());
    context.ui.result_json(context.command, &serving);
    Ok(())
}
