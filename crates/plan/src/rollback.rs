use std::fmt;

use freehold_model::{
    ContainerName, Diagnose, ErrorKind, HostName, Project, Release, ReleaseId, ReleaseRole, ReleaseVersion,
    RoleName, ScheduleState,
};

use crate::canary;
use crate::images::image_of;
use crate::kamal_proxy::undo_waiting;
use crate::naming::{assets_directory, container_version, latest_image};
use crate::observed::{Observed, ObservedHost, ProxyMaker};
use crate::plan::{Action, OnFailure, Plan, PlanKind, StageKind, Undo};
use crate::request::AssetBridge;
use crate::rollout::{CANARY_HELP, PROXY_DOWN_HELP, proxy_files, readiness, stop_timeout};
use crate::schedule::{self, ensure_agent, schedule_name};
use crate::stages::Stages;

/// The release to go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackTarget {
    /// The newest release before the one that serves.
    Previous,
    /// The release of this identifier or version.
    Named(String),
}

impl fmt::Display for RollbackTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Previous => formatter.write_str("earlier release"),
            Self::Named(name) => write!(formatter, "release `{name}`"),
        }
    }
}

/// Why no rollback could be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// No host has such a release.
    #[error("there is no {} to go back to", .target)]
    NoRelease {
        /// What was asked for.
        target: RollbackTarget,
        /// The releases that there are, newest first.
        available: Vec<String>,
    },
    /// The release serves already.
    #[error("release `{release}` serves already")]
    AlreadyLive {
        /// The release.
        release: ReleaseId,
    },
    /// A release is tried, and visitors go there.
    #[error("version `{version}` is tried on host `{host}`, and visitors go there")]
    Canary {
        /// The host.
        host: HostName,
        /// The version.
        version: ReleaseVersion,
    },
    /// A release is tried, and whether visitors go there cannot be told.
    #[error(
        "version `{version}` is tried on host `{host}`, whose proxy does not run: it may send visitors there again"
    )]
    CanaryInDoubt {
        /// The host.
        host: HostName,
        /// The version.
        version: ReleaseVersion,
    },
    /// A host lacks the container of the release.
    #[error("host `{host}` no longer has the container of role `{role}` of release `{release}`")]
    NoContainer {
        /// The host.
        host: HostName,
        /// The role.
        role: RoleName,
        /// The release.
        release: ReleaseId,
    },
    /// The agent of a host lacks the jobs of the release.
    #[error("the agent on host `{host}` no longer has the jobs of role `{role}` of release `{release}`")]
    NoJobs {
        /// The host.
        host: HostName,
        /// The role.
        role: RoleName,
        /// The release.
        release: ReleaseId,
    },
    /// A name that follows from the project is too long or holds what Docker does not allow.
    #[error("cannot name the containers of the release")]
    Name(#[from] freehold_model::InvalidName),
}

impl Diagnose for RollbackError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoRelease { available, .. } if available.is_empty() => {
                vec!["only one release was ever deployed here; see `freehold releases`".to_owned()]
            }
            Self::NoRelease { available, .. } => vec![format!("there are: {}", available.join(", "))],
            Self::Name(_) => vec!["use a shorter service, role or version".to_owned()],
            Self::Canary { .. } => vec![CANARY_HELP.to_owned()],
            Self::CanaryInDoubt { .. } => vec![PROXY_DOWN_HELP.to_owned()],
            Self::AlreadyLive { .. } => vec!["see `freehold releases`".to_owned()],
            Self::NoContainer { release, .. } | Self::NoJobs { release, .. } => {
                vec![format!(
                    "deploy its version again: `freehold deploy --version` with that of `{release}`"
                )]
            }
        }
    }
}

