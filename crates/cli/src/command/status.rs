use freehold_model::{HostName, Project};
use freehold_plan::{
    CertificateState, ContainerState, Observed, ObservedCertificate, ObservedContainer, ObservedHost,
    ObservedProxy,
};
use serde::Serialize;

use crate::command::accessory::{self, AccessoryStatus};
use crate::command::canary::{self, CanaryStatus};
use crate::command::cron::{self, ListedJob};
use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::summary;
use crate::ui::{Line, Table, Tone, ago};

/// Show what runs on every host: engine, proxy, containers, accessories and where requests go.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Status {
    service: String,
    destination: Option<String>,
    urls: Vec<String>,
    hosts: Vec<HostStatus>,
    accessories: Vec<AccessoryStatus>,
    jobs: Vec<ListedJob>,
    /// What is tried beside the release that serves.
    canaries: Vec<CanaryStatus>,
}

#[derive(Debug, Serialize)]
struct HostStatus {
    host: String,
    engine: String,
    proxy: &'static str,
    proxy_image: Option<String>,
    containers: Vec<ContainerStatus>,
    certificates: Vec<ObservedCertificate>,
}

/// A container of the service.
#[derive(Debug, Serialize)]
pub(crate) struct ContainerStatus {
    pub(crate) host: String,
    pub(crate) role: Option<String>,
    pub(crate) container: String,
    pub(crate) version: String,
    pub(crate) state: ContainerState,
    pub(crate) created_seconds: i64,
    /// Whether requests go to it, or, without a proxy, whether it is the newest that runs.
    pub(crate) is_current: bool,
    /// Whether the proxy answers its requests with a page instead, or lets them wait.
    pub(crate) is_closed: bool,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::of_everything(context).await?;
    let observed = sight.observe().await?;
    let project = &sight.loaded.chosen;
    let hosts = sight.loaded.whole.all_hosts();
    let hosts = hosts.iter().filter_map(|name| Some((name, observed.hosts.get(name)?)));
    let accessories = accessory::all(context, &sight.loaded.whole);
    let status = Status {
        service: project.service.to_string(),
        destination: project.destination.as_ref().map(ToString::to_string),
        urls: summary::urls(project),
        hosts: hosts.map(|(name, seen)| host_status(project, name, seen)).collect(),
        accessories: accessory::look(&sight, &accessories).await?,
        jobs: jobs(&sight, &observed).await?,
        canaries: canary::all(project, &observed),
    };
    context.ui.close();
    context.ui.result(&lines(context, &status));
    context.ui.result_json(context.command, &status);
    Ok(())
}

/// Looks for scheduled jobs, where there can be any.
async fn jobs(sight: &Sight, observed: &Observed) -> Result<Vec<ListedJob>, CommandError> {
    let has_agent = observed.hosts.values().any(|seen| !seen.agent.is_absent());
    if has_agent || !sight.loaded.whole.jobs.is_empty() { cron::listed(sight).await } else { Ok(Vec::new()) }
}

fn host_status(project: &Project, name: &HostName, seen: &ObservedHost) -> HostStatus {
    let (proxy, proxy_image) = match &seen.proxy {
        ObservedProxy::Absent => ("absent", None),
        ObservedProxy::Stopped { image, .. } => ("stopped", Some(image.clone())),
        ObservedProxy::Running { image, .. } => ("running", Some(image.clone())),
    };
    HostStatus {
        host: name.to_string(),
        engine: seen.engine.clone(),
        proxy,
        proxy_image,
        containers: containers(project, name, seen),
        certificates: match &seen.proxy {
            ObservedProxy::Running { routes, .. } => {
                routes.values().flat_map(|route| route.certificates.clone()).collect()
            }
            ObservedProxy::Absent | ObservedProxy::Stopped { .. } => Vec::new(),
        },
    }
}

/// Returns the containers of the project's destination on a host, the newest first.
pub(crate) fn containers(project: &Project, name: &HostName, seen: &ObservedHost) -> Vec<ContainerStatus> {
    let destination = project.destination.as_ref().map_or("", |destination| destination.as_str());
    seen.containers
        .iter()
        .filter(|container| container.destination == destination)
        .filter(|container| container.role.as_ref().is_none_or(|role| project.roles.contains_key(role)))
        .map(|container| {
            let current = container.role.as_ref().and_then(|role| seen.current(project, role));
            ContainerStatus {
                host: name.to_string(),
                role: container.role.as_ref().map(ToString::to_string),
                container: container.name.to_string(),
                version: version(project, container),
                state: container.state,
                created_seconds: container.created_seconds,
                is_current: current.is_some_and(|current| current.id == container.id),
                is_closed: container
                    .role
                    .as_ref()
                    .and_then(|role| seen.gate(&project.roles.get(role)?.proxy_service))
                    .is_some_and(|gate| !gate.is_open()),
            }
        })
        .collect()
}

