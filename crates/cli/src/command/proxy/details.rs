use freehold_fleet::ProxyDetails;
use freehold_plan::ProxyMaker;
use serde::Serialize;

use super::operation::names;
use crate::context::Context;
use crate::error::CommandError;
use crate::filter;
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone};

/// Show the proxies of the hosts: whose they are, their image, and every service that they serve.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct HostProxy {
    host: String,
    /// None where there is no container.
    proxy: Option<ProxyDetails>,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::of_proxies(context).await?;
    let hosts = filter::proxy_hosts(&sight.loaded.whole, &sight.loaded.chosen, &context.arguments);
    let seen = sight.hosts.each(|host| async move { host.proxy_details().await }).await?;
    let all: Vec<HostProxy> = seen
        .into_iter()
        .filter(|(host, _)| names(&hosts).contains(&host.to_string()))
        .map(|(host, proxy)| HostProxy { host: host.to_string(), proxy })
        .collect();
    context.ui.close();
    let mut table = Table::new(["host", "proxy", "image", "state", "ports"]);
    let mut services = Table::new(["host", "service", "hosts", "targets", "state"]);
    for HostProxy { host, proxy } in &all {
        let Some(proxy) = proxy else {
            let nothing = || (Tone::Faint, "-".to_owned());
            table.row([
                (Tone::Strong, host.clone()),
                (Tone::Warn, "none".to_owned()),
                nothing(),
                nothing(),
                nothing(),
            ]);
            continue;
        };
        let maker = match proxy.maker {
            ProxyMaker::Freehold => "Freehold's",
            ProxyMaker::Kamal => "kamal-proxy",
        };
        let state = format!("{:?}", proxy.state).to_lowercase();
        table.row([
            (Tone::Strong, host.clone()),
            (Tone::Plain, maker.to_owned()),
            (Tone::Plain, proxy.image.clone()),
            (if proxy.state.is_running() { Tone::Good } else { Tone::Warn }, state),
            (Tone::Plain, proxy.ports.join(" ")),
        ]);
        for service in &proxy.services {
            services.row([
                (Tone::Strong, host.clone()),
                (Tone::Plain, service.name.clone()),
                (
                    Tone::Plain,
                    if service.hosts.is_empty() { "*".to_owned() } else { service.hosts.join(" ") },
                ),
                (Tone::Plain, service.targets.join(" ")),
                (if service.state == "running" { Tone::Good } else { Tone::Warn }, service.state.clone()),
            ]);
        }
    }
    let mut lines = table.lines();
    if !services.is_empty() {
        lines.push(Line::new());
        lines.extend(services.lines());
    }
    context.ui.result(&lines);
    context.ui.result_json(context.command, &all);
    Ok(())
}
