use std::collections::{BTreeMap, BTreeSet};

use freehold_model::{
    ContainerName, Environment, HostName, ImageReference, Project, Release, ReleaseId, ReleaseRole, Role,
    RoleHost,
};

use crate::Observed;
use crate::naming::{
    assets_directory, container_version, error_pages_directory, latest_image, tls_directory, users_directory,
};
use crate::observed::{ObservedContainer, ObservedHost};
use crate::plan::{Action, Undo};
use crate::retention::{has_unused, never_served, retention};
use crate::rollout::boot::release_command_name;
use crate::rollout::namesake::GivingWay;
use crate::rollout::{
    ImageSource, RolloutError, RolloutRequest, container_names, first_name, kept_folders, release_image,
    replaced_name, roles_on, seen,
};
use crate::schedule;
use crate::stages::Stages;

/// Stops the old containers, writes down the release, and removes what is too old. Its stage has begun.
pub(crate) fn retire(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
    image: &ImageReference,
) -> Result<(), RolloutError> {
    let giving_way = GivingWay::of(request, observed);
    for host in &request.project.hosts() {
        let seen = seen(observed, host)?;
        giving_way.stop(stages, request, (host, seen));
        let mut names = Vec::new();
        for (role, entry) in roles_on(request.project, host) {
            names.extend(container_names(request, role)?);
            retire_role(stages, request, (role, entry), seen)?;
        }
        record(stages, request, image, host)?;
        forget_release_commands(stages, request, host)?;
        for (role, _) in roles_on(request.project, host) {
            clean_up(stages, request.project, (host, role));
        }
        forget(stages, request, seen, (host, &names))?;
    }
    Ok(())
}

fn record(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    image: &ImageReference,
    host: &HostName,
) -> Result<(), RolloutError> {
    let Some(latest) = latest_image(request.project) else { return Ok(()) };
    let release = Release { image: image.clone(), ..release_of(request, host)? };
    stages.step(host, Action::RecordRelease { release: Box::new(release), latest }, Undo::Nothing);
    Ok(())
}

/// Describes the release as it is on a host.
pub(crate) fn release_of(request: &RolloutRequest<'_>, host: &HostName) -> Result<Release, RolloutError> {
    let project = request.project;
    let mut roles = BTreeMap::new();
    for (role, entry) in roles_on(project, host) {
        roles.insert(role.name.clone(), release_role(request, role, entry, first_name(request, role)?));
    }
    Ok(Release {
        id: request.id.clone(),
        version: request.version.clone(),
        service: project.service.clone(),
        destination: project.destination.clone(),
        image: release_image(request),
        created_at: request.created_at.clone(),
        author: request.author.clone(),
        git_revision: request.git_revision.clone(),
        has_error_pages: !request.error_pages.is_empty(),
        roles,
    })
}

/// Removes the containers of the release commands that ran on a host.
pub(crate) fn forget_release_commands(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    host: &HostName,
) -> Result<(), RolloutError> {
    for (role, _) in roles_on(request.project, host) {
        let is_first = role.hosts.first().is_some_and(|entry| entry.name == *host);
        if role.release_command.is_some() && is_first {
            let container = release_command_name(request, role)?;
            stages.step(host, Action::RemoveContainer { container }, Undo::Impossible);
        }
    }
    Ok(())
}

/// Removes what only the way back needed.
fn clean_up(stages: &mut Stages, project: &Project, (host, role): (&HostName, &Role)) {
    let Some(proxy) = &role.proxy else { return };
    let folders = [tls_directory(project, &role.name), users_directory(project, &role.name)];
    for folder in kept_folders(proxy, folders) {
        let directories = vec![format!("{folder}/before")];
        stages.step(host, Action::RemoveDirectories { directories }, Undo::Impossible);
    }
}

/// Removes containers, images, files and stored releases that are too old to go back to.
fn forget(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    seen: &ObservedHost,
    (host, names): (&HostName, &[ContainerName]),
) -> Result<(), RolloutError> {
    let project = request.project;
    let kept = retention(project, seen, &request.version);
    let folders = old_folders(project, seen, &kept.containers, request.version.as_str());
    let is_left = |container: &&ObservedContainer| !kept.containers.contains(&container.name);
    let left: Vec<&ObservedContainer> = seen.containers.iter().filter(is_left).collect();
    let is_unnamed = has_unused(&seen.unnamed_images, &left);
    for container in kept.containers {
        let is_renamed = names.contains(&container);
        let container = if is_renamed { replaced_name(request, host, &container)? } else { container };
        stages.step(host, Action::RemoveContainer { container }, Undo::Impossible);
    }
    // What never served went when the new image came.
    let gone = match request.image {
        ImageSource::OnHosts => Vec::new(),
        ImageSource::Build | ImageSource::Built => never_served(project, seen, &request.version),
    };
    for image in kept.images.into_iter().filter(|image| !gone.contains(image)) {
        stages.step(host, Action::RemoveImage { image }, Undo::Impossible);
    }
    if is_unnamed {
        let action = Action::RemoveUnnamedImages { service: project.service.clone() };
        stages.step(host, action, Undo::Impossible);
    }
    if !folders.is_empty() {
        stages.step(host, Action::RemoveDirectories { directories: folders }, Undo::Impossible);
    }
    let is_left = |id: &ReleaseId| {
        *id == request.id || seen.releases.iter().any(|known| known.id == *id && !kept.releases.contains(id))
    };
    schedule::forget(stages, (host, seen), |id| !is_left(id));
    if !kept.releases.is_empty() {
        stages.step(host, Action::ForgetReleases { releases: kept.releases }, Undo::Impossible);
    }
    Ok(())
}

