use std::collections::BTreeSet;

use freehold_model::{BuildPlace, HostName};

use crate::images::{NeededImage, NeededSource, images, registry_name};
use crate::naming::{NETWORK, latest_of, state_directory};
use crate::observed::{ObservedContainer, ObservedHost};
use crate::plan::{Action, OnFailure, StageKind, Undo};
use crate::request::{BuildPlaceName, ImageOrigin, ImagePlace, ImageScan};
use crate::retention::{has_unused, never_served};
use crate::rollout::{ImageSource, ProxyBoot, RolloutError, RolloutRequest, files, roles_on, schedule, seen};
use crate::stages::Stages;
use crate::{Observed, latest_image};

/// How much of a release comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// What it takes to try it: what the service has of certificates, users and jobs stays.
    Tried,
}

/// Builds the images, pushes them where there is a registry, and brings them to every host.
pub(crate) fn build_and_deliver(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
    extent: Extent,
) -> Result<(), RolloutError> {
    let hosts = request.project.hosts();
    if request.image == ImageSource::Build {
        build(stages, request, &hosts);
    }
    check(stages, request, &hosts);
    stages.begin(StageKind::Prepare, OnFailure::PutBack);
    let project = request.project;
    let stem = project.stem();
    for host in &hosts {
        let directories = vec![
            ".kamal".to_owned(),
            format!(".kamal/apps/{stem}/env/roles"),
            ".kamal/proxy/apps-config".to_owned(),
            state_directory(&stem),
        ];
        stages.step(host, Action::PrepareHost { directories, network: NETWORK.to_owned() }, Undo::Nothing);
        if request.image != ImageSource::OnHosts {
            let roles = roles_on(project, host).map(|(role, _)| role);
            for image in images(project, roles, &request.version) {
                stages.step(host, bring(request, image, &hosts), Undo::Nothing);
            }
            forget_failed(stages, request, (host, seen(observed, host)?));
        }
        if request.proxy == ProxyBoot::Ensure && roles_on(project, host).any(|(role, _)| role.proxy.is_some())
        {
            let action = Action::EnsureProxy {
                run: seen(observed, host)?.proxy_run(project, host),
                network: NETWORK.to_owned(),
            };
            stages.step(host, action, Undo::Nothing);
        }
        files::write(stages, request, observed, host)?;
        if extent == Extent::Whole {
            files::write_for_proxy(stages, request.project, host);
            schedule::store(stages, request, host)?;
        }
    }
    Ok(())
}

/// Removes what deploys that failed have left: only a release that succeeds tidies up behind itself, and a row of others
/// would fill the disk. It goes once the new image is there, which may have layers of it.
fn forget_failed(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    (host, seen): (&HostName, &ObservedHost),
) {
    for image in never_served(request.project, seen, &request.version) {
        stages.step(host, Action::RemoveImage { image }, Undo::Nothing);
    }
    let containers: Vec<&ObservedContainer> = seen.containers.iter().collect();
    if has_unused(&seen.unnamed_images, &containers) {
        let action = Action::RemoveUnnamedImages { service: request.project.service.clone() };
        stages.step(host, action, Undo::Nothing);
    }
}

/// Brings what a release needs to serve that was only tried so far.
pub(crate) fn prepare_promotion(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
) -> Result<(), RolloutError> {
    stages.begin(StageKind::Prepare, OnFailure::PutBack);
    for host in request.project.hosts() {
        files::write_for_proxy(stages, request.project, &host);
        schedule::store(stages, request, &host)?;
    }
    Ok(())
}

