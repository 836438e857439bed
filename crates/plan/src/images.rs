use freehold_model::{
    ImageReference, Project, RegistryPlace, ReleaseVersion, RemoteImage, Repository, Role, RoleImage,
};

use crate::request::BuildPlaceName;

/// An image that a release needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NeededImage {
    /// Its tag on every host.
    pub(crate) reference: ImageReference,
    /// Where it comes from.
    pub(crate) source: NeededSource,
}

/// Where an image of a release comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NeededSource {
    /// It is built by this engine.
    Built(BuildPlaceName),
    /// It is made elsewhere.
    Pinned(RemoteImage),
}

/// Returns the tag of the image that a role's containers are made of. One that is pinned by digest is tagged with the
/// version too, so that it goes with the release.
pub(crate) fn image_of(project: &Project, role: &Role, version: &ReleaseVersion) -> ImageReference {
    needed(project, role, version).reference
}

fn needed(project: &Project, role: &Role, version: &ReleaseVersion) -> NeededImage {
    let tagged =
        |repository: &Repository| ImageReference { repository: repository.clone(), tag: version.clone() };
    let built = |on| NeededSource::Built(BuildPlaceName::from(on));
    match &role.image {
        Some(RoleImage::Pinned(image)) => {
            NeededImage { reference: tagged(&image.repository), source: NeededSource::Pinned(image.clone()) }
        }
        Some(RoleImage::Built(key)) if let Some(image) = project.images.get(key) => {
            NeededImage { reference: tagged(&image.repository), source: built(&image.builder.on) }
        }
        Some(RoleImage::Built(_)) | None => {
            let source = match &project.digest {
                Some(digest) => NeededSource::Pinned(RemoteImage {
                    repository: project.image.clone(),
                    tag: None,
                    digest: Some(digest.clone()),
                }),
                None => built(&project.builder.on),
            };
            NeededImage { reference: tagged(&project.image), source }
        }
    }
}

/// Returns the images that some roles need, each once, in the order of the roles.
pub(crate) fn images<'a>(
    project: &Project,
    roles: impl Iterator<Item = &'a Role>,
    version: &ReleaseVersion,
) -> Vec<NeededImage> {
    let mut images = Vec::new();
    for role in roles {
        let image = needed(project, role, version);
        if !images.contains(&image) {
            images.push(image);
        }
    }
    images
}

/// Returns the names of every image of the project's roles, without tags.
#[must_use]
pub fn repositories(project: &Project) -> Vec<Repository> {
    let mut names = vec![project.image.clone()];
    let others = project.roles.values().filter_map(|role| match &role.image {
        Some(RoleImage::Pinned(image)) => Some(&image.repository),
        Some(RoleImage::Built(key)) => project.images.get(key).map(|image| &image.repository),
        None => None,
    });
    for name in others {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Says what stands between the build and the hosts, for people; none where images are sent straight to the hosts. So
/// are those of Kamal's local registry: nothing is gained by a registry on the laptop.
pub(crate) fn registry_name(project: &Project) -> Option<String> {
    match &project.registry.as_ref()?.place {
        RegistryPlace::DockerHub => Some("Docker Hub".to_owned()),
        RegistryPlace::Server(server) => Some(server.to_string()),
        RegistryPlace::Local { .. } => None,
    }
}