/// Returns the folders of assets and error pages of versions that no container is left of. They are named one by one:
/// a pattern such as Kamal's `ROLE-*` would also hit those of a role `ROLE-x`.
pub(crate) fn old_folders(
    project: &Project,
    seen: &ObservedHost,
    removed: &[ContainerName],
    version: &str,
) -> Vec<String> {
    let has_assets = project.roles.values().any(|role| role.asset_path.is_some())
        || seen
            .releases
            .iter()
            .flat_map(|release| release.roles.values())
            .any(|role| role.role.asset_path.is_some());
    let assets = assets_directory(project);
    let mut gone = BTreeSet::new();
    let mut left = BTreeSet::from([version]);
    let mut folders = Vec::new();
    for role in project.roles.keys() {
        let of_role: Vec<(&ContainerName, &str)> = seen
            .containers_of(project, role)
            .filter_map(|container| {
                Some((&container.name, container_version(project, role, &container.name)?))
            })
            .collect();
        let (old, kept): (Vec<_>, Vec<_>) = of_role.iter().partition(|(name, _)| removed.contains(name));
        let kept: BTreeSet<&str> = kept.iter().map(|(_, version)| *version).collect();
        let old: BTreeSet<&str> = old.iter().map(|(_, version)| *version).collect();
        let of_role = old.iter().filter(|old| !kept.contains(*old) && **old != version);
        if has_assets {
            folders.extend(of_role.flat_map(|old| {
                ["extracted", "volumes"].map(|kind| format!("{assets}/{kind}/{role}-{old}"))
            }));
        }
        gone.extend(old);
        left.extend(kept);
    }
    if project.error_pages.is_some() || seen.releases.iter().any(|release| release.has_error_pages) {
        folders.extend(gone.difference(&left).map(|version| error_pages_directory(project, version)));
    }
    folders
}

fn retire_role(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    (role, entry): (&Role, &RoleHost),
    seen: &ObservedHost,
) -> Result<(), RolloutError> {
    let host = &entry.name;
    let project = request.project;
    let names = container_names(request, role)?;
    let serving: Vec<&str> =
        seen.serving(project, &role.name).iter().map(|container| container.id.as_str()).collect();
    for container in seen.containers_of(project, &role.name).filter(|container| container.state.is_running())
    {
        // A kamal-proxy has drained by the time that its switch is done.
        let drains = serving.contains(&container.id.as_str())
            && role.proxy.is_some()
            && seen.proxy.maker().is_freehold();
        let stopped = if names.contains(&container.name) {
            replaced_name(request, host, &container.name)?
        } else {
            container.name.clone()
        };
        let action = Action::StopContainer {
            subject: (&role.name).into(),
            container: stopped.clone(),
            drain: drains.then(|| (role.proxy_service.clone(), project.timeouts.drain)),
            timeout: stop_timeout(project, role),
        };
        stages.step(host, action, Undo::StartContainer { container: stopped });
    }
    let path = format!(".kamal/apps/{}/env/roles/{}.env", project.stem(), role.name);
    let action = Action::WriteEnvironmentFile {
        subject: (&role.name).into(),
        path,
        environment: Environment { clear: BTreeMap::new(), secret: entry.environment.secret.clone() },
    };
    stages.step(host, action, Undo::Nothing);
    Ok(())
}

/// Kamal's rule: a role behind the proxy stops in the engine's own time, another one within the drain timeout.
pub(crate) fn stop_timeout(project: &Project, role: &Role) -> Option<std::time::Duration> {
    role.stop_timeout.or_else(|| role.proxy.is_none().then_some(project.timeouts.drain))
}

fn release_role(
    request: &RolloutRequest<'_>,
    role: &Role,
    entry: &RoleHost,
    name: ContainerName,
) -> ReleaseRole {
    let secrets = entry
        .environment
        .secret
        .iter()
        .filter_map(|(variable, secret)| Some((variable.clone(), request.secrets.get(secret)?.clone())))
        .collect();
    let jobs = request.project.jobs_on(&entry.name, &role.name);
    ReleaseRole { role: Role { hosts: vec![entry.clone()], ..role.clone() }, container: name, secrets, jobs }
}
