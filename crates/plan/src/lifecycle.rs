use freehold_model::{ContainerName, Diagnose, ErrorKind, HostName, Project, ReleaseId, Role, RoleName};

use crate::canary;
use crate::kamal_proxy::undo_waiting;
use crate::observed::{Observed, ObservedContainer, ObservedHost};
use crate::plan::{Action, OnFailure, Plan, PlanKind, StageKind, Undo};
use crate::rollout::{proxy_files, readiness, roles_on, stop_timeout};
use crate::schedule;
use crate::stages::Stages;

/// Why the service could not be planned to start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    /// A host has no container of a role.
    #[error("host `{host}` has no container of role `{role}` to start")]
    NoContainer {
        /// The host.
        host: HostName,
        /// The role.
        role: RoleName,
    },
}

impl Diagnose for LifecycleError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        vec!["deploy first: `freehold deploy`".to_owned()]
    }
}

/// Plans starting the newest container of every role again and sending it the traffic.
///
/// # Errors
/// [`LifecycleError::NoContainer`] when a role has none on a host.
pub fn start(project: &Project, id: ReleaseId, observed: &Observed) -> Result<Plan, LifecycleError> {
    let mut stages = Stages::default();
    let mut switches = Vec::new();
    stages.begin(StageKind::Boot, OnFailure::PutBack);
    for host in project.hosts() {
        let Some(seen) = observed.hosts.get(&host) else { continue };
        for (role, _) in roles_on(project, &host) {
            let names = startable(project, &host, seen, role)?;
            for name in &names {
                let runs = seen.containers.iter().any(|seen| seen.name == *name && seen.state.is_running());
                if !runs {
                    let undo = Undo::StopContainer { container: name.clone() };
                    let action = Action::StartAgain { subject: (&role.name).into(), container: name.clone() };
                    stages.step(&host, action, undo);
                }
            }
            for name in &names {
                let readiness = readiness(project, role, seen.proxy.maker());
                let undo = undo_waiting(name, &readiness);
                let (subject, container) = ((&role.name).into(), name.clone());
                stages.step(&host, Action::AwaitHealthy { subject, container, readiness }, undo);
            }
            if let Some(settings) = &role.proxy {
                let previous = seen.route(&role.proxy_service).cloned().map(Box::new);
                let files = proxy_files(project, role, error_pages(seen, &names));
                switches.push((host.clone(), role, settings, (names, files), (previous, seen.proxy.maker())));
            }
        }
    }
    stages.begin(StageKind::Commit, OnFailure::PutBack);
    for (host, role, settings, (containers, files), (previous, proxy)) in switches {
        let service = role.proxy_service.clone();
        let action = Action::SwitchTarget {
            subject: (&role.name).into(),
            service: service.clone(),
            containers,
            settings: Box::new(settings.clone()),
            files,
            takes_over: None,
            drain: project.timeouts.drain,
            proxy,
            health_limit: proxy.health_limit(project),
        };
        stages.step(&host, action, Undo::RestoreRoute { service, previous });
    }
    for host in project.hosts() {
        if let Some(seen) = observed.hosts.get(&host) {
            schedule::resume(&mut stages, project, (&host, seen));
        }
    }
    Ok(plan(project, id, PlanKind::Start, stages))
}

/// Returns the containers to start: those that serve, or the newest one with the others of its release.
fn startable(
    project: &Project,
    host: &HostName,
    seen: &ObservedHost,
    role: &Role,
) -> Result<Vec<ContainerName>, LifecycleError> {
    let serving = seen.serving(project, &role.name);
    let mut names: Vec<ContainerName> = if serving.is_empty() {
        let mut all = seen.containers_of(project, &role.name);
        let newest = all
            .next()
            .ok_or_else(|| LifecycleError::NoContainer { host: host.clone(), role: role.name.clone() })?;
        let beside = all.filter(|other| newest.release.is_some() && other.release == newest.release);
        std::iter::once(newest).chain(beside).map(|container| container.name.clone()).collect()
    } else {
        serving.iter().map(|container| container.name.clone()).collect()
    };
    names.sort();
    Ok(names)
}

/// Returns the version whose error pages go with a container.
fn error_pages<'a>(seen: &'a ObservedHost, names: &[ContainerName]) -> Option<&'a str> {
    let container = seen.containers.iter().find(|container| names.first() == Some(&container.name))?;
    let release = seen.releases.iter().find(|release| Some(&release.id) == container.release.as_ref())?;
    release.has_error_pages.then_some(release.version.as_str())
}

/// Plans taking the service out of the proxy and stopping its containers.
#[must_use]
pub fn stop(project: &Project, id: ReleaseId, observed: &Observed) -> Plan {
    let mut stages = Stages::default();
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for host in project.hosts() {
        let Some(seen) = observed.hosts.get(&host) else { continue };
        schedule::pause(&mut stages, project, (&host, seen));
        // A proxy that does not run may send visitors there again: then the note stays, and so do the containers.
        let is_in_doubt = seen.canary_in_doubt().is_some();
        if !is_in_doubt {
            canary::end(&mut stages, project, (&host, seen));
        }
        for (role, _) in roles_on(project, &host) {
            if seen.route(&role.proxy_service).is_some() {
                let action =
                    Action::RemoveTarget { service: role.proxy_service.clone(), proxy: seen.proxy.maker() };
                stages.step(&host, action, Undo::Impossible);
            }
            let runs = |container: &&ObservedContainer| {
                container.state.is_running() && (is_in_doubt || !seen.is_tried(container))
            };
            for container in seen.containers_of(project, &role.name).filter(runs) {
                let action = Action::StopContainer {
                    subject: (&role.name).into(),
                    container: container.name.clone(),
                    drain: None,
                    timeout: stop_timeout(project, role),
                };
                stages.step(&host, action, Undo::StartContainer { container: container.name.clone() });
            }
        }
    }
    plan(project, id, PlanKind::Stop, stages)
}

fn plan(project: &Project, id: ReleaseId, kind: PlanKind, stages: Stages) -> Plan {
    Plan {
        format: Plan::FORMAT,
        id,
        kind,
        service: project.service.clone(),
        destination: project.destination.clone(),
        version: None,
        hosts: project.hosts(),
        stages: stages.finish(),
    }
}
