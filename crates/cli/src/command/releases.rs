use std::collections::BTreeMap;

use freehold_model::{HostName, Project, Release, ReleaseId};
use freehold_plan::Observed;
use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone, ago, short_version};

/// List the releases that the hosts have kept, the newest first.
///
/// Each of them can be gone back to with `freehold rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Listed {
    release: String,
    version: String,
    image: String,
    created_at: String,
    author: String,
    git_revision: Option<String>,
    hosts: Vec<String>,
    /// Whether it serves on every host that has it.
    is_live: bool,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::prepare(context).await?;
    let observed = sight.observe().await?;
    let releases = releases(&sight.loaded.chosen, &observed);
    context.ui.close();
    let mut table = Table::new(["", "version", "release", "deployed", "by", "hosts"]);
    for release in &releases {
        let mark =
            if release.is_live { (Tone::Good, "live".to_owned()) } else { (Tone::Plain, String::new()) };
        table.row([
            mark,
            (Tone::Strong, short_version(&release.version).to_owned()),
            (Tone::Plain, release.release.clone()),
            (Tone::Plain, age(context, &release.created_at)),
            (Tone::Plain, release.author.clone()),
            (Tone::Plain, release.hosts.join(", ")),
        ]);
    }
    if table.is_empty() {
        context.ui.result(&[Line::new().plain("no releases yet: `freehold deploy` makes the first")]);
    } else {
        context.ui.result(&table.lines());
    }
    context.ui.result_json(context.command, &releases);
    Ok(())
}

/// Says how long ago a stored time was; the time itself if it cannot be read.
pub(crate) fn age(context: &Context, time: &str) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else { return time.to_owned() };
    let passed = context.now().duration_since(then);
    ago(std::time::Duration::try_from(passed).unwrap_or_default())
}

fn releases(project: &Project, observed: &Observed) -> Vec<Listed> {
    let mut found: BTreeMap<&ReleaseId, (&Release, Vec<&HostName>, bool)> = BTreeMap::new();
    for (host, seen) in &observed.hosts {
        for release in &seen.releases {
            let is_live = release.roles.keys().all(|role| {
                let current = seen.current(project, role).and_then(|container| container.release.as_ref());
                current == Some(&release.id)
            });
            let entry = found.entry(&release.id).or_insert((release, Vec::new(), true));
            entry.1.push(host);
            entry.2 &= is_live;
        }
    }
    // Identifiers begin with the time.
    let listed = found.into_values().rev().map(|(release, hosts, is_live)| Listed {
        release: release.id.to_string(),
        version: release.version.to_string(),
        image: release.image.to_string(),
        created_at: release.created_at.clone(),
        author: release.author.name.clone(),
        git_revision: release.git_revision.clone(),
        hosts: hosts.into_iter().map(ToString::to_string).collect(),
        is_live,
    });
    listed.collect()
}
