//! A release that is tried beside the one that serves.

use std::collections::BTreeMap;

use freehold_model::{
    Author, Canary, ContainerName, HostName, Project, ProxyServiceName, Release, ReleaseId, Role, RoleName,
    SecretFingerprint, SecretName,
};
use serde::{Deserialize, Serialize};

use crate::images::image_of;
use crate::kamal_proxy::undo_waiting;
use crate::observed::{Observed, ObservedContainer, ObservedHost, ObservedProxy};
use crate::plan::{Action, OnFailure, Plan, PlanKind, StageKind, Undo};
use crate::rollout::{
    self, Extent, ImageSource, Namesakes, ProxyBoot, RolloutError, RolloutRequest, container_names,
    old_folders, readiness, roles_on, stop_timeout,
};
use crate::schedule;
use crate::stages::Stages;

mod error;

pub use error::CanaryError;

/// The targets of a proxy service that are tried with a part of its visitors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedCanary {
    /// The targets, `host:port`.
    pub targets: Vec<String>,
    /// How many of them are healthy.
    pub healthy: usize,
    /// How many of a hundred visitors go there; none where nobody does.
    pub percent: Option<u8>,
    /// How it compares with the service's own targets, where they are compared or were.
    pub verdict: Option<ObservedVerdict>,
    /// What became of the requests there, whoever sent them.
    pub all: ObservedSide,
}

/// How a comparison stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedVerdict {
    /// What was decided.
    pub state: VerdictState,
    /// Why, for people.
    pub why: String,
    /// What became of the requests at the release that serves.
    pub own: ObservedSide,
    /// What became of those at the release that is tried.
    pub tried: ObservedSide,
}

/// What a proxy decided about a release that is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictState {
    /// Nothing yet.
    Watching,
    /// It is as good.
    Passed,
    /// It is worse, or nothing was shown: nobody goes there any more.
    Aborted,
}

/// What became of the requests of one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedSide {
    /// How many there were.
    pub requests: u64,
    /// How many of them failed.
    pub errors: u64,
}

impl ObservedHost {
    /// Returns what a proxy service tries.
    #[must_use]
    pub fn canary_of(&self, service: &ProxyServiceName) -> Option<&ObservedCanary> {
        match &self.proxy {
            ObservedProxy::Running { routes, .. } => {
                routes.get(service).and_then(|route| route.canary.as_ref())
            }
            ObservedProxy::Absent | ObservedProxy::Stopped { .. } => None,
        }
    }

    /// Returns the release that is tried as long as any visitor goes there.
    #[must_use]
    pub fn live_canary(&self) -> Option<&Release> {
        let tried = self.canary.as_ref()?;
        let services = tried.roles.values().map(|recorded| &recorded.role.proxy_service);
        let mut splits = services.filter_map(|service| self.canary_of(service));
        splits.any(|canary| canary.percent.is_some()).then_some(tried)
    }

    /// Returns the release that is tried where the proxy does not run, so that nobody can tell whether visitors go there: what
    /// the proxy has stored it does again as soon as it starts.
    #[must_use]
    pub fn canary_in_doubt(&self) -> Option<&Release> {
        let tried = self.canary.as_ref()?;
        let is_proxied = tried.roles.values().any(|recorded| recorded.role.proxy.is_some());
        let runs = matches!(self.proxy, ObservedProxy::Running { .. });
        (is_proxied && !runs).then_some(tried)
    }

    /// Says whether a container belongs to the release that is tried.
    #[must_use]
    pub fn is_tried(&self, container: &ObservedContainer) -> bool {
        let is_of_it = |tried: &Release| container.release.as_ref() == Some(&tried.id);
        self.canary.as_ref().is_some_and(is_of_it) && !self.serves_what_was_tried()
    }

    /// Says whether the release that is noted as tried is the one that serves: it was promoted, and the note is still there.
    fn serves_what_was_tried(&self) -> bool {
        let Some(tried) = &self.canary else { return false };
        let services = tried.roles.values().map(|recorded| &recorded.role.proxy_service);
        let targets = services.filter_map(|service| self.route(service)).flat_map(|route| &route.targets);
        targets.filter_map(|target| target.split(':').next()).any(|host| {
            self.containers.iter().any(|container| {
                container.release.as_ref() == Some(&tried.id)
                    && (container.id.starts_with(host) || container.name.as_str() == host)
            })
        })
    }
}

/// Returns the part of a project whose roles are behind the proxy, or the other one.
fn part(project: &Project, is_proxied: bool) -> Project {
    let mut part = project.clone();
    part.roles.retain(|_, role| role.proxy.is_some() == is_proxied);
    part
}

