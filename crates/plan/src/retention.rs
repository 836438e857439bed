use freehold_model::{ContainerName, ImageReference, Project, ReleaseId};

use crate::observed::{ObservedContainer, ObservedHost};

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

/// Decides what goes. Every role keeps its newest `retain_containers` earlier containers; the one that serves at the
/// time of the plan is among them, so that there is always a release to go back to. Other destinations are left alone.
pub(crate) fn retention(project: &Project, seen: &ObservedHost, new_image: &ImageReference) -> Retention {
    let retain = usize::try_from(project.retain_containers.get()).unwrap_or(usize::MAX);
    let mut removed: Vec<&ObservedContainer> = Vec::new();
    for role in project.roles.keys() {
        let current = seen.current(project, role).map(|container| &container.id);
        // The current container leads: it stops in this rollout and is the first to go back to.
        let mut candidates: Vec<&ObservedContainer> = seen
            .containers_of(project, role)
            .filter(|container| !container.state.is_running() || Some(&container.id) == current)
            .collect();
        candidates.sort_by_key(|container| (Some(&container.id) != current, -container.created_seconds));
        removed.extend(candidates.into_iter().skip(retain));
    }
    let kept = |container: &&ObservedContainer| !removed.iter().any(|gone| gone.id == container.id);
    let images = seen
        .images
        .iter()
        .filter(|image| image.reference.repository == project.image && image.reference != *new_image)
        .filter(|image| !image.reference.tag.as_str().starts_with("latest"))
        .filter(|image| {
            !seen.containers.iter().filter(kept).any(|container| {
                container.image_id == image.id || container.image == image.reference.to_string()
            })
        })
        .map(|image| image.reference.clone())
        .collect();
    let releases = seen
        .releases
        .iter()
        .filter(|release| {
            !seen
                .containers
                .iter()
                .filter(kept)
                .any(|container| container.release.as_ref() == Some(&release.id))
        })
        .map(|release| release.id.clone())
        .collect();
    Retention {
        containers: removed.into_iter().map(|container| container.name.clone()).collect(),
        images,
        releases,
    }
}
