use freehold_model::{HostName, Project};
use freehold_plan::{Observed, ObservedHost, ObservedSide, ObservedVerdict, VerdictState};
use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone, short_version};

/// Show which release is tried, who tries it, and how it compares with the one that serves.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// What a host tries beside a service.
#[derive(Debug, Serialize)]
pub(crate) struct CanaryStatus {
    host: String,
    service: String,
    version: String,
    release: String,
    /// How many of a hundred visitors try it; none where nobody does any more.
    percent: Option<u8>,
    targets: Vec<String>,
    healthy: usize,
    /// What became of the requests there, whoever sent them.
    all: ObservedSide,
    verdict: Option<ObservedVerdict>,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::prepare(context).await?;
    let observed = sight.observe().await?;
    let canaries = all(&sight.loaded.chosen, &observed);
    context.ui.close();
    let lines = if canaries.is_empty() {
        vec![Line::new().plain("no release is tried: `freehold canary start` begins")]
    } else {
        table(&canaries).lines()
    };
    context.ui.result(&lines);
    context.ui.result_json(context.command, &canaries);
    Ok(())
}

/// Returns what all hosts try.
pub(crate) fn all(project: &Project, observed: &Observed) -> Vec<CanaryStatus> {
    let hosts = project.hosts();
    let seen = hosts.iter().filter_map(|host| Some((host, observed.hosts.get(host)?)));
    seen.flat_map(|(host, seen)| of_host(host, seen)).collect()
}

fn of_host(host: &HostName, seen: &ObservedHost) -> Vec<CanaryStatus> {
    let Some(release) = &seen.canary else { return Vec::new() };
    let roles = release.roles.values().filter(|recorded| recorded.role.proxy.is_some());
    let status = roles.map(|recorded| {
        let service = &recorded.role.proxy_service;
        let canary = seen.canary_of(service);
        CanaryStatus {
            host: host.to_string(),
            service: service.to_string(),
            version: release.version.to_string(),
            release: release.id.to_string(),
            percent: canary.and_then(|canary| canary.percent),
            targets: canary.map(|canary| canary.targets.clone()).unwrap_or_default(),
            healthy: canary.map_or(0, |canary| canary.healthy),
            all: canary.map(|canary| canary.all).unwrap_or_default(),
            verdict: canary.and_then(|canary| canary.verdict.clone()),
        }
    });
    status.collect()
}

/// Lays them out.
pub(crate) fn table(canaries: &[CanaryStatus]) -> Table {
    let mut table = Table::new(["host", "tried", "visitors", "healthy", "requests", "errors", "verdict"]);
    for canary in canaries {
        let is_well = canary.healthy == canary.targets.len() && !canary.targets.is_empty();
        let visitors = canary.percent.map_or_else(|| "nobody".to_owned(), |percent| format!("{percent} %"));
        table.row([
            (Tone::Strong, canary.host.clone()),
            (Tone::Plain, format!("{} {}", canary.service, short_version(&canary.version))),
            (if canary.percent.is_some() { Tone::Plain } else { Tone::Warn }, visitors),
            (
                if is_well { Tone::Good } else { Tone::Warn },
                format!("{}/{}", canary.healthy, canary.targets.len()),
            ),
            (Tone::Plain, canary.all.requests.to_string()),
            (Tone::Plain, canary.all.errors.to_string()),
            verdict(canary.verdict.as_ref()),
        ]);
    }
    table
}

fn verdict(verdict: Option<&ObservedVerdict>) -> (Tone, String) {
    let Some(verdict) = verdict else { return (Tone::Faint, "-".to_owned()) };
    let (tone, word) = match verdict.state {
        VerdictState::Watching => (Tone::Busy, "watching"),
        VerdictState::Passed => (Tone::Good, "as good"),
        VerdictState::Aborted => (Tone::Bad, "given up"),
    };
    let why = if verdict.why.is_empty() { String::new() } else { format!(": {}", verdict.why) };
    (tone, format!("{word}{why}"))
}