fn seen<'a>(observed: &'a Observed, host: &HostName) -> Result<&'a ObservedHost, CanaryError> {
    Ok(observed.hosts.get(host).ok_or_else(|| RolloutError::NotObserved { host: host.clone() })?)
}

/// Plans starting a release beside the one that serves, on all hosts, as one transaction: its containers behind the proxy
/// run, and get the requests of some visitors. Its other roles and its jobs start when it is promoted.
///
/// # Errors
/// [`CanaryError`] when a host cannot; nothing has been changed then.
pub fn canary_start(
    request: &RolloutRequest<'_>,
    canary: &Canary,
    observed: &Observed,
) -> Result<Plan, CanaryError> {
    let project = request.project;
    let hosts = project.hosts();
    if project.roles.values().all(|role| role.proxy.is_none()) {
        return Err(CanaryError::NoProxy { service: project.stem() });
    }
    for host in &hosts {
        check(request, host, seen(observed, host)?)?;
    }
    let mut stages = Stages::default();
    rollout::build_and_deliver(&mut stages, request, observed, Extent::Tried)?;
    rollout::release_commands(&mut stages, request)?;
    let tried = part(project, true);
    let tried = RolloutRequest { project: &tried, ..request.clone() };
    rollout::boot(&mut stages, &tried, observed, &tried.project.hosts())?;
    stages.begin(StageKind::Commit, OnFailure::PutBack);
    for host in &hosts {
        let release = Box::new(rollout::release_of(request, host)?);
        stages.step(host, Action::RecordCanary { release }, Undo::ForgetCanary);
        for (role, _) in roles_on(tried.project, host) {
            let service = role.proxy_service.clone();
            let action = Action::StartCanary {
                subject: (&role.name).into(),
                service: service.clone(),
                containers: container_names(request, role)?,
                port: role.proxy.as_ref().map_or(80, |proxy| proxy.app_port),
                canary: Box::new(canary.clone()),
                deadline: project.timeouts.deploy,
            };
            stages.step(host, action, Undo::EndCanary { service, drain: project.timeouts.drain });
        }
    }
    watch(&mut stages, &tried)?;
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for host in &hosts {
        rollout::forget_release_commands(&mut stages, request, host)?;
    }
    Ok(plan(request, request.id.clone(), PlanKind::CanaryStart, stages))
}

/// Watches the containers. What the service is answered with says nothing about them.
fn watch(stages: &mut Stages, tried: &RolloutRequest<'_>) -> Result<(), CanaryError> {
    let duration = tried.project.timeouts.soak;
    if duration.is_zero() {
        return Ok(());
    }
    stages.begin(StageKind::Soak, OnFailure::PutBack);
    for host in tried.project.hosts() {
        let mut containers = Vec::new();
        for (role, _) in roles_on(tried.project, &host) {
            containers.extend(container_names(tried, role)?.into_iter().map(|name| (name, None)));
        }
        stages.step(&host, Action::Soak { containers, duration }, Undo::Nothing);
    }
    Ok(())
}

fn check(request: &RolloutRequest<'_>, host: &HostName, seen: &ObservedHost) -> Result<(), CanaryError> {
    let project = request.project;
    if let Some(tried) = &seen.canary {
        return Err(CanaryError::UnderWay { host: host.clone(), version: tried.version.clone() });
    }
    rollout::check_host(request, host, seen)?;
    for (role, _) in roles_on(project, host).filter(|(role, _)| role.proxy.is_some()) {
        if !seen.proxy.maker().is_freehold() {
            return Err(CanaryError::KamalProxy { host: host.clone() });
        }
        if seen.route(&role.proxy_service).is_none() {
            return Err(CanaryError::NotServed { host: host.clone(), role: role.name.clone() });
        }
        let names = container_names(request, role)?;
        if seen.serving(project, &role.name).iter().any(|container| names.contains(&container.name)) {
            return Err(CanaryError::AlreadyLive { host: host.clone(), version: request.version.clone() });
        }
    }
    Ok(())
}

/// What is needed to let a release serve that is tried.
#[derive(Debug, Clone)]
pub struct CanaryPromotion<'a> {
    /// The project as the deploy file has it.
    pub project: &'a Project,
    /// The identifier of the promotion; the release has one already.
    pub id: ReleaseId,
    /// The time, UTC, `2026-01-31T12:00:00Z`.
    pub created_at: String,
    /// Who promotes it.
    pub author: Author,
    /// Fingerprints of the secrets that the project names.
    pub secrets: BTreeMap<SecretName, SecretFingerprint>,
    /// Random bytes from which names are drawn.
    pub random: [u8; 16],
}

