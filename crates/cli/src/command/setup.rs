use freehold_fleet::{EngineState, Failures, HostError};
use freehold_model::{Diagnose, ErrorKind, HostName};
use freehold_plan::ProxyBoot;

use crate::change::Change;
use crate::command::accessory::Setup;
use crate::command::deploy::{self, BuildArgs};
use crate::context::Context;
use crate::error::CommandError;
use crate::hook::Hook;
use crate::hosts::Hosts;
use crate::ui::{Line, Tone};

/// Make the hosts ready, then deploy.
///
/// A host without Docker gets it from the packages of its own system (Debian, Ubuntu, Fedora; from Docker's repository on
/// the kin of Red Hat), which needs root or `sudo` without a password. Hosts that have it are left as they are, so that
/// running it again does no harm. A host that does not reach its package sources, such as one in a private network,
/// gets the packages through this computer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  freehold setup\n  freehold setup -h web-3   # a host that was added")]
pub(crate) struct Args {
    #[command(flatten)]
    build: BuildArgs,
}

/// Hosts that have no Docker and cannot be given it.
#[derive(Debug, thiserror::Error)]
#[error("host {} has no Docker, and it cannot be installed from here", list(.hosts))]
struct NoEngine {
    hosts: Vec<(HostName, String)>,
}

fn list(hosts: &[(HostName, String)]) -> String {
    hosts.iter().map(|(host, system)| format!("`{host}` ({system})")).collect::<Vec<_>>().join(", ")
}

impl Diagnose for NoEngine {
    fn kind(&self) -> ErrorKind {
        ErrorKind::NotPermitted
    }

    fn help(&self) -> Vec<String> {
        vec![
            "it is installed where there is apt or dnf, as root or with `sudo` that asks for no password"
                .to_owned(),
            "otherwise install Docker by hand: https://docs.docker.com/engine/install/".to_owned(),
        ]
    }
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare(context, arguments.build.build()).await?;
    let accessories = Setup::prepare(context, &change.loaded.whole).await?;
    let make_ready = async || -> Result<(), CommandError> {
        bootstrap(context, &change.hosts).await?;
        if let Some(accessories) = &accessories {
            bootstrap(context, accessories.hosts()).await?;
        }
        change.hooks.run(Hook::DockerSetup).await?;
        Ok(())
    };
    change.with_lock(make_ready).await?;
    if let Some(accessories) = &accessories {
        accessories.boot().await?;
    }
    deploy::deploy(&change, arguments.build, ProxyBoot::Ensure).await
}

/// Installs Docker where it is missing.
///
/// # Errors
/// Every host that has none and cannot be given it.
pub(crate) async fn bootstrap(context: &Context, hosts: &Hosts) -> Result<(), CommandError> {
    let mut missing = Vec::new();
    let mut hopeless = Vec::new();
    for (name, state) in hosts.each(|host| async move { host.engine_state().await }).await? {
        match state {
            EngineState::Ready { .. } => {}
            EngineState::Absent { packages: Some(packages), system } => {
                missing.push((name, packages, system))
            }
            EngineState::Absent { packages: None, system } => hopeless.push((name, system)),
        }
    }
    if !hopeless.is_empty() {
        return Err(NoEngine { hosts: hopeless }.into());
    }
    if missing.is_empty() {
        return Ok(());
    }
    for (host, packages, system) in &missing {
        let text = format!(" {host}: installs the package {packages} on {system}");
        context.ui.note(Line::new().add(Tone::Strong, text));
    }
    let names: Vec<&str> = missing.iter().map(|(host, ..)| host.as_str()).collect();
    let activity = context.ui.begin("docker", &names.join(", "));
    let mut installs = tokio::task::JoinSet::new();
    for (name, ..) in &missing {
        let Some(host) = hosts.get(name) else { continue };
        let host = std::sync::Arc::clone(host);
        installs.spawn(async move { host.install_engine().await });
    }
    let outcomes: Vec<Result<(), HostError>> = installs.join_all().await;
    if let Some(failures) = Failures::of(outcomes.into_iter().filter_map(Result::err).collect()) {
        return Err(failures.into());
    }
    activity.done(None);
    Ok(())
}
