use std::collections::BTreeSet;

use freehold_fleet::{ProxyDetails, ProxyHistory};
use freehold_model::HostName;
use freehold_plan::{Bridging, ContainerState, Handover, Incoming, Observed, ProxyMaker, handover};
use serde::Serialize;

use crate::audit::Act;
use crate::change::Change;
use crate::command::proxy::{Outcome, ask, names};
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Line, Table, Tone, counted_items, span};

/// Take over servers that Kamal set up: Freehold's proxy takes the place of kamal-proxy.
///
/// The application goes on answering: no connection is refused. Routes, certificates and the state of the proxy are
/// carried over; kamal-proxy's container is kept, so that `--undo` gives the servers back. What is there and what will
/// change is shown first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  freehold adopt\n  freehold adopt --confirmed\n  freehold adopt --undo")]
pub(crate) struct Args {
    /// Give the servers back to kamal-proxy, with the routes of now.
    #[arg(long)]
    undo: bool,

    /// Do not ask.
    #[arg(short = 'y', long)]
    confirmed: bool,

    /// Without a second proxy: connections are refused for about a second.
    #[arg(long)]
    with_gap: bool,
}

#[derive(Debug, Serialize)]
struct Adoption {
    hosts: Vec<HostSight>,
    lock: Option<String>,
    /// Whether anything was changed.
    is_changed: bool,
    steps_done: usize,
}

/// What a host has.
#[derive(Debug, Serialize)]
struct HostSight {
    host: String,
    /// None where there is no proxy.
    proxy: Option<ProxyDetails>,
    /// Names of the hosts for which the proxy has certificates of its own.
    certificates: Vec<String>,
    containers: Vec<SeenContainer>,
    accessories: Vec<SeenContainer>,
    /// What will be done.
    change: Option<String>,
}

#[derive(Debug, Serialize)]
struct SeenContainer {
    name: String,
    image: String,
    state: ContainerState,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let (mut change, hosts) = Change::prepare_proxies(context).await?;
    let observed = change.observe().await?;
    let seen = look(&change, &hosts, &observed, arguments.undo).await?;
    let lock = match change.hosts.primary() {
        Some(primary) => primary.lock_status(&change.loaded.whole.stem()).await?.map(|held| held.details),
        None => None,
    };
    let concerned: Vec<HostName> = seen
        .iter()
        .filter(|(sight, _)| sight.change.is_some())
        .filter_map(|(sight, _)| hosts.iter().find(|host| host.as_str() == sight.host).cloned())
        .collect();
    let kept: BTreeSet<HostName> = seen
        .iter()
        .filter(|(_, history)| history.is_kept)
        .filter_map(|(sight, _)| hosts.iter().find(|host| host.as_str() == sight.host).cloned())
        .collect();
    let sights: Vec<HostSight> = seen.into_iter().map(|(sight, _)| sight).collect();
    let mut adoption = Adoption { hosts: sights, lock, is_changed: false, steps_done: 0 };
    show(context, &adoption);
    if concerned.is_empty() {
        context.ui.close();
        context.ui.result(&[Line::new().plain("there is nothing to change")]);
        context.ui.result_json(context.command, &adoption);
        return Ok(());
    }
    if !arguments.confirmed {
        let list = names(&concerned).join(", ");
        let question = match arguments.undo {
            false => format!("Let Freehold's proxy take over on {list}?"),
            true => format!("Give {list} back to kamal-proxy?"),
        };
        ask(context, &question).await?;
    }
    let act = if arguments.undo { "Gave back to kamal-proxy" } else { "Adopted by Freehold" };
    change.acts = vec![Act::everywhere(act)];
    let done = change
        .carry_out(async |observed| {
            let request = Handover {
                project: &change.loaded.whole,
                id: change.release_id(),
                hosts: &concerned,
                incoming: if arguments.undo { Incoming::Earlier } else { Incoming::Freehold },
                bridging: if arguments.with_gap { Bridging::Gap } else { Bridging::StandIn },
                kept: &kept,
                drain: change.loaded.whole.timeouts.drain,
            };
            Ok(handover(&request, observed)?)
        })
        .await?;
    context.ui.close();
    let hosts = counted_items(concerned.len(), "host");
    let text = match arguments.undo {
        false => format!("Freehold's proxy serves on {hosts} ({})", span(done.report.elapsed)),
        true => format!("kamal-proxy serves on {hosts} again ({})", span(done.report.elapsed)),
    };
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text)]);
    adoption.is_changed = true;
    adoption.steps_done = Outcome::of(&done).steps_done;
    context.ui.result_json(context.command, &adoption);
    Ok(())
}