/// Plans letting a release serve that is tried, with the configuration that it was started with: all requests go to it, its
/// other roles and its jobs start, and the earlier release is stopped and can be gone back to. It is a rollout whose
/// containers run already.
///
/// # Errors
/// [`CanaryError`] when a host cannot; nothing has been changed then.
pub fn canary_promote(promotion: &CanaryPromotion<'_>, observed: &Observed) -> Result<Plan, CanaryError> {
    let (project, tried) = tried_project(promotion.project, observed)?;
    let hosts = project.hosts();
    // Only whether there are any counts from here on: the pages were written when it was started.
    let pages = tried.has_error_pages.then(|| ("404.html".to_owned(), String::new()));
    let request = RolloutRequest {
        project: &project,
        version: tried.version.clone(),
        id: tried.id.clone(),
        created_at: promotion.created_at.clone(),
        author: promotion.author.clone(),
        git_revision: tried.git_revision.clone(),
        secrets: promotion.secrets.clone(),
        random: promotion.random,
        image: ImageSource::OnHosts,
        proxy: ProxyBoot::Expect,
        error_pages: pages.into_iter().collect(),
        namesakes: Namesakes::Stay,
    };
    let before = without(observed, &tried.id);
    let mut stages = Stages::default();
    rollout::prepare_promotion(&mut stages, &request)?;
    start_again(&mut stages, &request, observed)?;
    let others = part(&project, false);
    let others = RolloutRequest { project: &others, ..request.clone() };
    rollout::boot(&mut stages, &others, &before, &others.project.hosts())?;
    rollout::commit(&mut stages, &request, &before, &hosts)?;
    rollout::soak(&mut stages, &request, &before, &hosts)?;
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for host in &hosts {
        clear(&mut stages, &project, (host, seen(observed, host)?));
    }
    let image = match project.roles.get(&project.primary_role).or_else(|| project.roles.values().next()) {
        Some(role) => image_of(&project, role, &request.version),
        None => tried.image.clone(),
    };
    rollout::retire(&mut stages, &request, &before, &image)?;
    Ok(plan(&request, promotion.id.clone(), PlanKind::CanaryPromote, stages))
}

/// Returns the project as it was when the release was started that is tried, and that release.
fn tried_project(project: &Project, observed: &Observed) -> Result<(Project, Release), CanaryError> {
    let known = project.hosts().into_iter().find_map(|host| observed.hosts.get(&host)?.canary.clone());
    let tried = known.ok_or_else(|| CanaryError::Nothing { service: project.stem() })?;
    let mut roles: BTreeMap<RoleName, Role> = BTreeMap::new();
    let mut whole = Project { jobs: BTreeMap::new(), ..project.clone() };
    for host in project.hosts() {
        let seen = seen(observed, &host)?;
        check_proxy(&host, seen)?;
        let release = seen.canary.as_ref().filter(|release| release.id == tried.id);
        let release = release
            .ok_or_else(|| CanaryError::Elsewhere { host: host.clone(), version: tried.version.clone() })?;
        for (name, recorded) in &release.roles {
            whole.jobs.extend(recorded.jobs.clone());
            match roles.get_mut(name) {
                Some(role) => role.hosts.extend(recorded.role.hosts.clone()),
                None => drop(roles.insert(name.clone(), recorded.role.clone())),
            }
            let service = &recorded.role.proxy_service;
            let canary = seen.canary_of(service);
            let verdict = canary.and_then(|canary| canary.verdict.as_ref());
            if let Some(verdict) = verdict.filter(|verdict| verdict.state == VerdictState::Aborted) {
                return Err(CanaryError::GivenUp { host: host.clone(), why: verdict.why.clone() });
            }
            // A proxy that starts again no longer knows why it has given the release up, but that it has.
            if recorded.role.proxy.is_some() && canary.is_none_or(|canary| canary.percent.is_none()) {
                let why = "it sends nobody there any more".to_owned();
                return Err(CanaryError::GivenUp { host: host.clone(), why });
            }
        }
    }
    whole.roles = roles;
    Ok((whole, tried))
}

/// Refuses to decide about a canary whose proxy cannot be asked.
fn check_proxy(host: &HostName, seen: &ObservedHost) -> Result<(), CanaryError> {
    match seen.canary_in_doubt() {
        Some(tried) => Err(CanaryError::ProxyDown { host: host.clone(), version: tried.version.clone() }),
        None => Ok(()),
    }
}

/// Returns what was seen, as if the release that is tried were not there.
fn without(observed: &Observed, tried: &ReleaseId) -> Observed {
    let mut before = observed.clone();
    for seen in before.hosts.values_mut() {
        seen.containers.retain(|container| container.release.as_ref() != Some(tried));
        seen.canary = None;
    }
    before
}

