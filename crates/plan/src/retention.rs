use freehold_model::{ContainerName, ImageReference, Project, ReleaseId, ReleaseVersion, Repository};

use crate::images::repositories;
use crate::observed::{ObservedContainer, ObservedHost, ObservedImage};

/// What a host may forget after a rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Containers that do not run and are too old to go back to.
    pub(crate) containers: Vec<ContainerName>,
    /// Tags that no remaining container was made from.
    pub(crate) images: Vec<ImageReference>,
    /// Stored releases whose containers are gone.
    pub(crate) releases: Vec<ReleaseId>,
}

/// Decides what goes. Every role keeps the containers of its newest `retain_containers` earlier releases; the one that
/// serves at the time of the plan is among them, so that there is always a release to go back to. Other destinations
/// are left alone.
pub(crate) fn retention(project: &Project, seen: &ObservedHost, version: &ReleaseVersion) -> Retention {
    let retain = usize::try_from(project.retain_containers.get()).unwrap_or(usize::MAX);
    let mut removed: Vec<&ObservedContainer> = Vec::new();
    for role in project.roles.keys() {
        let serving: Vec<&str> =
            seen.serving(project, role).iter().map(|container| container.id.as_str()).collect();
        let serves = |container: &ObservedContainer| serving.contains(&container.id.as_str());
        // The current containers lead: they stop in this rollout and are the first to go back to.
        let mut candidates: Vec<&ObservedContainer> = seen
            .containers_of(project, role)
            .filter(|container| !container.state.is_running() || serves(container))
            .collect();
        candidates.sort_by_key(|container| (!serves(container), -container.created_seconds));
        let mut releases: Vec<&str> = Vec::new();
        for container in candidates {
            // Replicas go and stay together.
            let release = container.release.as_ref().map_or(container.id.as_str(), ReleaseId::as_str);
            if !releases.contains(&release) {
                releases.push(release);
            }
            if releases.iter().position(|known| *known == release).is_some_and(|place| place >= retain) {
                removed.push(container);
            }
        }
    }
    let kept = |container: &&ObservedContainer| !removed.iter().any(|gone| gone.id == container.id);
    let is_left = |id: &ReleaseId| {
        seen.containers.iter().filter(kept).any(|container| container.release.as_ref() == Some(id))
    };
    let images = seen
        .images
        .iter()
        .filter(|image| is_ours(project, image, &removed) && image.reference.tag != *version)
        .filter(|image| {
            !seen.containers.iter().filter(kept).any(|container| {
                container.image_id == image.id || container.image == image.reference.to_string()
            })
        })
        .filter(|image| !seen.agent.needs_image(&image.reference.to_string(), is_left))
        .map(|image| image.reference.clone())
        .collect();
    let releases = seen.releases.iter().map(|release| release.id.clone()).filter(|id| !is_left(id)).collect();
    Retention {
        containers: removed.into_iter().map(|container| container.name.clone()).collect(),
        images,
        releases,
    }
}

/// Returns the tags of builds that never served: no container is made from them, no release, no schedule and no deploy that
/// is under way needs them.
pub(crate) fn never_served(
    project: &Project,
    seen: &ObservedHost,
    version: &ReleaseVersion,
) -> Vec<ImageReference> {
    let is_used = |image: &ObservedImage| {
        let name = image.reference.to_string();
        seen.containers.iter().any(|container| container.image_id == image.id || container.image == name)
            || seen.releases.iter().any(|release| release.image == image.reference)
            || seen.agent.needs_image(&name, |_| true)
    };
    seen.images
        .iter()
        .filter(|image| is_ours(project, image, &[]) && image.reference.tag != *version && !is_used(image))
        .map(|image| image.reference.clone())
        .collect()
}

/// Says whether there is an image without a name that no container is made from.
pub(crate) fn has_unused(unnamed: &[String], left: &[&ObservedContainer]) -> bool {
    unnamed.iter().any(|id| !left.iter().any(|container| container.image_id == *id))
}

/// Says whether a tag may be ours to remove. Of an image that others made only the tags of removed containers are: the
/// host may have further ones for its own ends.
pub(crate) fn is_ours(project: &Project, image: &ObservedImage, removed: &[&ObservedContainer]) -> bool {
    let name = &image.reference.repository;
    if is_built(project, name) {
        return !image.reference.tag.as_str().starts_with("latest");
    }
    let reference = image.reference.to_string();
    repositories(project).contains(name) && removed.iter().any(|container| container.image == reference)
}

/// Says whether the project builds the images of a name.
pub(crate) fn is_built(project: &Project, name: &Repository) -> bool {
    (*name == project.image && project.digest.is_none())
        || project.images.values().any(|built| built.repository == *name)
}
