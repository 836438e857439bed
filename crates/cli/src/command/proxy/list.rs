use freehold_fleet::ServedService;
use serde::Serialize;

use super::operation::names;
use crate::context::Context;
use crate::error::CommandError;
use crate::filter;
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone};

/// List what the proxies of the hosts serve: whose it is, its targets and their health, and when certificates end.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct HostServices {
    host: String,
    /// None where no proxy runs.
    services: Option<Vec<ServedService>>,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::of_proxies(context).await?;
    let hosts = filter::proxy_hosts(&sight.loaded.whole, &sight.loaded.chosen, &context.arguments);
    let seen = sight.hosts.each(|host| async move { host.served_services().await }).await?;
    let all: Vec<HostServices> = seen
        .into_iter()
        .filter(|(host, _)| names(&hosts).contains(&host.to_string()))
        .map(|(host, services)| HostServices { host: host.to_string(), services })
        .collect();
    context.ui.close();
    let mut table = Table::new(["host", "service", "owner", "hosts", "targets", "state", "certificate ends"]);
    for HostServices { host, services } in &all {
        for service in services.iter().flatten() {
            table.row(row(host, service));
        }
    }
    let lines = if table.is_empty() { vec![Line::new().plain("nothing is served")] } else { table.lines() };
    context.ui.result(&lines);
    context.ui.result_json(context.command, &all);
    Ok(())
}

fn row(host: &str, service: &ServedService) -> [(Tone, String); 7] {
    let hosts = if service.hosts.is_empty() { "*".to_owned() } else { service.hosts.join(" ") };
    let targets: Vec<String> = service
        .targets
        .iter()
        .map(|target| match target.health.as_deref() {
            None | Some("healthy") => target.address.clone(),
            Some(health) => format!("{} ({health})", target.address),
        })
        .collect();
    let is_well =
        service.targets.iter().all(|target| target.health.as_deref().is_none_or(|is| is == "healthy"));
    let ends = service.certificates.iter().filter_map(|certificate| certificate.expires_at.as_deref()).min();
    [
        (Tone::Strong, host.to_owned()),
        (Tone::Plain, service.name.clone()),
        (Tone::Plain, service.owner.clone().unwrap_or_else(|| "-".to_owned())),
        (Tone::Plain, hosts),
        (if is_well { Tone::Plain } else { Tone::Warn }, targets.join(" ")),
        (if service.state == "running" { Tone::Good } else { Tone::Warn }, service.state.clone()),
        (Tone::Plain, ends.unwrap_or("-").to_owned()),
    ]
}