/// Makes sure that the containers that are tried run and are healthy.
fn start_again(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
) -> Result<(), CanaryError> {
    stages.begin(StageKind::Boot, OnFailure::PutBack);
    for host in request.project.hosts() {
        let seen = seen(observed, &host)?;
        for (role, _) in roles_on(request.project, &host).filter(|(role, _)| role.proxy.is_some()) {
            for container in container_names(request, role)? {
                let known = seen.containers.iter().find(|known| known.name == container);
                let known = known.filter(|known| seen.is_tried(known)).ok_or_else(|| {
                    CanaryError::NoContainer { host: host.clone(), role: role.name.clone() }
                })?;
                if !known.state.is_running() {
                    let undo = Undo::StopContainer { container: container.clone() };
                    let action =
                        Action::StartAgain { subject: (&role.name).into(), container: container.clone() };
                    stages.step(&host, action, undo);
                }
                let readiness = readiness(request.project, role, seen.proxy.maker());
                let undo = undo_waiting(&container, &readiness);
                let action = Action::AwaitHealthy { subject: (&role.name).into(), container, readiness };
                stages.step(&host, action, undo);
            }
        }
    }
    Ok(())
}

/// Plans giving up the release that is tried: nobody goes there any more, and its containers are removed.
///
/// # Errors
/// [`CanaryError::Nothing`] where none is tried on any host, [`CanaryError::ProxyDown`] where visitors may go to it again.
pub fn canary_abort(project: &Project, id: ReleaseId, observed: &Observed) -> Result<Plan, CanaryError> {
    let hosts = project.hosts();
    let tried = |host: &HostName| observed.hosts.get(host).and_then(|seen| seen.canary.as_ref());
    let Some(release) = hosts.iter().find_map(tried) else {
        return Err(CanaryError::Nothing { service: project.stem() });
    };
    let version = release.version.clone();
    let mut stages = Stages::default();
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for host in &hosts {
        if let Some(seen) = observed.hosts.get(host) {
            check_proxy(host, seen)?;
            end(&mut stages, project, (host, seen));
        }
    }
    Ok(Plan {
        format: Plan::FORMAT,
        id,
        kind: PlanKind::CanaryAbort,
        service: project.service.clone(),
        destination: project.destination.clone(),
        version: Some(version),
        hosts,
        stages: stages.finish(),
    })
}

/// Takes the targets that are tried out of the proxy, and forgets that anything is tried. Nothing is done where nothing is. Every
/// proxy service is told, whatever was seen of it: nothing may be forgotten or removed that visitors could be sent to.
pub(crate) fn clear(stages: &mut Stages, project: &Project, (host, seen): (&HostName, &ObservedHost)) {
    let Some(tried) = &seen.canary else { return };
    for recorded in tried.roles.values().filter(|recorded| recorded.role.proxy.is_some()) {
        let service = recorded.role.proxy_service.clone();
        let action = Action::EndCanary { service, drain: project.timeouts.drain };
        stages.step(host, action, Undo::Impossible);
    }
    stages.step(host, Action::ForgetCanary, Undo::Impossible);
}

/// Removes the release that is tried with its containers, jobs and files; one that serves by now only ends being tried.
pub(crate) fn end(stages: &mut Stages, project: &Project, (host, seen): (&HostName, &ObservedHost)) {
    let Some(tried) = &seen.canary else { return };
    clear(stages, project, (host, seen));
    if seen.serves_what_was_tried() {
        return;
    }
    let mut removed: Vec<ContainerName> = Vec::new();
    for container in seen.containers.iter().filter(|container| seen.is_tried(container)) {
        let Some(role) = &container.role else { continue };
        if container.state.is_running() {
            let action = Action::StopContainer {
                subject: role.into(),
                container: container.name.clone(),
                drain: None,
                timeout: project.roles.get(role).and_then(|role| stop_timeout(project, role)),
            };
            stages.step(host, action, Undo::Impossible);
        }
        let action = Action::RemoveContainer { container: container.name.clone() };
        stages.step(host, action, Undo::Impossible);
        removed.push(container.name.clone());
    }
    schedule::forget(stages, (host, seen), |id| *id == tried.id);
    let directories = old_folders(project, seen, &removed, "");
    if !directories.is_empty() {
        stages.step(host, Action::RemoveDirectories { directories }, Undo::Impossible);
    }
}

fn plan(request: &RolloutRequest<'_>, id: ReleaseId, kind: PlanKind, stages: Stages) -> Plan {
    Plan {
        format: Plan::FORMAT,
        id,
        kind,
        service: request.project.service.clone(),
        destination: request.project.destination.clone(),
        version: Some(request.version.clone()),
        hosts: request.project.hosts(),
        stages: stages.finish(),
    }
}