/// Looks at everything that a person wants to know before the proxy of their servers is replaced.
async fn look(
    change: &Change<'_>,
    hosts: &[HostName],
    observed: &Observed,
    is_undo: bool,
) -> Result<Vec<(HostSight, ProxyHistory)>, CommandError> {
    let proxies = change.hosts.each(|host| async move { host.proxy_details().await }).await?;
    let histories = change.hosts.each(|host| async move { host.proxy_history().await }).await?;
    let accessories: Vec<_> = change.loaded.whole.accessories.values().cloned().collect();
    let beside = change
        .hosts
        .each(|host| {
            let name = freehold_fleet::Host::name(&*host).clone();
            let here: Vec<_> =
                accessories.iter().filter(|accessory| accessory.hosts.contains(&name)).cloned().collect();
            async move { host.look_at_accessories(&here.iter().collect::<Vec<_>>()).await }
        })
        .await?;
    let mut all = Vec::new();
    for (((host, proxy), (_, history)), (_, beside)) in proxies.into_iter().zip(histories).zip(beside) {
        if !hosts.contains(&host) {
            continue;
        }
        let containers = observed.hosts.get(&host).map(|seen| &seen.containers);
        let sight = HostSight {
            host: host.to_string(),
            change: describe(proxy.as_ref(), &history, is_undo),
            proxy,
            certificates: history.certificates.clone(),
            containers: containers
                .into_iter()
                .flatten()
                .map(|seen| SeenContainer {
                    name: seen.name.to_string(),
                    image: seen.image.clone(),
                    state: seen.state,
                })
                .collect(),
            accessories: beside
                .into_values()
                .map(|seen| SeenContainer {
                    name: seen.name.to_string(),
                    image: seen.image,
                    state: seen.state,
                })
                .collect(),
        };
        all.push((sight, history));
    }
    Ok(all)
}

/// Says what becomes of a host's proxy, if anything does.
fn describe(proxy: Option<&ProxyDetails>, history: &ProxyHistory, is_undo: bool) -> Option<String> {
    match (proxy.map(|proxy| proxy.maker), is_undo) {
        (Some(ProxyMaker::Kamal), false) => {
            let services = proxy.map_or(0, |proxy| proxy.services.len());
            Some(format!(
                "Freehold's proxy takes the place of kamal-proxy, with {}, {} and its state; kamal-proxy's container is kept",
                counted_items(services, "service"),
                counted_items(history.certificates.len(), "certificate"),
            ))
        }
        (None, false) => Some("Freehold's proxy is started: there is none".to_owned()),
        (Some(ProxyMaker::Freehold), true) if history.is_kept => Some(
            "the kamal-proxy that was there before takes its place again, with the routes of now".to_owned(),
        ),
        (Some(ProxyMaker::Freehold), true) => Some(
            "a new kamal-proxy takes its place, with the routes of now: the earlier one is gone".to_owned(),
        ),
        (Some(ProxyMaker::Freehold), false) | (Some(ProxyMaker::Kamal) | None, true) => None,
    }
}

fn show(context: &Context, adoption: &Adoption) {
    let mut table = Table::new(["host", "what", "name", "image", "state"]);
    let word = |state: ContainerState| format!("{state:?}").to_lowercase();
    let mut routes = Table::new(["host", "service", "hosts", "targets", "https", "state"]);
    for host in &adoption.hosts {
        let mut row = |what: &str, name: &str, image: &str, state: ContainerState| {
            let tone = if state.is_running() { Tone::Good } else { Tone::Faint };
            table.row([
                (Tone::Strong, host.host.clone()),
                (Tone::Plain, what.to_owned()),
                (Tone::Plain, name.to_owned()),
                (Tone::Plain, image.to_owned()),
                (tone, word(state)),
            ]);
        };
        if let Some(proxy) = &host.proxy {
            let what = if proxy.maker == ProxyMaker::Kamal { "kamal-proxy" } else { "Freehold's proxy" };
            row(what, "kamal-proxy", &proxy.image, proxy.state);
        }
        for container in &host.containers {
            row("application", &container.name, &container.image, container.state);
        }
        for accessory in &host.accessories {
            row("accessory", &accessory.name, &accessory.image, accessory.state);
        }
        for service in host.proxy.iter().flat_map(|proxy| &proxy.services) {
            let hosts = if service.hosts.is_empty() { "*".to_owned() } else { service.hosts.join(" ") };
            routes.row([
                (Tone::Strong, host.host.clone()),
                (Tone::Plain, service.name.clone()),
                (Tone::Plain, hosts),
                (Tone::Plain, service.targets.join(" ")),
                (Tone::Plain, if service.tls { "yes" } else { "no" }.to_owned()),
                (Tone::Plain, service.state.clone()),
            ]);
        }
    }
    let mut lines = table.lines();
    if !routes.is_empty() {
        lines.push(Line::new());
        lines.extend(routes.lines());
    }
    lines.push(Line::new());
    for host in &adoption.hosts {
        if !host.certificates.is_empty() {
            let text = format!("{}: certificates for {}", host.host, host.certificates.join(", "));
            lines.push(Line::new().plain(text));
        }
    }
    if let Some(details) = &adoption.lock {
        lines.push(Line::new().add(Tone::Warn, "the deploy lock is held:"));
        lines.extend(details.lines().map(|line| Line::new().plain("  ").plain(line)));
    }
    for host in &adoption.hosts {
        let text = host.change.as_deref().unwrap_or("nothing changes");
        lines.push(Line::new().add(Tone::Strong, &host.host).plain(": ").plain(text));
    }
    context.ui.result(&lines);
}