/// Plans going back to an earlier release, with the configuration and secrets that it had: its own containers, which
/// the hosts have kept, are started again. Neither the registry nor the image on the laptop is needed.
///
/// # Errors
/// [`RollbackError`] when a host cannot go back; nothing has been changed then.
pub fn rollback(
    project: &Project,
    id: ReleaseId,
    target: &RollbackTarget,
    observed: &Observed,
) -> Result<Plan, RollbackError> {
    let hosts = project.hosts();
    for host in &hosts {
        let Some(seen) = observed.hosts.get(host) else { continue };
        if let Some(tried) = seen.live_canary() {
            return Err(RollbackError::Canary { host: host.clone(), version: tried.version.clone() });
        }
        if let Some(tried) = seen.canary_in_doubt() {
            return Err(RollbackError::CanaryInDoubt { host: host.clone(), version: tried.version.clone() });
        }
    }
    let chosen = choose(project, target, observed, &hosts)?;
    let mut stages = Stages::default();
    stages.begin(StageKind::Boot, OnFailure::PutBack);
    let mut switches: Vec<Switch> = Vec::new();
    for host in &hosts {
        let Some(seen) = observed.hosts.get(host) else { continue };
        let Some(release) = seen.releases.iter().find(|release| release.id == chosen.id) else { continue };
        let mut roles = Vec::new();
        check_jobs(project, (host, seen), release)?;
        if release.roles.values().any(|recorded| !recorded.jobs.is_empty()) {
            ensure_agent(&mut stages, host);
        }
        for (name, recorded) in &release.roles {
            let containers = containers(project, host, seen, release, name)?;
            share_assets(&mut stages, project, (host, seen), (release, recorded), &containers)?;
            for container in &containers {
                let runs =
                    seen.containers.iter().any(|seen| seen.name == *container && seen.state.is_running());
                let undo =
                    if runs { Undo::Nothing } else { Undo::StopContainer { container: container.clone() } };
                stages.step(
                    host,
                    Action::StartAgain { subject: name.into(), container: container.clone() },
                    undo,
                );
            }
            for container in &containers {
                let readiness = readiness(project, &recorded.role, seen.proxy.maker());
                let undo = undo_waiting(container, &readiness);
                let action =
                    Action::AwaitHealthy { subject: name.into(), container: container.clone(), readiness };
                stages.step(host, action, undo);
            }
            roles.push((recorded.clone(), containers));
        }
        switches.push((host.clone(), roles));
    }
    commit_and_soak(&mut stages, project, observed, (&chosen, &switches))?;
    retire(&mut stages, project, observed, &chosen, &switches);
    Ok(Plan {
        format: Plan::FORMAT,
        id,
        kind: PlanKind::Rollback,
        service: project.service.clone(),
        destination: project.destination.clone(),
        version: Some(chosen.version.clone()),
        hosts,
        stages: stages.finish(),
    })
}

fn live(project: &Project, seen: &ObservedHost) -> Option<ReleaseId> {
    seen.current(project, &project.primary_role).and_then(|container| container.release.clone())
}

fn choose(
    project: &Project,
    target: &RollbackTarget,
    observed: &Observed,
    hosts: &[HostName],
) -> Result<Release, RollbackError> {
    let primary = hosts.first().and_then(|host| observed.hosts.get(host));
    let live = primary.and_then(|seen| live(project, seen));
    let releases: Vec<&Release> = primary.map(|seen| seen.releases.iter().collect()).unwrap_or_default();
    let found = match target {
        RollbackTarget::Previous => {
            releases.iter().find(|release| live.as_ref().is_none_or(|live| release.id < *live))
        }
        RollbackTarget::Named(name) => releases
            .iter()
            .find(|release| release.id.as_str() == name)
            .or_else(|| releases.iter().find(|release| release.version.as_str() == name)),
    };
    let Some(release) = found else {
        let available = releases
            .iter()
            .filter(|release| Some(&release.id) != live.as_ref())
            .map(|release| format!("{} ({})", release.version, release.id))
            .collect();
        return Err(RollbackError::NoRelease { target: target.clone(), available });
    };
    if live.as_ref() == Some(&release.id) {
        return Err(RollbackError::AlreadyLive { release: release.id.clone() });
    }
    Ok((*release).clone())
}

fn containers(
    project: &Project,
    host: &HostName,
    seen: &ObservedHost,
    release: &Release,
    role: &RoleName,
) -> Result<Vec<ContainerName>, RollbackError> {
    let mut names: Vec<ContainerName> = seen
        .containers_of(project, role)
        .filter(|container| container.release.as_ref() == Some(&release.id))
        .map(|container| container.name.clone())
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(RollbackError::NoContainer {
            host: host.clone(),
            role: role.clone(),
            release: release.id.clone(),
        });
    }
    Ok(names)
}

/// Makes sure that a release that comes back has its assets, and that each has those of the other: whoever deployed in
/// between may have removed them.
fn share_assets(
    stages: &mut Stages,
    project: &Project,
    (host, seen): (&HostName, &ObservedHost),
    (release, recorded): (&Release, &ReleaseRole),
    containers: &[ContainerName],
) -> Result<(), RollbackError> {
    let role = &recorded.role;
    let (Some(assets), Some(_), Some(container)) = (&role.asset_path, &role.proxy, containers.first()) else {
        return Ok(());
    };
    let folder = |container: &ContainerName| {
        let version = container_version(project, &role.name, container)?;
        Some(format!("{}-{version}", role.name))
    };
    let Some(new) = folder(container) else { return Ok(()) };
    let old = seen.current(project, &role.name).and_then(|current| folder(&current.name));
    let bridge = AssetBridge {
        role: role.name.clone(),
        image: image_of(project, role, &release.version),
        path: assets.path.clone(),
        directory: assets_directory(project),
        container: ContainerName::parse(format!("{}-assets", project.role_prefix(&role.name)))?,
        old: old.filter(|old| *old != new),
        new,
    };
    stages.step(host, Action::BridgeAssets(bridge), Undo::Nothing);
    Ok(())
}

/// A host with the roles that come back and their containers.
type Switch = (HostName, Vec<(ReleaseRole, Vec<ContainerName>)>);

