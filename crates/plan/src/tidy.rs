use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use freehold_model::{ContainerName, HostName, Project, ReleaseId, ReleaseVersion, RoleName};

use crate::naming::{canary_file, latest_image, state_directory};
use crate::observed::{Observed, ObservedContainer, ObservedHost};
use crate::plan::{Action, OnFailure, Plan, PlanKind, StageKind, Undo};
use crate::request::Subject;
use crate::retention::{has_unused, is_built, is_ours};
use crate::rollout::stop_timeout;
use crate::schedule;
use crate::stages::Stages;

/// What is tidied up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prune {
    /// Whether containers that do not run go, but for the newest of each role.
    pub containers: Option<NonZeroU32>,
    /// Whether tags go that no container is made from.
    pub images: bool,
}

/// A part of the application on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppPart {
    /// Routes, containers, images and folders.
    Everything,
    /// The containers that do not run.
    Containers,
    /// The containers of one version.
    Version(ReleaseVersion),
    /// The images that no container is made from.
    Images,
    /// Folders and stored releases.
    Directories,
}

/// A container that runs beside the one that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleContainer {
    /// The host.
    pub host: HostName,
    /// Its role.
    pub role: RoleName,
    /// Its name.
    pub container: ContainerName,
}

/// Finds the containers that run beside the one that serves their role.
#[must_use]
pub fn stale_containers(project: &Project, observed: &Observed) -> Vec<StaleContainer> {
    let mut stale = Vec::new();
    for (host, seen) in hosts(project, observed) {
        for role in project.roles.keys() {
            let current = seen.current(project, role).map(|container| &container.id);
            let running = seen.containers_of(project, role).filter(|container| container.state.is_running());
            let is_stale =
                |container: &&ObservedContainer| Some(&container.id) != current && !seen.is_tried(container);
            for container in running.filter(is_stale) {
                let (host, role) = (host.clone(), role.clone());
                stale.push(StaleContainer { host, role, container: container.name.clone() });
            }
        }
    }
    stale
}

/// Plans stopping what [`stale_containers`] finds. The containers stay.
#[must_use]
pub fn stop_stale(project: &Project, id: ReleaseId, observed: &Observed) -> Plan {
    let mut stages = Stages::default();
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for StaleContainer { host, role, container } in stale_containers(project, observed) {
        let timeout = project.roles.get(&role).and_then(|role| stop_timeout(project, role));
        let action = Action::StopContainer {
            subject: Subject::Role(role),
            container: container.clone(),
            drain: None,
            timeout,
        };
        stages.step(&host, action, Undo::StartContainer { container });
    }
    plan(project, id, PlanKind::Stop, stages)
}

/// Plans tidying up. What is counted is counted for each role by itself, and other destinations are left alone: Kamal
/// counts all of a service together and so removes what another role or destination would go back to.
#[must_use]
pub fn prune(project: &Project, id: ReleaseId, observed: &Observed, what: Prune) -> Plan {
    let mut stages = Stages::default();
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for (host, seen) in hosts(project, observed) {
        let old = what.containers.map(|retain| old_containers(project, seen, retain)).unwrap_or_default();
        for container in &old {
            let action = Action::RemoveContainer { container: container.name.clone() };
            stages.step(host, action, Undo::Impossible);
        }
        if what.images {
            remove_unused_images(&mut stages, project, (host, seen), (&old, Latest::Stays));
            if !seen.pieces.is_empty() {
                let action = Action::RemoveDirectories { directories: seen.pieces.clone() };
                stages.step(host, action, Undo::Impossible);
            }
        }
        forget_releases(&mut stages, (host, seen), &old);
    }
    plan(project, id, PlanKind::Prune, stages)
}

/// Returns the containers of the destination that do not run and are older than the newest ones of their role.
fn old_containers<'a>(
    project: &Project,
    seen: &'a ObservedHost,
    retain: NonZeroU32,
) -> Vec<&'a ObservedContainer> {
    let retain = usize::try_from(retain.get()).unwrap_or(usize::MAX);
    let mut of_role: BTreeMap<&RoleName, Vec<&ObservedContainer>> = BTreeMap::new();
    for container in seen.containers.iter().filter(|container| is_own(project, container)) {
        if let (Some(role), false) = (&container.role, container.state.is_running()) {
            of_role.entry(role).or_default().push(container);
        }
    }
    let mut old = Vec::new();
    for mut containers in of_role.into_values() {
        containers.sort_by_key(|container| std::cmp::Reverse(container.created_seconds));
        old.extend(containers.into_iter().skip(retain));
    }
    old
}

/// Plans removing a part of the application. What belongs to all roles of a host goes only where `project`, which may be
/// a part of `whole`, has all of them.
#[must_use]
pub fn remove_part(
    whole: &Project,
    project: &Project,
    id: ReleaseId,
    observed: &Observed,
    part: &AppPart,
) -> Plan {
    let mut stages = Stages::default();
    stages.begin(StageKind::Retire, OnFailure::GoOn);
    for (host, seen) in hosts(project, observed) {
        let is_whole = roles_on(whole, host) == roles_on(project, host);
        let gone = going(project, seen, part);
        if *part == AppPart::Everything {
            schedule::remove(&mut stages, project, (host, seen), |role| project.roles.contains_key(role));
            stop_everything(&mut stages, project, (host, seen));
        }
        for container in &gone {
            let action = Action::RemoveContainer { container: container.name.clone() };
            stages.step(host, action, Undo::Impossible);
        }
        if is_whole && matches!(part, AppPart::Everything | AppPart::Images) {
            remove_unused_images(&mut stages, project, (host, seen), (&gone, Latest::Goes));
        }
        if is_whole && matches!(part, AppPart::Everything | AppPart::Directories) {
            let stem = project.stem();
            // The fencing number and the journal stay: they guard this very removal.
            let directories = vec![
                format!(".kamal/apps/{stem}"),
                format!("{}/releases", state_directory(&stem)),
                canary_file(&stem),
            ];
            stages.step(host, Action::RemoveDirectories { directories }, Undo::Impossible);
        } else {
            forget_releases(&mut stages, (host, seen), &gone);
        }
    }
    plan(project, id, PlanKind::Remove, stages)
}