fn build(stages: &mut Stages, request: &RolloutRequest<'_>, hosts: &[HostName]) {
    let project = request.project;
    let roles = project.roles.values().filter(|role| !role.hosts.is_empty());
    let built: Vec<(NeededImage, BuildPlaceName)> = images(project, roles, &request.version)
        .into_iter()
        .filter_map(|image| match &image.source {
            NeededSource::Built(place) => Some((image.clone(), place.clone())),
            NeededSource::Pinned(_) => None,
        })
        .collect();
    let registry = registry_name(project);
    stages.begin(StageKind::Build, OnFailure::PutBack);
    if let (Some(registry), Some(first)) = (&registry, hosts.first()) {
        let place = built
            .first()
            .map_or_else(|| BuildPlaceName::from(&BuildPlace::Local), |(_, place)| place.clone());
        let action = Action::CheckRegistry { registry: registry.clone(), place };
        stages.step(first, action, Undo::Nothing);
        // Nothing is built before the registry has let us in.
        stages.begin(StageKind::Build, OnFailure::PutBack);
    }
    for (index, (image, place)) in built.into_iter().enumerate() {
        let host = match &place {
            BuildPlaceName::Host(host) if hosts.contains(host) => Some(host.clone()),
            // The engine of this machine, or of one that only builds.
            BuildPlaceName::Host(_) | BuildPlaceName::Local => hosts.first().cloned(),
        };
        let Some(host) = host else { continue };
        let tag = image.reference;
        let lane = format!("image {index}");
        let action = Action::BuildImage { image: tag.clone(), place: place.clone() };
        stages.step_beside(&host, &lane, action, Undo::Nothing);
        if registry.is_some()
            && let Some(latest) = latest_image(project)
        {
            let latest = latest_of(&tag, &latest);
            let action = Action::PushImage { image: tag, latest, from: place };
            // What the registry has is a version that nobody runs: harmless.
            stages.step_beside(&host, &lane, action, Undo::Nothing);
        }
    }
}

/// Checks every image before any host gets it. What hosts have already was checked when it came.
fn check(stages: &mut Stages, request: &RolloutRequest<'_>, hosts: &[HostName]) {
    let project = request.project;
    let Some(first) = hosts.first().filter(|_| request.image != ImageSource::OnHosts) else { return };
    stages.begin(StageKind::Check, OnFailure::PutBack);
    let roles = project.roles.values().filter(|role| !role.hosts.is_empty());
    for (index, needed) in images(project, roles, &request.version).into_iter().enumerate() {
        let lane = format!("image {index}");
        let (image, at) = match bring(request, needed, hosts) {
            Action::PullImage { image, origin, .. } => (image, ImagePlace::Registry(origin)),
            Action::DeliverImage { image, from, .. } => (image, ImagePlace::Engine(from)),
            _ => continue,
        };
        if project.verification.is_some() {
            let action = Action::VerifyImage { image: image.clone(), at: at.clone() };
            stages.step_beside(first, &lane, action, Undo::Nothing);
        }
        if let Some(scan) = &project.scan {
            let fail_on = scan.fail_on.map(|severity| severity.as_str().to_owned());
            let scan = ImageScan { command: scan.command.clone(), fail_on, timeout: scan.timeout };
            stages.step_beside(first, &lane, Action::ScanImage { image, at, scan }, Undo::Nothing);
        }
    }
}

/// Says how a host gets an image.
fn bring(request: &RolloutRequest<'_>, image: NeededImage, hosts: &[HostName]) -> Action {
    let project = request.project;
    let service = Some(project.service.clone());
    match image.source {
        NeededSource::Pinned(pinned) => {
            Action::PullImage { image: image.reference, origin: ImageOrigin::Pinned(pinned), service: None }
        }
        NeededSource::Built(place) if registry_name(project).is_some() => {
            let origin = match request.image {
                ImageSource::Build => ImageOrigin::Pushed(place),
                ImageSource::Built | ImageSource::OnHosts => ImageOrigin::Tag,
            };
            Action::PullImage { image: image.reference, origin, service }
        }
        NeededSource::Built(ref from) => {
            let needs = |host: &&HostName| {
                images(project, roles_on(project, host).map(|(role, _)| role), &request.version)
                    .contains(&image)
            };
            let together: BTreeSet<HostName> = hosts.iter().filter(needs).cloned().collect();
            Action::DeliverImage { image: image.reference, from: from.clone(), together }
        }
    }
}