/// Returns the version of a container: the tag of its image, which Kamal also puts at the end of its name.
pub(crate) fn version(project: &Project, container: &ObservedContainer) -> String {
    let image = container.image.strip_prefix(project.image.as_str()).and_then(|rest| rest.strip_prefix(':'));
    image.unwrap_or(&container.image).to_owned()
}

/// Returns Docker's word for a state, and how it looks.
pub(crate) fn state(container: &ContainerStatus) -> (Tone, String) {
    let word = format!("{:?}", container.state).to_lowercase();
    match (container.state, container.is_current) {
        (ContainerState::Running, true) if container.is_closed => {
            (Tone::Warn, format!("{word}, in maintenance"))
        }
        (ContainerState::Running, true) => (Tone::Good, format!("{word}, serves")),
        (ContainerState::Running, false) => (Tone::Plain, word),
        (ContainerState::Restarting | ContainerState::Dead | ContainerState::Paused, _) => (Tone::Bad, word),
        _ => (Tone::Faint, word),
    }
}

/// Lays containers out.
pub(crate) fn table<'a>(context: &Context, containers: impl Iterator<Item = &'a ContainerStatus>) -> Table {
    let mut table = Table::new(["host", "role", "container", "state", "created"]);
    for container in containers {
        let age = u64::try_from(context.now().as_second() - container.created_seconds).unwrap_or(0);
        table.row([
            (Tone::Strong, container.host.clone()),
            (Tone::Plain, container.role.clone().unwrap_or_default()),
            (Tone::Plain, container.container.clone()),
            state(container),
            (Tone::Faint, ago(std::time::Duration::from_secs(age))),
        ]);
    }
    table
}

/// Lays out the certificates that the proxies order.
fn certificates(status: &Status) -> Table {
    let mut table = Table::new(["host", "certificate", "state", ""]);
    for host in &status.hosts {
        for certificate in &host.certificates {
            let time = |time: &Option<String>| time.clone().unwrap_or_default();
            let (tone, word, more) = match certificate.state {
                CertificateState::Valid => {
                    (Tone::Good, "valid", format!("until {}", time(&certificate.expires_at)))
                }
                CertificateState::Ordering => (Tone::Warn, "being ordered", String::new()),
                CertificateState::Failed => {
                    let error = certificate.error.as_deref().unwrap_or_default();
                    let next = time(&certificate.next_order_at);
                    (Tone::Bad, "failed", format!("{error}; tried again at {next}, or by a deploy"))
                }
            };
            table.row([
                (Tone::Strong, host.host.clone()),
                (Tone::Plain, certificate.name.clone()),
                (tone, word.to_owned()),
                (Tone::Plain, more),
            ]);
        }
    }
    table
}

fn lines(context: &Context, status: &Status) -> Vec<Line> {
    let mut hosts = Table::new(["host", "engine", "proxy"]);
    for host in &status.hosts {
        let tone = if host.proxy == "running" { Tone::Good } else { Tone::Warn };
        hosts.row([
            (Tone::Strong, host.host.clone()),
            (Tone::Plain, host.engine.clone()),
            (tone, host.proxy.to_owned()),
        ]);
    }
    let mut lines = hosts.lines();
    if !status.accessories.is_empty() {
        lines.push(Line::new());
        lines.extend(accessory::table(&status.accessories).lines());
    }
    if !status.jobs.is_empty() {
        lines.push(Line::new());
        lines.extend(cron::table(&status.jobs).lines());
    }
    lines.push(Line::new());
    let containers = table(context, status.hosts.iter().flat_map(|host| &host.containers));
    if containers.is_empty() {
        lines.push(Line::new().plain("no containers of this service: `freehold deploy` starts them"));
    } else {
        lines.extend(containers.lines());
        lines.push(Line::new());
        if !status.canaries.is_empty() {
            lines.extend(canary::table(&status.canaries).lines());
            lines.push(Line::new());
        }
        let certificates = certificates(status);
        if !certificates.is_empty() {
            lines.extend(certificates.lines());
            lines.push(Line::new());
        }
        lines.push(Line::new().add(Tone::Faint, "url  ").plain(status.urls.join("  ")));
    }
    lines
}