/// Returns the containers that go with a part.
fn going<'a>(project: &'a Project, seen: &'a ObservedHost, part: &AppPart) -> Vec<&'a ObservedContainer> {
    let own = project.roles.keys().flat_map(|role| seen.containers_of(project, role).map(move |c| (role, c)));
    let is_going = |role: &RoleName, container: &ObservedContainer| match part {
        AppPart::Everything => true,
        AppPart::Containers => !container.state.is_running(),
        AppPart::Version(version) => {
            let name = format!("{}-{version}", project.role_prefix(role));
            container.name.as_str() == name && !container.state.is_running()
        }
        AppPart::Images | AppPart::Directories => false,
    };
    own.filter(|(role, container)| is_going(role, container)).map(|(_, container)| container).collect()
}

fn stop_everything(stages: &mut Stages, project: &Project, (host, seen): (&HostName, &ObservedHost)) {
    for role in project.roles.values() {
        if seen.route(&role.proxy_service).is_some() {
            let action =
                Action::RemoveTarget { service: role.proxy_service.clone(), proxy: seen.proxy.maker() };
            stages.step(host, action, Undo::Impossible);
        }
        let running = seen.containers_of(project, &role.name);
        for container in running.filter(|container| container.state.is_running()) {
            let action = Action::StopContainer {
                subject: Subject::from(&role.name),
                container: container.name.clone(),
                drain: None,
                timeout: stop_timeout(project, role),
            };
            stages.step(host, action, Undo::Impossible);
        }
    }
}

/// What becomes of the destination's own tag of the latest image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Latest {
    /// The next command needs it.
    Stays,
    /// Nothing is left that it could stand for.
    Goes,
}

/// Removes the tags that no remaining container is made from, and the images that have none. The latest ones of other
/// destinations stay: they are not ours to count.
fn remove_unused_images(
    stages: &mut Stages,
    project: &Project,
    (host, seen): (&HostName, &ObservedHost),
    (gone, latest): (&[&ObservedContainer], Latest),
) {
    let own_latest = latest_image(project).map(|image| image.tag);
    let is_kept = |container: &&ObservedContainer| !gone.iter().any(|other| other.id == container.id);
    for image in &seen.images {
        let reference = image.reference.to_string();
        let is_used = seen
            .containers
            .iter()
            .filter(is_kept)
            .any(|container| container.image_id == image.id || container.image == reference);
        let is_own_latest = Some(&image.reference.tag) == own_latest.as_ref()
            && is_built(project, &image.reference.repository);
        let goes = match latest {
            Latest::Goes if is_own_latest => true,
            _ => is_ours(project, image, gone),
        };
        let is_needed = seen.agent.needs_image(&reference, |id| is_left(seen, gone, id));
        if !is_used && !is_needed && goes {
            let action = Action::RemoveImage { image: image.reference.clone() };
            stages.step(host, action, Undo::Impossible);
        }
    }
    let left: Vec<&ObservedContainer> = seen.containers.iter().filter(is_kept).collect();
    if has_unused(&seen.unnamed_images, &left) {
        let action = Action::RemoveUnnamedImages { service: project.service.clone() };
        stages.step(host, action, Undo::Impossible);
    }
}

/// Forgets the releases that have no container left, if any container goes.
fn forget_releases(
    stages: &mut Stages,
    (host, seen): (&HostName, &ObservedHost),
    gone: &[&ObservedContainer],
) {
    let releases: Vec<ReleaseId> = seen
        .releases
        .iter()
        .map(|release| release.id.clone())
        .filter(|id| !is_left(seen, gone, id))
        .collect();
    if !releases.is_empty() && !gone.is_empty() {
        schedule::forget(stages, (host, seen), |id| releases.contains(id));
        stages.step(host, Action::ForgetReleases { releases }, Undo::Impossible);
    }
}

/// Says whether a release has a container left.
fn is_left(seen: &ObservedHost, gone: &[&ObservedContainer], id: &ReleaseId) -> bool {
    let remaining = seen.containers.iter().filter(|container| !gone.iter().any(|g| g.id == container.id));
    remaining.into_iter().any(|container| container.release.as_ref() == Some(id))
}

fn is_own(project: &Project, container: &ObservedContainer) -> bool {
    let destination = project.destination.as_ref().map_or("", |destination| destination.as_str());
    container.destination == destination
}

fn roles_on<'a>(project: &'a Project, host: &HostName) -> BTreeSet<&'a RoleName> {
    let has = |role: &&freehold_model::Role| role.hosts.iter().any(|entry| entry.name == *host);
    project.roles.values().filter(has).map(|role| &role.name).collect()
}

fn hosts<'a>(
    project: &Project,
    observed: &'a Observed,
) -> impl Iterator<Item = (&'a HostName, &'a ObservedHost)> {
    let names = project.hosts();
    names.into_iter().filter_map(|name| observed.hosts.get_key_value(&name))
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