fn commit_and_soak(
    stages: &mut Stages,
    project: &Project,
    observed: &Observed,
    (chosen, switches): (&Release, &[Switch]),
) -> Result<(), RollbackError> {
    let error_pages = chosen.has_error_pages.then_some(chosen.version.as_str());
    stages.begin(StageKind::Commit, OnFailure::PutBack);
    for (host, roles) in switches {
        for (recorded, containers) in roles {
            let Some(settings) = &recorded.role.proxy else { continue };
            let service = recorded.role.proxy_service.clone();
            let proxy = maker(observed, host);
            let action = Action::SwitchTarget {
                subject: (&recorded.role.name).into(),
                service: service.clone(),
                containers: containers.clone(),
                settings: Box::new(settings.clone()),
                files: proxy_files(project, &recorded.role, error_pages),
                takes_over: None,
                drain: project.timeouts.drain,
                proxy,
                health_limit: proxy.health_limit(project),
            };
            let previous =
                observed.hosts.get(host).and_then(|seen| seen.route(&service)).cloned().map(Box::new);
            stages.step(host, action, Undo::RestoreRoute { service, previous });
        }
    }
    switch_jobs(stages, project, observed, (chosen, switches))?;
    if project.timeouts.soak.is_zero() {
        return Ok(());
    }
    stages.begin(StageKind::Soak, OnFailure::PutBack);
    for (host, roles) in switches {
        let counts = maker(observed, host).is_freehold();
        let containers = roles
            .iter()
            .flat_map(|(recorded, containers)| {
                let proxy = recorded.role.proxy.as_ref().filter(|_| counts);
                let service = proxy.map(|_| recorded.role.proxy_service.clone());
                containers.iter().map(move |container| (container.clone(), service.clone()))
            })
            .collect();
        stages.step(host, Action::Soak { containers, duration: project.timeouts.soak }, Undo::Nothing);
    }
    Ok(())
}

/// Checks that the agent of a host can run the jobs that the release had there.
fn check_jobs(
    project: &Project,
    (host, seen): (&HostName, &ObservedHost),
    release: &Release,
) -> Result<(), RollbackError> {
    for (role, _) in release.roles.iter().filter(|(_, recorded)| !recorded.jobs.is_empty()) {
        if !seen.agent.may_have(&schedule_name(project, role)?, &release.id) {
            let (host, role, release) = (host.clone(), role.clone(), release.id.clone());
            return Err(RollbackError::NoJobs { host, role, release });
        }
    }
    Ok(())
}

/// Lets the jobs run that the release had on each host, and no others.
fn switch_jobs(
    stages: &mut Stages,
    project: &Project,
    observed: &Observed,
    (chosen, switches): (&Release, &[Switch]),
) -> Result<(), RollbackError> {
    for host in project.hosts() {
        let Some(seen) = observed.hosts.get(&host) else { continue };
        let roles = switches.iter().find(|(name, _)| *name == host).map_or(&[][..], |(_, roles)| roles);
        let has_jobs = |role: &RoleName| {
            roles.iter().any(|(recorded, _)| recorded.role.name == *role && !recorded.jobs.is_empty())
        };
        for (recorded, _) in roles.iter().filter(|(recorded, _)| !recorded.jobs.is_empty()) {
            let role = &recorded.role.name;
            let to = ScheduleState::Active { release: chosen.id.clone() };
            schedule::switch(stages, &host, (&schedule_name(project, role)?, role), to);
        }
        schedule::switch_off(stages, (&host, seen), has_jobs);
    }
    Ok(())
}

fn maker(observed: &Observed, host: &HostName) -> ProxyMaker {
    observed.hosts.get(host).map(|seen| seen.proxy.maker()).unwrap_or_default()
}

fn retire(
    stages: &mut Stages,
    project: &Project,
    observed: &Observed,
    chosen: &Release,
    switches: &[Switch],
) {
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for (host, _) in switches {
        let Some(seen) = observed.hosts.get(host) else { continue };
        canary::clear(stages, project, (host, seen));
        for role in project.roles.values() {
            let serving = seen.serving(project, &role.name);
            for container in seen.containers_of(project, &role.name) {
                if !container.state.is_running() || container.release.as_ref() == Some(&chosen.id) {
                    continue;
                }
                let drains = serving.iter().any(|current| current.id == container.id)
                    && role.proxy.is_some()
                    && seen.proxy.maker().is_freehold();
                let action = Action::StopContainer {
                    subject: (&role.name).into(),
                    container: container.name.clone(),
                    drain: drains.then(|| (role.proxy_service.clone(), project.timeouts.drain)),
                    timeout: stop_timeout(project, role),
                };
                stages.step(host, action, Undo::StartContainer { container: container.name.clone() });
            }
        }
        let recorded = seen.releases.iter().find(|release| release.id == chosen.id);
        if let (Some(release), Some(latest)) = (recorded, latest_image(project)) {
            let action = Action::RecordRelease { release: Box::new(release.clone()), latest };
            stages.step(host, action, Undo::Nothing);
        }
    }
}
